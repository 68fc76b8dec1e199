// The connection to the agent and the life of a call: deadline, token, attempts, abort. Invariant: every promise
// settles by its deadline, and every failure is a MortiseError with the correlation id that was sent.
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client, type ClientReadableStream, credentials as channel } from '@grpc/grpc-js';
import { callMetadata, checkCall } from './call-metadata.ts';
import type { Credentials } from './credentials.ts';
import { asMortiseError, MortiseError } from './errors.ts';
import { METHODS, type RequestOf, type ResponseOf, type StreamName, type UnaryName } from './methods.ts';
import { type Attempt, cancelled, Unsent } from './pending-call.ts';
import { Pipeline } from './pipeline.ts';
import { delayBefore, isSafeToRepeat, type RetryLimits } from './retry.ts';

/** Options that every call takes. */
export interface CallOptions {
  /** Milliseconds until the call fails with `DEADLINE_EXCEEDED`, repeats included. Default: the client's. */
  readonly deadlineMs?: number;
  /** Aborts the call, which then fails with `CANCELLED`. What the agent has begun may still happen. */
  readonly signal?: AbortSignal;
  /** 1 to 64 of `A-Z a-z 0-9 . _ -` that find this call in the agent's log and audit trail. Default: a random UUID. */
  readonly correlationId?: string;
}

// 1000 audit records of 4 KiB detail are the largest answer that the API allows.
const MAX_ANSWER_BYTES = 16 * 1024 * 1024;
const CHANNEL_OPTIONS = {
  'grpc.max_receive_message_length': MAX_ANSWER_BYTES,
  'grpc.enable_retries': 0, // retry.ts decides; the library's own rules know nothing of idempotency
  // An agent that restarts is back within a second; the library's defaults would wait minutes.
  'grpc.initial_reconnect_backoff_ms': 50,
  'grpc.min_reconnect_backoff_ms': 50,
  'grpc.max_reconnect_backoff_ms': 1000,
  'grpc.use_local_subchannel_pool': 1,
} as const;

const tooLate = (): MortiseError =>
  new MortiseError('DEADLINE_EXCEEDED', { message: 'the token provider gave no token before the deadline' });

/** How calls reach the agent: over one stream for all of them, or each as a call of its own. */
export type TransportKind = 'pipeline' | 'unary';

/** What the operations need of a transport. */
export interface Calls {
  call<Name extends UnaryName>(name: Name, request: RequestOf<Name>, options?: CallOptions): Promise<ResponseOf<Name>>;
}

const isUnimplemented = (thrown: unknown): boolean => thrown instanceof MortiseError && thrown.code === 'UNIMPLEMENTED';

export class Transport implements Calls {
  readonly #client: Client;
  readonly #pipeline: Pipeline | undefined;
  readonly #credentials: Credentials;
  readonly #retry: RetryLimits;
  readonly #deadlineMs: number;
  #closed = false;

  constructor(options: {
    readonly socketPath: string;
    readonly credentials: Credentials;
    readonly deadlineMs: number;
    readonly retry: RetryLimits;
    readonly kind: TransportKind;
  }) {
    this.#client = new Client(`unix:${options.socketPath}`, channel.createInsecure(), CHANNEL_OPTIONS);
    this.#pipeline = options.kind === 'pipeline' ? new Pipeline(this.#client) : undefined;
    this.#credentials = options.credentials;
    this.#retry = options.retry;
    this.#deadlineMs = options.deadlineMs;
  }

  /** Waits that this transport keeps between attempts. */
  get retry(): RetryLimits {
    return this.#retry;
  }

  close(): void {
    this.#closed = true;
    this.#pipeline?.close();
    this.#client.close();
  }

