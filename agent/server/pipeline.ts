// PipelineService on the grpc-js server: the second door to the unary operations of the other services.
import type { Metadata, Server } from '@grpc/grpc-js';
import { PipelineServiceService } from '../../proto/gen/mortise/agent/v1/pipeline.ts';
import type { CallContext } from './call-context.ts';
import { type PipelineGrpcStream, type PipelineParts, PipelineStream } from './pipeline-stream.ts';
import { decode } from './rpc.ts';

/** Adds the Pipeline stream. Batch is a unary RPC as any other. */
export const addPipeline = (server: Server, parts: PipelineParts, take: (metadata: Metadata) => CallContext): void => {
  const { pipeline } = PipelineServiceService;
  const definition = {
    ...pipeline,
    requestDeserialize: (bytes: Buffer) => decode(pipeline, bytes),
    responseSerialize: (bytes: Buffer) => bytes,
  };
  server.addService(
    { pipeline: definition },
    { pipeline: (stream: PipelineGrpcStream) => new PipelineStream(parts, stream, take(stream.metadata)).open() },
  );
};
