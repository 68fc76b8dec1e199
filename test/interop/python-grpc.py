"""Calls the agent as Debian's python3-grpcio does, with messages from the descriptor set; prints one JSON line.

usage: python-grpc.py TARGET DESCRIPTORS METHOD [REQUEST_JSON] [METADATA_JSON]
"""

import json
import sys

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory

target, descriptors, method = sys.argv[1:4]
request = json.loads(sys.argv[4]) if len(sys.argv) > 4 else {}
metadata = list(json.loads(sys.argv[5]).items()) if len(sys.argv) > 5 else []

pool = descriptor_pool.DescriptorPool()
files = descriptor_pb2.FileDescriptorSet()
with open(descriptors, "rb") as file:
    files.ParseFromString(file.read())
for file in files.file:
    pool.Add(file)
factory = message_factory.MessageFactory(pool)


def message(name):
    return factory.GetPrototype(pool.FindMessageTypeByName(name))


service, rpc = method.strip("/").split("/")
row = pool.FindServiceByName(service).methods_by_name[rpc]
Request, Response = message(row.input_type.full_name), message(row.output_type.full_name)

with grpc.insecure_channel(target) as channel:
    call = channel.unary_unary(
        method, request_serializer=Request.SerializeToString, response_deserializer=Response.FromString
    )
    try:
        answer = call(json_format.ParseDict(request, Request()), metadata=metadata, timeout=10)
        print(json.dumps({"answer": json_format.MessageToDict(answer, preserving_proto_field_name=True)}))
    except grpc.RpcError as error:
        found = {"status": error.code().name, "message": error.details()}
        for key, value in error.trailing_metadata() or ():
            if key == "grpc-status-details-bin":
                status = message("google.rpc.Status").FromString(value)
                infos = [row for row in status.details if row.type_url.endswith("google.rpc.ErrorInfo")]
                found["reason"] = message("google.rpc.ErrorInfo").FromString(infos[0].value).reason
        print(json.dumps(found))
