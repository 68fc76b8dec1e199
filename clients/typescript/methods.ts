// Every rpc of the agent by name, with its path and codecs: the four services as generated, and the standard health
// check (grpc.health.v1), whose two messages are small enough to be coded here.
import { BinaryReader, BinaryWriter } from '@bufbuild/protobuf/wire';
import { AuditServiceService } from '../../proto/gen/mortise/agent/v1/audit.ts';
import { CryptoServiceService } from '../../proto/gen/mortise/agent/v1/crypto.ts';
import { KeysServiceService } from '../../proto/gen/mortise/agent/v1/keys.ts';
import { PipelineServiceService } from '../../proto/gen/mortise/agent/v1/pipeline.ts';
import { StatusServiceService } from '../../proto/gen/mortise/agent/v1/status.ts';

interface HealthCheckRequest {
  readonly service: string;
}
interface HealthCheckResponse {
  readonly status: number;
}

const CHECK_HEALTH = {
  path: '/grpc.health.v1.Health/Check',
  requestStream: false,
  responseStream: false,
  requestSerialize: ({ service }: HealthCheckRequest): Buffer => {
    const writer = new BinaryWriter();
    if (service !== '') writer.uint32(10).string(service);
    return Buffer.from(writer.finish());
  },
  responseDeserialize: (bytes: Buffer): HealthCheckResponse => {
    const reader = new BinaryReader(bytes);
    let status = 0;
    while (reader.pos < reader.len) {
      const tag = reader.uint32();
      if (tag === 8) status = reader.int32();
      else reader.skip(tag & 7);
    }
    return { status };
  },
} as const;

export const METHODS = {
  ...CryptoServiceService,
  ...KeysServiceService,
  ...StatusServiceService,
  ...AuditServiceService,
  batch: PipelineServiceService.batch,
  checkHealth: CHECK_HEALTH,
} as const;

type Methods = typeof METHODS;
export type MethodName = keyof Methods;
export type RequestOf<Name extends MethodName> = Parameters<Methods[Name]['requestSerialize']>[0];
export type ResponseOf<Name extends MethodName> = ReturnType<Methods[Name]['responseDeserialize']>;

/** The rpcs that answer with a stream. */
export type StreamName = {
  [Name in MethodName]: Methods[Name]['responseStream'] extends true ? Name : never;
}[MethodName];
export type UnaryName = Exclude<MethodName, StreamName>;
