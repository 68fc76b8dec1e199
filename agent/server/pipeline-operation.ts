// One operation out of a message that carries several. Invariants: it is answered exactly once, with the bytes of a
// PipelineAnswer; it counts as under way until its handler has settled, which may be after its answer.
import { PipelineAnswer, type PipelineCall } from '../../proto/gen/mortise/agent/v1/pipeline.ts';
import { AgentError, asAgentError } from '../errors.ts';
import type { Caller, Peer } from '../operations/ports/call.ts';
import type { AnswerEncoder } from './answer-encoder.ts';
import type { CallEvents } from './call-context.ts';
import type { UnaryRpc } from './rpc.ts';
import { rpcStatusOf } from './status.ts';

export interface OperationOptions {
  readonly rpcs: ReadonlyMap<string, UnaryRpc>;
  readonly events: CallEvents;
  readonly peer: Peer;
  readonly correlationId: string;
  /** Milliseconds since 1970. */
  readonly deadline: number;
  readonly callerOf: (rpc: UnaryRpc, correlationId: string) => Caller | Promise<Caller>;
  readonly encoder: AnswerEncoder;
  readonly answered: (operation: PipelineOperation, answer: Uint8Array) => void;
}

export const failedAnswer = (sequence: number, error: AgentError, correlationId: string): Uint8Array =>
  PipelineAnswer.encode({
    sequence,
    answer: { $case: 'error', value: rpcStatusOf(error, correlationId) },
  }).finish();

interface UnderWay {
  readonly request: PipelineCall['request'];
  readonly options: OperationOptions;
  readonly abort: AbortController;
}

export class PipelineOperation {
  readonly sequence: number;
  readonly deadline: number;
  readonly #rpc: UnaryRpc | undefined;
  /** Until the handler has settled. Let go of then, because V8 may keep a dead operation for long (docs/performance.md). */
  #underWay: UnderWay | undefined;
  readonly #startedAt = performance.now();
  #tenant: string | undefined;
  #isAnswered = false;

  constructor({ sequence, request }: PipelineCall, options: OperationOptions) {
    this.sequence = sequence;
    this.deadline = options.deadline;
    this.#rpc = request && options.rpcs.get(request.$case);
    this.#underWay = { request, options, abort: new AbortController() };
  }

  /** Resolves when the handler has settled; never rejects. */
  async run(): Promise<void> {
    const rpc = this.#rpc;
    if (this.#underWay === undefined) return;
    const { request, options, abort } = this.#underWay;
    try {
      if (request === undefined || rpc === undefined) throw new AgentError('UNIMPLEMENTED');
      const { peer, correlationId, deadline } = options;
      const asked = options.callerOf(rpc, correlationId);
      const caller = asked instanceof Promise ? await asked : asked; // most often known: a turn less
      this.#tenant = caller.tenant;
      const call = { correlationId, caller, peer, deadline, signal: abort.signal };
      const value = await rpc.handler(call, request.value);
      // Both messages name their fields after the RPCs; a test compares them with the services.
      const answer = { $case: request.$case, value } as PipelineAnswer['answer'];
      const { sequence } = this;
      this.#answer(options.encoder.encode((writer) => PipelineAnswer.encode({ sequence, answer }, writer)));
    } catch (thrown) {
      this.#fail(asAgentError(thrown));
    } finally {
      this.#underWay = undefined;
    }
  }

  /** Answers with the error at once, where there was no answer yet, and tells the handler that nobody waits any more. */
  end(error: AgentError): void {
    const abort = this.#underWay?.abort;
    this.#fail(error);
    abort?.abort(error);
  }

  /** Ends it where its time has passed; answers with the time at which it has to be looked at again. */
  endIfLate(now: number): number {
    if (now < this.deadline) return this.deadline;
    this.end(new AgentError('DEADLINE_EXCEEDED'));
    return Number.POSITIVE_INFINITY;
  }

  #fail(error: AgentError): void {
    if (this.#isAnswered || this.#underWay === undefined) return;
    this.#answer(failedAnswer(this.sequence, error, this.#underWay.options.correlationId), error);
  }

  #answer(bytes: Uint8Array, error?: AgentError): void {
    if (this.#isAnswered || this.#underWay === undefined) return;
    const { answered, events, correlationId } = this.#underWay.options;
    this.#isAnswered = true;
    answered(this, bytes);
    if (this.#rpc === undefined) return;
    events.callFinished({
      method: this.#rpc.method.path,
      code: error?.code ?? 'ok',
      startedAt: this.#startedAt,
      correlationId,
      tenant: this.#tenant,
      ...(error && { error }),
    });
  }
}
