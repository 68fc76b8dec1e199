// One Pipeline stream: which operations are in flight on it, under which token, and how it ends. Invariants: no more
// than the window is in flight, counted until handlers have settled; every call that was read is answered once, unless
// the stream ends first; what the client neither reads nor waits for makes the agent stop reading.
import { randomUUID } from 'node:crypto';
import type { ServerDuplexStream } from '@grpc/grpc-js';
import type { PipelineCall, PipelineRequest } from '../../proto/gen/mortise/agent/v1/pipeline.ts';
import { PipelineResponse } from '../../proto/gen/mortise/agent/v1/pipeline.ts';
import type { Clock } from '../clock.ts';
import { Deadlines } from '../deadlines.ts';
import { AgentError, asAgentError, invalid } from '../errors.ts';
import type { Ports } from '../operations/perform.ts';
import type { Caller } from '../operations/ports/call.ts';
import { AnswerEncoder } from './answer-encoder.ts';
import type { Authentication } from './authentication.ts';
import { malformed, refuseRecorded } from './bind.ts';
import type { CallContext, CallEvents } from './call-context.ts';
import { acceptedCorrelationId, authorizationOf } from './call-metadata.ts';
import type { ServerLimits } from './limits.ts';
import { failedAnswer, PipelineOperation } from './pipeline-operation.ts';
import { PipelineOutput } from './pipeline-output.ts';
import type { Decoded, UnaryRpc } from './rpc.ts';
import { grpcStatusOf } from './status.ts';
import { Turns } from './turns.ts';

export interface PipelineParts {
  readonly rpcs: ReadonlyMap<string, UnaryRpc>;
  readonly ports: Ports;
  readonly authentication: Authentication;
  readonly events: CallEvents;
  readonly clock: Clock;
  readonly limits: ServerLimits;
}

export type PipelineGrpcStream = ServerDuplexStream<Decoded<PipelineRequest>, Buffer>;

const COMPUTED: ReadonlySet<string> = new Set(['verify', 'verify-with', 'encrypt-to']); // on this thread, some 80 µs each
const COMPUTED_PER_TURN = 8;

export class PipelineStream {
  readonly #parts: PipelineParts;
  readonly #stream: PipelineGrpcStream;
  readonly #context: CallContext;
  readonly #output: PipelineOutput;
  readonly #encoder = new AnswerEncoder();
  readonly #turns = new Turns({ perTurn: COMPUTED_PER_TURN });
  /** Handlers that have not settled. */
  readonly #underWay = new Set<PipelineOperation>();
  /** Calls that have not been answered. */
  readonly #unanswered = new Map<number, PipelineOperation>();
  readonly #deadlines: Deadlines<PipelineOperation>;
  #authorization: readonly string[];
  #requestBytes = 0;
  /** Set when no further call is begun: what the stream ends with once the rest is answered. */
  #ending: { readonly error: AgentError | undefined } | undefined;
  /** A message could not be read: none after it counts. */
  #isBroken = false;
  #isOver = false;
  #idleSince = performance.now();
  #idle: NodeJS.Timeout | undefined;

  constructor(parts: PipelineParts, stream: PipelineGrpcStream, context: CallContext) {
    this.#parts = parts;
    this.#stream = stream;
    this.#context = context;
    this.#authorization = authorizationOf(stream.metadata);
    this.#output = new PipelineOutput({ sink: stream, context, taken: () => this.#throttle() });
    const expire = (operation: PipelineOperation): number => operation.endIfLate(parts.clock.now());
    this.#deadlines = new Deadlines({ clock: parts.clock, calls: this.#underWay, expire });
  }