  /** One call, repeated as retry.ts allows. */
  async call<Name extends UnaryName>(
    name: Name,
    request: RequestOf<Name>,
    options: CallOptions = {},
  ): Promise<ResponseOf<Name>> {
    const correlationId = options.correlationId ?? randomUUID();
    const deadline = Date.now() + (options.deadlineMs ?? this.#deadlineMs);
    const repeatable = isSafeToRepeat(name, request);
    let renewed = false;
    for (let attempt = 1; ; attempt += 1) {
      let token: string | undefined;
      try {
        token = await this.#token(deadline, options.signal);
        checkCall(token, correlationId);
        return await this.#attempt(name, request, { correlationId, deadline, token, signal: options.signal });
      } catch (thrown) {
        const isUnsent = thrown instanceof Unsent;
        const error = this.#failure(isUnsent ? thrown.error : thrown, correlationId, options.signal);
        // The agent refuses an expired token before it acts, so this repeat is safe for every operation.
        if (error.code === 'TOKEN_EXPIRED' && !renewed && this.#credentials.expire(token)) {
          renewed = true;
          continue;
        }
        if (!error.retryable || !(repeatable || isUnsent) || attempt >= this.#retry.maxAttempts) throw error;
        await this.#pause(attempt, error, deadline, options.signal);
      }
    }
  }

  /** One attempt of a streaming call. Leaving the loop cancels it. */
  async *stream<Name extends StreamName>(
    name: Name,
    request: RequestOf<Name>,
    options: CallOptions & { readonly deadlineMs: number },
  ): AsyncGenerator<ResponseOf<Name>, void, undefined> {
    const correlationId = options.correlationId ?? randomUUID();
    const deadline = Date.now() + options.deadlineMs;
    const method = METHODS[name];
    let stream: ClientReadableStream<ResponseOf<Name>> | undefined;
    let token: string | undefined;
    const abort = (): void => stream?.cancel();
    try {
      token = await this.#token(deadline, options.signal);
      checkCall(token, correlationId);
      this.#checkOpen();
      stream = this.#client.makeServerStreamRequest(
        method.path,
        method.requestSerialize as (request: RequestOf<Name>) => Buffer,
        method.responseDeserialize as (bytes: Buffer) => ResponseOf<Name>,
        request,
        callMetadata(token, correlationId),
        { deadline },
      );
      options.signal?.addEventListener('abort', abort, { once: true });
      yield* stream as AsyncIterable<ResponseOf<Name>>;
    } catch (thrown) {
      const error = this.#failure(thrown, correlationId, options.signal);
      if (error.code === 'TOKEN_EXPIRED') this.#credentials.expire(token);
      throw error;
    } finally {
      options.signal?.removeEventListener('abort', abort);
      // A cancelled stream emits one last error that nobody waits for.
      stream?.on('error', () => undefined).cancel();
    }
  }

  /** Why an attempt failed; a connection that ended because we ended it is a cancelled call. */
  #failure(thrown: unknown, correlationId: string, signal: AbortSignal | undefined): MortiseError {
    const error = asMortiseError(thrown, correlationId);
    const ours = signal?.aborted === true || this.#closed;
    return ours && error.code === 'AGENT_UNREACHABLE' ? cancelled(correlationId) : error;
  }

  /** Waits before the next attempt; throws `error` itself where the deadline would pass meanwhile. */
  async #pause(attempt: number, error: MortiseError, deadline: number, signal: AbortSignal | undefined): Promise<void> {
    const waitMs = delayBefore(attempt, error, this.#retry, Math.random());
    if (Date.now() + waitMs >= deadline) throw error;
    await sleep(waitMs, undefined, signal && { signal }).catch(() => {
      throw cancelled(error.correlationId);
    });
  }

  /** Over the pipeline where the agent takes it, else as a call of its own. */
  async #attempt<Name extends UnaryName>(
    name: Name,
    request: RequestOf<Name>,
    attempt: Attempt,
  ): Promise<ResponseOf<Name>> {
    this.#checkOpen();
    if (this.#pipeline?.carries(name) === true) {
      try {
        return await this.#pipeline.call(name, request, attempt);
      } catch (thrown) {
        // An agent that does not know an operation in a pipeline may know it as a call: it has not acted either way.
        const isRefused = thrown instanceof Unsent ? thrown.refused : isUnimplemented(thrown);
        if (!isRefused) throw thrown;
      }
    }
    return this.#unary(name, request, attempt);
  }

  #unary<Name extends UnaryName>(
    name: Name,
    request: RequestOf<Name>,
    { correlationId, token, deadline, signal }: Attempt,
  ): Promise<ResponseOf<Name>> {
    this.#checkOpen();
    const metadata = callMetadata(token, correlationId);
    const method = METHODS[name];
    return new Promise((resolve, reject) => {
      const call = this.#client.makeUnaryRequest(
        method.path,
        method.requestSerialize as (request: RequestOf<Name>) => Buffer,
        method.responseDeserialize as (bytes: Buffer) => ResponseOf<Name>,
        request,
        metadata,
        { deadline },
        (error, response) => {
          signal?.removeEventListener('abort', abort);
          if (error !== null) reject(error);
          else resolve(response as ResponseOf<Name>);
        },
      );
      const abort = (): void => call.cancel();
      signal?.addEventListener('abort', abort, { once: true });
    });
  }

  /** The token, waited for no longer than the call itself. */
  async #token(deadline: number, signal: AbortSignal | undefined): Promise<string | undefined> {
    if (signal?.aborted) throw cancelled();
    const token = this.#credentials.token();
    if (!(token instanceof Promise)) return token;
    const timeUp = AbortSignal.timeout(Math.max(0, deadline - Date.now()));
    const ended = signal === undefined ? timeUp : AbortSignal.any([timeUp, signal]);
    return new Promise((resolve, reject) => {
      const giveUp = (): void => reject(signal?.aborted ? cancelled() : tooLate());
      ended.addEventListener('abort', giveUp, { once: true });
      token.then(resolve, reject).finally(() => ended.removeEventListener('abort', giveUp));
    });
  }

  #checkOpen(): void {
    if (this.#closed) throw new MortiseError('CANCELLED', { message: 'the client is closed' });
  }
}
