// A gRPC server whose Pipeline the test plays: what each stream brought, and what goes back, message by message.
// GenerateRandom is there as a call of its own as well.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  type Metadata,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServerUnaryCall,
  type ServiceError,
  type sendUnaryData,
} from '@grpc/grpc-js';
import { Status } from '../../proto/gen/google/rpc/status.ts';
import { CryptoServiceService, type GenerateRandomRequest } from '../../proto/gen/mortise/agent/v1/crypto.ts';
import {
  type PipelineAnswer,
  type PipelineCall,
  type PipelineRequest,
  type PipelineResponse,
  PipelineServiceService,
} from '../../proto/gen/mortise/agent/v1/pipeline.ts';
import { agentFailure } from './stub-agent.ts';

type Grpc = ServerDuplexStream<PipelineRequest, PipelineResponse>;

export class StubStream {
  readonly messages: PipelineRequest[] = [];
  readonly metadata: Metadata;
  readonly #grpc: Grpc;

  constructor(grpc: Grpc) {
    this.#grpc = grpc;
    this.metadata = grpc.metadata;
  }

  get calls(): PipelineCall[] {
    return this.messages.flatMap(({ calls }) => calls);
  }

  greet(window = 64): void {
    this.#grpc.write({ answers: [], window });
  }

  answer(...answers: PipelineAnswer[]): void {
    this.#grpc.write({ answers, window: 0 });
  }

  /** Answers GenerateRandom calls with their own length as bytes. */
  serve(...calls: PipelineCall[]): void {
    this.answer(...calls.map(randomAnswer));
  }

  end(error?: object): void {
    if (error === undefined) this.#grpc.end();
    else this.#grpc.emit('error', error);
  }
}

export const randomAnswer = ({ sequence, request }: PipelineCall): PipelineAnswer => {
  const length = request?.$case === 'generateRandom' ? request.value.length : request?.$case;
  return { sequence, answer: { $case: 'generateRandom', value: { random: Buffer.from(String(length)) } } };
};

export class PipelineStub {
  readonly socketPath: string;
  readonly streams: StubStream[] = [];
  /** Lengths that GenerateRandom was called with, as a call of its own. */
  readonly alone: number[] = [];
  /** What happens with a new stream; by default it is greeted. */
  onStream: (stream: StubStream) => void = (stream) => stream.greet();
  readonly #folder = mkdtempSync(join(tmpdir(), 'mortise-pipeline-'));
  readonly #watchers = new Set<() => void>();
  #server: Server | undefined;

  constructor() {
    this.socketPath = join(this.#folder, 'agent.sock');
  }

  async start(): Promise<this> {
    const server = new Server();
    const { generateRandom } = CryptoServiceService;
    server.addService(
      { generateRandom },
      {
        generateRandom: (
          { request: { length } }: ServerUnaryCall<GenerateRandomRequest, unknown>,
          callback: sendUnaryData<unknown>,
        ) => {
          this.alone.push(length);
          callback(null, { random: Buffer.from(`alone ${length}`) });
        },
      },
    );
    const { pipeline } = PipelineServiceService;
    server.addService({ pipeline }, { pipeline: (grpc: Grpc) => this.#take(grpc) });
    await new Promise<void>((resolve, reject) =>
      server.bindAsync(`unix:${this.socketPath}`, ServerCredentials.createInsecure(), (error) =>
        error === null ? resolve() : reject(error),
      ),
    );
    this.#server = server;
    return this;
  }

  /** Breaks every connection, as a killed agent would, and frees the path. */
  kill(): void {
    this.#server?.forceShutdown();
    this.#server = undefined;
    rmSync(this.socketPath, { force: true });
  }

  async until(fits: () => boolean): Promise<void> {
    while (!fits()) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#watchers.add(resolve);
      await promise;
      this.#watchers.delete(resolve);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.kill();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  #take(grpc: Grpc): void {
    const stream = new StubStream(grpc);
    const changed = (): void => {
      for (const look of [...this.#watchers]) look();
    };
    this.streams.push(stream);
    grpc.on('data', (message: PipelineRequest) => {
      stream.messages.push(message);
      changed();
    });
    grpc.on('end', () => grpc.end());
    grpc.on('error', () => undefined);
    this.onStream(stream);
    changed();
  }
}

/** An error answer as the agent gives it. */
export const errorAnswer = (sequence: number, ...failure: Parameters<typeof agentFailure>): PipelineAnswer => {
  const { metadata } = agentFailure(...failure) as ServiceError;
  const value = Status.decode(metadata.get('grpc-status-details-bin')[0] as Buffer);
  return { sequence, answer: { $case: 'error', value } };
};
