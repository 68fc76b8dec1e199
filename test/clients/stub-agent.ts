// A real gRPC server of the agent's services on a Unix socket, whose answers each test gives: what the client sends
// and how it takes failures can be seen without an agent. The tests of the whole agent are in agent.test.ts.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  Metadata,
  type MethodDefinition,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServerUnaryCall,
  type ServerWritableStream,
  type sendUnaryData,
  status,
} from '@grpc/grpc-js';
import { HealthImplementation, type ServingStatusMap } from 'grpc-health-check';
import { CODES, type Code } from '../../agent/errors.ts';
import { BadRequest, ErrorInfo, RetryInfo, Status } from '../../proto/gen/google/rpc/status.ts';
import { AuditServiceService } from '../../proto/gen/mortise/agent/v1/audit.ts';
import { CryptoServiceService } from '../../proto/gen/mortise/agent/v1/crypto.ts';
import { KeysServiceService } from '../../proto/gen/mortise/agent/v1/keys.ts';
import { PipelineServiceService } from '../../proto/gen/mortise/agent/v1/pipeline.ts';
import { StatusServiceService } from '../../proto/gen/mortise/agent/v1/status.ts';

// Without the Pipeline, so that the client's calls go alone.
const SERVICES = [
  CryptoServiceService,
  KeysServiceService,
  StatusServiceService,
  AuditServiceService,
  { batch: PipelineServiceService.batch },
];

/** What the server saw of one call. */
export interface Seen {
  readonly method: string;
  // biome-ignore lint/suspicious/noExplicitAny: any of the request types
  readonly request: any;
  readonly metadata: Metadata;
  readonly cancelled: Promise<void>;
  readonly deadline: number;
  /** Streaming calls: sends one message. */
  write(message: unknown): void;
}

/** Answers a call: a message, an error to throw, or for streams nothing once it has written. */
export type Answer = (seen: Seen) => unknown;

export class StubAgent {
  readonly socketPath: string;
  readonly calls: Seen[] = [];
  readonly answers: Record<string, Answer> = {};
  /** Where set, the standard health service with these parts. */
  health: ServingStatusMap | undefined;
  readonly #folder: string;
  #server: Server | undefined;

  constructor() {
    this.#folder = mkdtempSync(join(tmpdir(), 'mortise-client-'));
    this.socketPath = join(this.#folder, 'agent.sock');
  }

  async start(): Promise<this> {
    const server = new Server();
    for (const service of SERVICES) {
      server.addService(
        service,
        Object.fromEntries(
          Object.entries(service as Record<string, MethodDefinition<unknown, unknown>>).map(([name, definition]) => [
            name,
            definition.responseStream ? this.#stream(name) : this.#unary(name),
          ]),
        ),
      );
    }
    if (this.health !== undefined) new HealthImplementation(this.health).addToServer(server);
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

  async [Symbol.asyncDispose](): Promise<void> {
    this.kill();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  #seen(
    method: string,
    call: ServerUnaryCall<unknown, unknown> | ServerWritableStream<unknown, unknown>,
    write: (message: unknown) => void,
  ): Seen {
    const seen: Seen = {
      method,
      request: call.request,
      metadata: call.metadata,
      cancelled: new Promise((resolve) => call.on('cancelled', () => resolve())),
      deadline: Number(call.getDeadline()),
      write,
    };
    this.calls.push(seen);
    return seen;
  }

  #unary(method: string) {
    return async (call: ServerUnaryCall<unknown, unknown>, callback: sendUnaryData<unknown>): Promise<void> => {
      const seen = this.#seen(method, call, () => assertNever(method));
      try {
        callback(null, await this.#answer(method)(seen));
      } catch (thrown) {
        callback(thrown as Error);
      }
    };
  }

  #stream(method: string) {
    return async (call: ServerWritableStream<unknown, unknown>): Promise<void> => {
      const seen = this.#seen(method, call, (message) => call.write(message));
      try {
        await this.#answer(method)(seen);
        call.end();
      } catch (thrown) {
        (call as unknown as ServerDuplexStream<unknown, unknown>).emit('error', thrown);
      }
    };
  }

  #answer(method: string): Answer {
    return this.answers[method] ?? (() => ({ code: status.UNIMPLEMENTED, details: `no answer for ${method}` }));
  }
}

const assertNever = (method: string): never => {
  throw new Error(`${method} does not stream`);
};

const packed = (type: string, value: Uint8Array) => ({
  typeUrl: `type.googleapis.com/google.rpc.${type}`,
  value: Buffer.from(value),
});

/** An error as the agent sends it: google.rpc.Status with ErrorInfo, BadRequest and RetryInfo in the trailer. */
export const agentFailure = (
  code: Code | 'SOMETHING_NEW',
  more: {
    message?: string;
    metadata?: Record<string, string>;
    fields?: { field: string; description: string }[];
    retryAfterMs?: number;
  } = {},
): Error => {
  const row = code === 'SOMETHING_NEW' ? { grpc: 'ABORTED' as const, text: 'something new' } : CODES[code];
  const message = more.message ?? row.text;
  const details = [
    packed('ErrorInfo', ErrorInfo.encode({ reason: code, domain: 'mortise', metadata: more.metadata ?? {} }).finish()),
  ];
  if (more.fields) details.push(packed('BadRequest', BadRequest.encode({ fieldViolations: more.fields }).finish()));
  if (more.retryAfterMs !== undefined) {
    const retryDelay = {
      seconds: BigInt(Math.floor(more.retryAfterMs / 1000)),
      nanos: (more.retryAfterMs % 1000) * 1e6,
    };
    details.push(packed('RetryInfo', RetryInfo.encode({ retryDelay }).finish()));
  }
  const metadata = new Metadata();
  metadata.set(
    'grpc-status-details-bin',
    Buffer.from(Status.encode({ code: status[row.grpc], message, details }).finish()),
  );
  return Object.assign(new Error(message), { code: status[row.grpc], details: message, metadata });
};

export const ENVELOPE = {
  keyRequested: 'orders',
  keyUsed: { keyId: 'orders', version: 2 },
  algorithmUsed: 'A256GCMKW',
  warnings: [{ code: 'SOFT_LIMIT', message: 'rotate it' }],
  correlationId: 'c-1',
  eventId: 'host-1/1/7',
};
