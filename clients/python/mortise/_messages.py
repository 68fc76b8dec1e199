"""The agent's messages and rpcs, made from its descriptors when the package is imported.

No generated code, so that the package works with every version of protobuf from 3.21 on. Messages are Any here; what
leaves the package are the dataclasses of `types`.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory


def _load() -> Any:
    pool = descriptor_pool.DescriptorPool()
    found = descriptor_pb2.FileDescriptorSet()
    found.ParseFromString(files("mortise").joinpath("descriptors.binpb").read_bytes())
    for file in found.file:
        pool.Add(file)
    return pool


_POOL = _load()


def message_class(full_name: str) -> Any:
    """The class of a message, for example `google.rpc.Status`."""
    descriptor = _POOL.FindMessageTypeByName(full_name)
    # protobuf 4.22 replaced the factory's method by a function.
    if hasattr(message_factory, "GetMessageClass"):
        return message_factory.GetMessageClass(descriptor)
    return message_factory.MessageFactory(_POOL).GetPrototype(descriptor)


@dataclass(frozen=True)
class Rpc:
    """One rpc: how to name it on the wire, and its messages."""

    path: str
    request: Any
    response: Any


def _rpcs() -> dict[str, Rpc]:
    rpcs: dict[str, Rpc] = {}
    for service in ("Crypto", "Keys", "Audit", "Status", "Stream"):
        name = f"mortise.agent.v1.{service}Service"
        for method in _POOL.FindServiceByName(name).methods:
            rpcs[method.name] = Rpc(
                path=f"/{name}/{method.name}",
                request=message_class(method.input_type.full_name),
                response=message_class(method.output_type.full_name),
            )
    # grpc.health.v1, whose two messages are small enough to be read as they come.
    rpcs["CheckHealth"] = Rpc(path="/grpc.health.v1.Health/Check", request=HealthCheckRequest, response=HealthCheckResponse)
    return rpcs


class HealthCheckRequest:
    """`grpc.health.v1.HealthCheckRequest`: field 1, the service."""

    def __init__(self, service: str = "") -> None:
        self.service = service

    def SerializeToString(self) -> bytes:
        name = self.service.encode()
        if len(name) > 127:
            raise ValueError("service: at most 127 bytes")
        return bytes([0x0A, len(name)]) + name if name else b""


class HealthCheckResponse:
    """`grpc.health.v1.HealthCheckResponse`: field 1, the status."""

    def __init__(self, status: int = 0) -> None:
        self.status = status

    @classmethod
    def FromString(cls, data: bytes) -> HealthCheckResponse:
        return cls(data[1] if len(data) >= 2 and data[0] == 0x08 else 0)


RPCS = _rpcs()