  open(): void {
    const { connection, signal } = this.#context;
    const { maxPipelinesPerConnection, pipelineWindow, idleMs } = this.#parts.limits;
    connection.pipelines += 1;
    signal.addEventListener('abort', () => this.#end(asAgentError(signal.reason)), { once: true });
    if (connection.pipelines > maxPipelinesPerConnection) {
      this.#end(new AgentError('OVERLOADED'));
      return;
    }
    const greeting = PipelineResponse.encode({ answers: [], window: pipelineWindow }).finish();
    this.#context.answering(greeting.length);
    this.#stream.write(Buffer.from(greeting), () => this.#context.taken(greeting.length));
    this.#stream.on('data', (message: Decoded<PipelineRequest>) => void this.#receive(message));
    this.#stream.on('end', () => this.#drain(undefined));
    this.#watchIdle(idleMs);
    this.#context.onDrain((error) => this.#drain(error));
  }

  async #receive(message: Decoded<PipelineRequest>): Promise<void> {
    if (this.#isOver || this.#isBroken) return;
    const fault = 'malformed' in message ? malformed(message.malformed) : this.#faultOf(message.request);
    if (fault === undefined) {
      if ('request' in message) this.#take(message.request, message.bytes);
      return;
    }
    this.#isBroken = true;
    try {
      await refuseRecorded(this.#parts.ports, this.#context.call(), 'pipeline', fault);
    } catch (thrown) {
      this.#end(asAgentError(thrown));
    }
  }

  /** What is wrong with a message so that its calls cannot be answered. */
  #faultOf({ calls, token }: PipelineRequest): AgentError | undefined {
    if (token.length > this.#parts.limits.maxMetadataBytes) return invalid('token', 'too long');
    const sequences = new Set<number>();
    for (const { sequence } of calls) {
      if (sequence === 0) return invalid('sequence', 'a number from 1 on');
      if (sequences.has(sequence) || this.#unanswered.has(sequence)) {
        return invalid('sequence', `${sequence} is in flight`);
      }
      sequences.add(sequence);
    }
    return undefined;
  }

  #take({ token, cancel, calls }: PipelineRequest, bytes: number): void {
    if (token !== '') this.#authorization = [`Bearer ${token}`];
    for (const sequence of cancel) this.#unanswered.get(sequence)?.end(new AgentError('CANCELLED'));
    for (const call of calls) this.#begin(call, bytes / calls.length);
    this.#throttle();
  }

  #begin(call: PipelineCall, bytes: number): void {
    const correlationId = acceptedCorrelationId(call.correlationId) ?? randomUUID();
    const refusal = this.#refusal();
    if (refusal !== undefined) {
      this.#refuse(call, refusal, correlationId);
      return;
    }
    const { rpcs, events, limits, clock } = this.#parts;
    const timeoutMs = Math.min(call.timeoutMs === 0 ? limits.defaultDeadlineMs : call.timeoutMs, limits.maxDeadlineMs);
    const operation = new PipelineOperation(call, {
      rpcs,
      events,
      correlationId,
      peer: this.#context.connection.peer,
      deadline: Math.min(clock.now() + timeoutMs, this.#context.deadline),
      callerOf: (rpc, id) => this.#callerOf(rpc, id),
      encoder: this.#encoder,
      answered: (answered, bytes_) => this.#answered(answered, bytes_),
    });
    this.#underWay.add(operation);
    this.#unanswered.set(operation.sequence, operation);
    this.#requestBytes += bytes;
    this.#deadlines.watch(operation.deadline);
    void operation.run().then(() => this.#settled(operation, bytes));
  }

  /** Why no call can be begun now, as for a unary call: before anything of it is looked at. */
  #refusal(): AgentError | undefined {
    if (this.#ending?.error !== undefined) return this.#ending.error;
    const { pipelineWindow, maxUnreadBytes } = this.#parts.limits;
    if (this.#underWay.size >= pipelineWindow) {
      return new AgentError('OVERLOADED', { message: `more than ${pipelineWindow} operations are in flight` });
    }
    return this.#context.connection.unreadBytes > maxUnreadBytes ? new AgentError('OVERLOADED') : undefined;
  }

  #refuse({ sequence, request }: PipelineCall, error: AgentError, correlationId: string): void {
    this.#output.add(failedAnswer(sequence, error, correlationId));
    const rpc = request && this.#parts.rpcs.get(request.$case);
    this.#parts.events.callFinished({
      method: rpc?.method.path ?? this.#context.method,
      code: error.code,
      startedAt: performance.now(),
      correlationId,
      tenant: this.#context.caller?.tenant,
      error,
    });
  }

  #callerOf({ operation }: UnaryRpc, correlationId: string): Caller | Promise<Caller> {
    const judge = (): Caller | Promise<Caller> => {
      const { peer } = this.#context.connection;
      const authorization = this.#authorization;
      return this.#parts.authentication.callerOf({ peer, authorization, operation, correlationId });
    };
    const turn = COMPUTED.has(operation) ? this.#turns.take() : undefined;
    return turn === undefined ? judge() : turn.then(judge);
  }

  #answered(operation: PipelineOperation, answer: Uint8Array): void {
    this.#unanswered.delete(operation.sequence);
    if (this.#isOver) return;
    this.#output.add(answer);
    this.#endIfDrained();
  }

  #settled(operation: PipelineOperation, bytes: number): void {
    this.#underWay.delete(operation);
    this.#requestBytes -= bytes;
    if (this.#underWay.size === 0) {
      this.#requestBytes = 0;
      this.#idleSince = performance.now();
    }
    this.#throttle();
    this.#endIfDrained();
  }

  /** Reads on only while the client reads too, and while what it sent is being done. */
  #throttle(): void {
    if (this.#isOver) return;
    const { maxPipelineRequestBytes, maxPipelineAnswerBytes } = this.#parts.limits;
    const isFull = this.#requestBytes > maxPipelineRequestBytes || this.#output.waitingBytes > maxPipelineAnswerBytes;
    if (isFull === this.#stream.isPaused()) return;
    if (isFull) this.#stream.pause();
    else this.#stream.resume();
  }

  // ---- the end

  /** No further calls: by half-close (then well), or because the agent is to stop. */
  #drain(error: AgentError | undefined): void {
    this.#ending ??= { error };
    this.#endIfDrained();
  }

  #endIfDrained(): void {
    if (this.#ending !== undefined && this.#unanswered.size === 0) this.#end(this.#ending.error);
    if (this.#isOver && this.#underWay.size === 0) this.#context.settled(this.#ending?.error);
  }

  /** Ends the stream, with what has been answered; what has not is cancelled. */
  #end(error: AgentError | undefined): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#ending = { error };
    clearTimeout(this.#idle);
    this.#context.connection.pipelines -= 1;
    this.#output.flush();
    this.#context.answering(0); // the client is expected to take up the end, too
    if (error === undefined) this.#stream.end();
    else this.#stream.emit('error', grpcStatusOf(error, this.#context.correlationId));
    const cancelled = error ?? new AgentError('CANCELLED');
    for (const operation of this.#underWay) operation.end(cancelled);
    this.#stream.resume(); // nothing is taken any more, but the end has to be seen
    this.#endIfDrained();
  }

  /** A client that says nothing for long does not hold a connection. */
  #watchIdle(waitMs: number): void {
    this.#idle = setTimeout(() => {
      const { idleMs } = this.#parts.limits;
      const leftMs = this.#underWay.size > 0 ? idleMs : this.#idleSince + idleMs - performance.now();
      if (leftMs > 0) this.#watchIdle(leftMs);
      else this.#drain(undefined);
    }, waitMs);
    this.#idle.unref();
  }
}
