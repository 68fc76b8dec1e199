// PipelineService.Batch: several operations in one unary call. Invariant: only so many of them are under way at a time,
// and none is begun once the answers have reached their limit or nobody waits for them.
import { type PipelineCall, PipelineServiceService } from '../../proto/gen/mortise/agent/v1/pipeline.ts';
import type { Clock } from '../clock.ts';
import { Deadlines } from '../deadlines.ts';
import { AgentError, asAgentError, invalid } from '../errors.ts';
import type { Ports } from '../operations/perform.ts';
import type { Call } from '../operations/ports/call.ts';
import { AnswerEncoder } from './answer-encoder.ts';
import { refuseRecorded } from './bind.ts';
import type { CallEvents } from './call-context.ts';
import { acceptedCorrelationId } from './call-metadata.ts';
import type { ServerLimits } from './limits.ts';
import { failedAnswer, PipelineOperation } from './pipeline-operation.ts';
import { encodeAnswers } from './pipeline-output.ts';
import { type Service, service, type UnaryRpc } from './rpc.ts';

export interface BatchParts {
  readonly rpcs: ReadonlyMap<string, UnaryRpc>;
  readonly ports: Ports;
  readonly events: CallEvents;
  readonly clock: Clock;
  readonly limits: ServerLimits;
}

/** One Batch call: its operations by position, each answered once. */
class Batch {
  readonly #parts: BatchParts;
  readonly #call: Call;
  readonly #calls: readonly PipelineCall[];
  readonly #answers: Uint8Array[] = [];
  readonly #underWay = new Set<PipelineOperation>();
  readonly #deadlines: Deadlines<PipelineOperation>;
  readonly #encoder = new AnswerEncoder();
  #answerBytes = 0;
  #next = 0;

  constructor(parts: BatchParts, call: Call, calls: readonly PipelineCall[]) {
    this.#parts = parts;
    this.#call = call;
    this.#calls = calls;
    const expire = (operation: PipelineOperation): number => operation.endIfLate(parts.clock.now());
    this.#deadlines = new Deadlines({ clock: parts.clock, calls: this.#underWay, expire });
  }

  async run(): Promise<readonly Uint8Array[]> {
    const { signal } = this.#call;
    const abort = (): void => {
      for (const operation of this.#underWay) operation.end(asAgentError(signal.reason));
    };
    signal.addEventListener('abort', abort, { once: true });
    const lanes = Math.min(this.#calls.length, this.#parts.limits.batchAtOnce);
    await Promise.all(Array.from({ length: lanes }, () => this.#work()));
    signal.removeEventListener('abort', abort);
    signal.throwIfAborted();
    return this.#answers;
  }

  async #work(): Promise<void> {
    while (this.#next < this.#calls.length && !this.#call.signal.aborted) {
      const at = this.#next;
      this.#next += 1;
      await this.#perform(at, this.#calls[at] as PipelineCall);
    }
  }

  async #perform(at: number, of: PipelineCall): Promise<void> {
    const { rpcs, events, limits, clock } = this.#parts;
    const { caller, peer, deadline } = this.#call;
    const correlationId = acceptedCorrelationId(of.correlationId) ?? this.#call.correlationId;
    if (this.#answerBytes > limits.maxBatchAnswerBytes) {
      const error = new AgentError('TOO_LARGE', { message: 'the answers before it are as large as a batch may be' });
      this.#answers[at] = failedAnswer(of.sequence, error, correlationId);
      return;
    }
    const operation = new PipelineOperation(of, {
      rpcs,
      events,
      peer,
      correlationId,
      deadline: of.timeoutMs === 0 ? deadline : Math.min(deadline, clock.now() + of.timeoutMs),
      callerOf: () => caller,
      encoder: this.#encoder,
      answered: (_operation, answer) => {
        this.#answers[at] = answer;
        this.#answerBytes += answer.length;
      },
    });
    this.#underWay.add(operation);
    this.#deadlines.watch(operation.deadline);
    await operation.run();
    this.#underWay.delete(operation);
  }
}

export const batchService = (parts: BatchParts): Service => {
  const { maxBatchCalls } = parts.limits;
  const definition = { batch: { ...PipelineServiceService.batch, responseSerialize: encodeAnswers } };
  return service(definition, {
    batch: async (call, { calls }) => {
      if (calls.length === 0 || calls.length > maxBatchCalls) {
        await refuseRecorded(parts.ports, call, 'batch', invalid('calls', `1 to ${maxBatchCalls}`));
      }
      return new Batch(parts, call, calls).run();
    },
  });
};
