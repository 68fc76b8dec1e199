// Operations over the agent's Pipeline stream: calls made in one turn of the event loop leave in one message. Invariants:
// nothing is sent before the agent has greeted, so that a stream that is refused has lost nothing; what was sent and not
// answered when a stream ends fails with the reason, what was not sent goes over the next stream.
import { randomUUID } from 'node:crypto';
import type { Client, ClientDuplexStream } from '@grpc/grpc-js';
import {
  type PipelineAnswer,
  type PipelineCall,
  PipelineResponse,
  PipelineServiceService,
} from '../../proto/gen/mortise/agent/v1/pipeline.ts';
import { callMetadata } from './call-metadata.ts';
import { DeadlineTimer } from './deadline-timer.ts';
import { asMortiseError, MortiseError, type MortiseErrorCode, operationError } from './errors.ts';
import type { RequestOf, ResponseOf, UnaryName } from './methods.ts';
import { type Attempt, cancelled, PendingCall, Unsent } from './pending-call.ts';
import { nextMessage } from './pipeline-message.ts';

type CarriedName = NonNullable<PipelineCall['request']>['$case'] & UnaryName;
/** The calls that a pipeline cannot carry; the compiler says when one is missing here. */
const ALONE: Readonly<Record<Exclude<UnaryName, CarriedName>, true>> = { checkHealth: true, batch: true };

const IDLE_MS = 5000; // an open stream keeps the process alive
const REFUSED_MS = 60_000; // until an agent that takes no pipeline is asked again
/** Why a stream did not open that does not tell against a call of its own. */
const REFUSALS: ReadonlySet<MortiseErrorCode> = new Set([
  'UNIMPLEMENTED',
  'OVERLOADED',
  'PERMISSION_DENIED',
  'INVALID_REQUEST',
  'TOO_LARGE',
  'INTERNAL',
]);
const MAX_SEQUENCE = 2 ** 32 - 1;

type Stream = ClientDuplexStream<Buffer, PipelineResponse>;

export class Pipeline {
  readonly #client: Client;
  #stream: Stream | undefined;
  /** Told by the agent when it greets; 0 until then. */
  #window = 0;
  #token: string | undefined;
  #queue: PendingCall[] = [];
  readonly #sent = new Map<number, PendingCall>();
  readonly #deadlines = new DeadlineTimer((now) => this.#expire(now));
  #cancel: number[] = [];
  #sequence = 0;
  #isScheduled = false;
  #isBlocked = false;
  #refusedUntil = 0;
  #activeAt = 0;
  #idle: NodeJS.Timeout | undefined;

  constructor(client: Client) {
    this.#client = client;
  }

  /** Whether a call of this name can go this way at present. */
  carries(name: UnaryName): boolean {
    return !Object.hasOwn(ALONE, name) && Date.now() >= this.#refusedUntil;
  }

