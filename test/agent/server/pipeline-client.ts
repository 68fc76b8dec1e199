// A raw client of the Pipeline for tests: what it sends and what comes back, message by message.
import type { TestContext } from 'node:test';
import { type ClientDuplexStream, credentials, Metadata, type ServiceError } from '@grpc/grpc-js';
import { ErrorInfo } from '../../../proto/gen/google/rpc/status.ts';
import {
  type PipelineAnswer,
  type PipelineCall,
  type PipelineRequest,
  type PipelineResponse,
  PipelineServiceClient,
} from '../../../proto/gen/mortise/agent/v1/pipeline.ts';

export type Operation = NonNullable<PipelineCall['request']>;

export const random = (length: number): Operation => ({ $case: 'generateRandom', value: { length } });
export const encrypt = (key: string, bytes = 1): Operation => ({
  $case: 'encrypt',
  value: { key, plaintext: Buffer.alloc(bytes), associatedData: Buffer.alloc(0) },
});
/** Answers with 1,024 times as many bytes. */
export const decrypt = (length: number): Operation => ({
  $case: 'decrypt',
  value: { jwe: 'x'.repeat(length), key: '', associatedData: Buffer.alloc(0) },
});

export const call = (sequence: number, request: Operation | undefined, more: Partial<PipelineCall> = {}) => ({
  sequence,
  timeoutMs: 0,
  correlationId: `c-${sequence}`,
  request,
  ...more,
});

/** The reason in the details of an error answer, or the kind of the response. */
export const outcomeOf = ({ answer }: PipelineAnswer): string => {
  if (answer?.$case !== 'error') return answer?.$case ?? 'none';
  return ErrorInfo.decode((answer.value.details[0] as { value: Uint8Array }).value).reason;
};

export class RawPipeline {
  readonly stream: ClientDuplexStream<PipelineRequest, PipelineResponse>;
  readonly messages: PipelineResponse[] = [];
  /** Resolves with the error that the stream ended with, if any. */
  readonly ended: Promise<ServiceError | undefined>;
  readonly #watchers = new Set<() => void>();

  constructor(client: PipelineServiceClient, headers: Record<string, string> = {}) {
    const metadata = new Metadata();
    for (const [key, value] of Object.entries(headers)) metadata.set(key, value);
    this.stream = client.pipeline(metadata);
    this.stream.on('data', (message: PipelineResponse) => {
      this.messages.push(message);
      for (const look of [...this.#watchers]) look();
    });
    this.ended = new Promise((resolve) => {
      this.stream.on('error', (error: ServiceError) => resolve(error));
      this.stream.on('end', () => resolve(undefined));
    });
  }

  get answers(): PipelineAnswer[] {
    return this.messages.flatMap((message) => message.answers);
  }

  send(calls: PipelineCall[], more: Partial<PipelineRequest> = {}): void {
    this.stream.write({ calls, token: '', cancel: [], ...more });
  }

  async until(fits: () => boolean): Promise<void> {
    while (!fits()) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#watchers.add(resolve);
      await promise;
      this.#watchers.delete(resolve);
    }
  }

  /** The answers by sequence once there are so many. */
  async outcomes(count: number): Promise<Record<number, string>> {
    await this.until(() => this.answers.length >= count);
    return Object.fromEntries(this.answers.map((answer) => [answer.sequence, outcomeOf(answer)]));
  }
}

export const pipelineClient = (t: TestContext, path: string): PipelineServiceClient => {
  const client = new PipelineServiceClient(`unix:${path}`, credentials.createInsecure(), {
    'grpc.use_local_subchannel_pool': 1,
  });
  t.after(() => client.close());
  return client;
};

export const openPipeline = (t: TestContext, path: string, headers?: Record<string, string>): RawPipeline =>
  new RawPipeline(pipelineClient(t, path), headers);
