// The chain of perform.ts for a stream: deadline → rate → scope → share of streams → fresh opening → [key → state →
// policy → limits → keys in memory] → record of the beginning → data → record of the end → last piece. Invariants:
// nothing leaves before a record says that the stream has begun, and what makes the output whole leaves only after the
// record of how it ended; whatever happens there is such a record, and the keys are wiped.
import type { OperationName } from '../../../proto/documents/operations.ts';
import { AgentError, asAgentError, invalid } from '../../errors.ts';
import type { SourceUsed } from '../jose/parts.ts';
import { admit, type Performed, Run } from '../perform.ts';
import type { Envelope } from '../ports/answer.ts';
import type { Call } from '../ports/call.ts';
import { StreamInput, type StreamMessage } from './stream-input.ts';
import type { StreamPorts } from './stream-ports.ts';

export interface Freshness {
  readonly nonce: Buffer;
  /** Milliseconds since 1970; undefined where the client gave none. */
  readonly timestamp: number | undefined;
}

/** What the chunks of one container are made or opened with. */
export interface StreamKey {
  readonly key: Buffer;
  readonly baseNonce: Buffer;
  /** Everything in front of the chunks, where they are to be made. */
  readonly opening: Buffer;
}

/** What data is turned into, piece by piece. */
export interface StreamWork<Answer> {
  /** The key version that the data comes from, where it moves to another. */
  readonly source?: SourceUsed;
  /** What leaves before any data is read; undefined where nothing leaves before the end. */
  readonly first: readonly Buffer[] | undefined;
  /** Where set, the client works on the data. It leaves once, with the beginning, and is wiped then. */
  readonly streamKey?: StreamKey;
  update(data: Buffer): readonly Buffer[];
  final(): Promise<{ readonly last: readonly Buffer[]; readonly answer: Answer }>;
  /** Wipes keys and data; called once, at the end, however it came. */
  wipe(): void;
}

export type StreamOutput<Answer> =
  | { readonly begun: Envelope; readonly source: SourceUsed | undefined; readonly streamKey: StreamKey | undefined }
  | { readonly data: readonly Buffer[] }
  | { readonly done: StreamDone<Answer> };

export interface StreamDone<Answer> extends Performed<Answer> {
  readonly bytesReceived: number;
  readonly bytesSent: number;
}

export interface OpenedBy {
  readonly freshness: Freshness | undefined;
}

const MIN_NONCE_BYTES = 16;
const MAX_NONCE_BYTES = 64;

const requireFresh = async (ports: StreamPorts, run: Run, freshness: Freshness | undefined): Promise<void> => {
  if (freshness === undefined) throw invalid('freshness', 'required');
  const { nonce, timestamp } = freshness;
  if (nonce.length < MIN_NONCE_BYTES || nonce.length > MAX_NONCE_BYTES) {
    throw invalid('nonce', `${MIN_NONCE_BYTES} to ${MAX_NONCE_BYTES} bytes`);
  }
  if (timestamp === undefined) throw invalid('timestamp', 'required');
  await ports.openings.take({ tenant: run.tenant, principal: run.call.caller.principal, nonce, timestamp });
};

type Result<Answer> = { value: Answer } | { error: AgentError };

/** What will be said of the stream in the end, and that it is said once. */
class StreamRecord<Answer> {
  readonly #ports: StreamPorts;
  readonly #run: Run;
  readonly #input: StreamInput<unknown>;
  readonly #startedAt = performance.now();
  #bytesSent = 0;
  #isWritten = false;

  constructor(parts: { ports: StreamPorts; run: Run; input: StreamInput<unknown> }) {
    this.#ports = parts.ports;
    this.#run = parts.run;
    this.#input = parts.input;
  }

  get isWritten(): boolean {
    return this.#isWritten;
  }

  get counts(): { bytesReceived: number; bytesSent: number } {
    return { bytesReceived: this.#input.bytes, bytesSent: this.#bytesSent };
  }

  /** The pieces, counted. */
  sending(pieces: readonly Buffer[]): readonly Buffer[] {
    for (const { length } of pieces) this.#bytesSent += length;
    return pieces;
  }

  async write(result: Result<Answer>): Promise<Performed<Answer>> {
    this.#isWritten = true;
    const { tenant, name: operation } = this.#run;
    this.#run.note({ stream: true, ...this.counts });
    const base = { tenant, operation, startedAt: this.#startedAt };
    try {
      const performed = await this.#run.finish(result);
      this.#ports.events.finished({ ...base, outcome: 'ok' });
      return performed;
    } catch (thrown) {
      const error = asAgentError(thrown);
      this.#ports.events.finished({ ...base, outcome: error.code, error });
      throw error;
    }
  }
}

/** Runs one stream. Who iterates goes on to the end or calls `return`, or nothing of it is recorded and wiped. */
export async function* performStream<Opening extends OpenedBy, Answer>(
  ports: StreamPorts,
  call: Call,
  name: OperationName,
  messages: AsyncIterator<StreamMessage<Opening> | undefined>,
  open: (run: Run, opening: Opening, input: StreamInput<Opening>) => Promise<StreamWork<Answer>>,
): AsyncGenerator<StreamOutput<Answer>, void, undefined> {
  const run = new Run(ports, call, name);
  const input = new StreamInput<Opening>({ messages, signal: call.signal, ...ports.streamLimits });
  const record = new StreamRecord<Answer>({ ports, run, input });
  let work: StreamWork<Answer> | undefined;
  let leave = (): void => undefined;
  let failure: unknown = new AgentError('CANCELLED'); // where the reader stops taking the output
  try {
    admit(ports, run);
    leave = ports.streamSlots.enter(run.tenant);
    const opening = await input.opening();
    await requireFresh(ports, run, opening.freshness);
    work = await open(run, opening, input);
    if (work.first !== undefined) {
      run.note({ stream: true });
      yield { begun: await run.begin(), source: work.source, streamKey: work.streamKey };
      if (work.streamKey !== undefined) {
        work.streamKey.key.fill(0);
        input.waitForEnd();
      }
      if (work.first.length > 0) yield { data: record.sending(work.first) };
    }
    for (let data = await input.next(); data !== undefined; data = await input.next()) {
      const pieces = work.update(data);
      if (pieces.length > 0) yield { data: record.sending(pieces) };
    }
    const { last, answer } = await work.final();
    record.sending(last);
    const performed = await record.write({ value: answer });
    if (last.length > 0) yield { data: last };
    yield { done: { ...performed, ...record.counts } };
  } catch (thrown) {
    failure = thrown;
    throw thrown;
  } finally {
    input.close();
    work?.wipe();
    leave();
    if (!record.isWritten)
      await record.write({ error: asAgentError(call.signal.aborted ? call.signal.reason : failure) });
  }
}