  /** One attempt. Rejects with a MortiseError, or with Unsent where the agent has not seen it. */
  call<Name extends UnaryName>(name: Name, request: RequestOf<Name>, attempt: Attempt): Promise<ResponseOf<Name>> {
    return new Promise((resolve, reject) => {
      const outcome = { resolve: resolve as (response: unknown) => void, reject };
      const call = new PendingCall({ name, request, attempt, outcome, aborted: (aborted) => this.#aborted(aborted) });
      this.#queue.push(call);
      this.#deadlines.watch(attempt.deadline);
      this.#schedule();
    });
  }

  /** Ends the stream; what is in flight and what waits fails. */
  close(): void {
    const calls = [...this.#queue, ...this.#sent.values()];
    this.#queue = [];
    this.#sent.clear();
    this.#stream?.cancel();
    this.#deadlines.close();
    clearTimeout(this.#idle);
    for (const call of calls) call.reject(cancelled(call.attempt.correlationId));
  }

  #schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    process.nextTick(() => {
      this.#isScheduled = false;
      this.#flush();
    });
  }

  #flush(): void {
    if (this.#queue.length === 0 && this.#cancel.length === 0) return;
    if (this.#stream === undefined) this.#open();
    while (this.#window > 0 && !this.#isBlocked && this.#sendMessage());
  }

  /** Sends one message; false where there is nothing to send, or no room for it. */
  #sendMessage(): boolean {
    const stream = this.#stream;
    if (stream === undefined) return false;
    const { bytes, sent, taken } = nextMessage({
      queue: this.#queue,
      room: this.#window - this.#sent.size,
      cancel: this.#cancel,
      token: this.#token,
      nextSequence: () => this.#nextSequence(),
    });
    this.#queue = taken === this.#queue.length ? [] : this.#queue.slice(taken);
    this.#cancel = [];
    for (const call of sent) this.#sent.set(call.sequence, call);
    if (sent.length > 0) this.#token = sent[0]?.attempt.token;
    if (bytes.length === 0) return taken > 0;
    if (!stream.write(bytes)) {
      this.#isBlocked = true;
      stream.once('drain', () => {
        this.#isBlocked = false;
        this.#flush();
      });
    }
    return this.#queue.length > 0;
  }

  #nextSequence(): number {
    this.#sequence = (this.#sequence % MAX_SEQUENCE) + 1;
    return this.#sequence;
  }

  // ---- the stream

  #open(): void {
    const first = this.#queue.find((call) => !call.isSettled);
    if (first === undefined) {
      this.#queue = [];
      return;
    }
    let stream: Stream;
    try {
      this.#token = first.attempt.token;
      const { pipeline } = PipelineServiceService;
      stream = this.#client.makeBidiStreamRequest(
        pipeline.path,
        (bytes: Buffer) => bytes,
        (bytes: Buffer) => PipelineResponse.decode(bytes),
        callMetadata(this.#token, randomUUID()),
      );
    } catch (thrown) {
      this.#rejectQueue(asMortiseError(thrown));
      return;
    }
    this.#stream = stream;
    this.#window = 0;
    this.#isBlocked = false;
    stream.on('data', (response: PipelineResponse) => this.#receive(stream, response));
    stream.on('error', (error: Error) => this.#closed(stream, asMortiseError(error)));
    stream.on('end', () => this.#closed(stream, undefined));
  }

  #receive(stream: Stream, { answers, window }: PipelineResponse): void {
    if (window > 0 && stream === this.#stream) {
      this.#window = window;
      this.#restIdle(IDLE_MS);
    }
    this.#activeAt = performance.now();
    for (const answer of answers) this.#answer(answer);
    if (this.#queue.length > 0) this.#schedule();
  }

  #answer({ sequence, answer }: PipelineAnswer): void {
    const call = this.#sent.get(sequence);
    if (call === undefined) return;
    this.#sent.delete(sequence);
    if (answer?.$case === call.name) call.resolve(answer.value);
    else if (answer?.$case === 'error') call.reject(operationError(answer.value, call.attempt.correlationId));
    else {
      const { correlationId } = call.attempt;
      call.reject(
        new MortiseError('INTERNAL', { message: 'the agent gave the answer of another call', correlationId }),
      );
    }
  }

  #closed(stream: Stream, error: MortiseError | undefined): void {
    if (stream !== this.#stream) return;
    const hadGreeted = this.#window > 0;
    this.#stream = undefined;
    this.#window = 0;
    this.#cancel = [];
    clearTimeout(this.#idle);
    const reason = error ?? new MortiseError('AGENT_UNREACHABLE', { message: 'the agent ended the stream' });
    const lost = [...this.#sent.values()];
    this.#sent.clear();
    for (const call of lost) call.reject(withCorrelationId(reason, call.attempt.correlationId));
    if (hadGreeted) this.#schedule();
    else this.#rejectQueue(reason, error === undefined || REFUSALS.has(reason.code));
  }

  #rejectQueue(reason: MortiseError, refused = false): void {
    if (refused) this.#refusedUntil = Date.now() + REFUSED_MS;
    const queue = this.#queue;
    this.#queue = [];
    for (const call of queue) {
      call.reject(new Unsent(withCorrelationId(reason, call.attempt.correlationId), refused));
    }
  }

  #aborted(call: PendingCall): void {
    if (this.#sent.get(call.sequence) !== call) return;
    this.#cancel.push(call.sequence);
    this.#schedule();
  }

  // ---- time

  /** Fails the calls whose time has passed; answers with the earliest deadline of the others. */
  #expire(now: number): number {
    let next = Number.POSITIVE_INFINITY;
    for (const call of [...this.#queue, ...this.#sent.values()]) next = Math.min(next, call.expire(now));
    this.#queue = this.#queue.filter((call) => !call.isSettled);
    return next;
  }

  /** Half-closes a stream on which nothing has been in flight for a while; the next call opens another. */
  #restIdle(waitMs: number): void {
    clearTimeout(this.#idle);
    this.#idle = setTimeout(() => {
      const isBusy = this.#sent.size > 0 || this.#queue.length > 0;
      const leftMs = isBusy ? IDLE_MS : this.#activeAt + IDLE_MS - performance.now();
      if (leftMs > 0) {
        this.#restIdle(leftMs);
        return;
      }
      this.#stream?.end();
      this.#stream = undefined;
      this.#window = 0;
    }, waitMs);
    this.#idle.unref();
  }
}

const withCorrelationId = (error: MortiseError, correlationId: string): MortiseError =>
  new MortiseError(error.code, {
    message: error.message,
    reason: error.reason,
    fields: error.fields,
    metadata: error.metadata,
    correlationId,
    ...(error.retryAfterMs !== undefined && { retryAfterMs: error.retryAfterMs }),
    ...(error.cause !== undefined && { cause: error.cause }),
  });
