// A stream whose chunks are made or opened in this process, with the key that the agent gives for this one container
// (docs/spec/chunked.md, "Local streams"), or by the agent where it gives none. Invariants: no data goes up before that is
// known; the last chunk comes out only once the agent has recorded the end; the key serves one stream and is wiped.
import { setImmediate as turn } from 'node:timers/promises';
import { CHUNK_BYTES, type ChunkKeys, chunkKeysOf } from '../../proto/documents/chunked/chunks.ts';
import { ChunkOpener } from '../../proto/documents/chunked/opener.ts';
import { ChunkSealer } from '../../proto/documents/chunked/sealer.ts';
import { type DataResponse, endedEarly, type Outcome } from './data-stream.ts';
import { MortiseError } from './errors.ts';
import type { SourceReader } from './source-reader.ts';
import { type Received, sourceFailure } from './stream-call.ts';

/** Worked on at once: whole chunks, and little enough that a large piece of the source stays no large output. */
const SLICE_BYTES = 16 * CHUNK_BYTES;
/** After so many bytes timers, signals and the agent are heard, also where source and reader never wait for anything. */
const TURN_BYTES = 8 * 1024 * 1024;

type Messages = AsyncGenerator<Received<DataResponse>, void, undefined>;

/** What turns data into chunks, or chunks into data. */
interface ChunkWork {
  update(data: Buffer): Buffer[];
  final(): Buffer[];
  wipe(): void;
}

/** Holds the data back until it is known who works on it, and the end until that is done. */
export class UploadGate {
  readonly #reader: SourceReader;
  #setWorker: (worker: 'agent' | 'client') => void = () => undefined;
  readonly #worker = new Promise<'agent' | 'client'>((resolve) => {
    this.#setWorker = resolve;
  });
  #setDone: () => void = () => undefined;
  readonly #done = new Promise<void>((resolve) => {
    this.#setDone = resolve;
  });
  #localBytes = 0;

  constructor(reader: SourceReader) {
    this.#reader = reader;
  }

  /** Plaintext that was worked on here. */
  get localBytes(): number {
    return this.#localBytes;
  }

  /** What goes up. */
  async *data(): AsyncGenerator<Buffer, void, undefined> {
    if ((await this.#worker) === 'agent') yield* this.#reader;
    else await this.#done;
  }

  toAgent(): void {
    this.#setWorker('agent');
  }

  /** Lets the end go up. */
  done(localBytes: number): void {
    this.#localBytes = localBytes;
    this.#setWorker('client');
    this.#setDone();
  }
}

export interface LocalStreamOptions {
  readonly direction: 'seal' | 'open';
  readonly reader: SourceReader;
  readonly gate: UploadGate;
  readonly messages: Messages;
  /** Ends the call. */
  readonly cancel: () => void;
  readonly correlationId: string;
}

/** The work on one stream, while its call waits for the end. */
class LocalRun {
  readonly #options: LocalStreamOptions;
  readonly #work: ChunkWork;
  #bytes = 0;
  #failure: unknown;
  #interrupt: ((reason: unknown) => void) | undefined;
  /** The agent's answer to the end; before it, whatever comes is a failure. */
  readonly #answer: Promise<Received<DataResponse> | undefined>;

  constructor(options: LocalStreamOptions, keys: ChunkKeys) {
    const { direction, messages, correlationId } = options;
    const refusal = (): MortiseError =>
      new MortiseError('INVALID_CIPHERTEXT', { message: 'the ciphertext could not be decrypted', correlationId });
    this.#options = options;
    this.#work = direction === 'seal' ? new ChunkSealer(keys) : new ChunkOpener({ keys, refusal });
    this.#answer = messages.next().then(({ value, done }) => (done ? undefined : value));
    this.#answer.then(
      () => this.#stop(endedEarly()),
      (error: unknown) => this.#stop(error),
    );
  }

  /** Everything but the last chunk, as it gets ready. */
  async *batches(): AsyncGenerator<readonly Buffer[], void, undefined> {
    let sinceTurn = 0;
    for (let data = await this.#next(); data !== undefined; data = await this.#next()) {
      for (let at = 0; at < data.length; at += SLICE_BYTES) {
        const slice = data.subarray(at, at + SLICE_BYTES);
        const pieces = this.#work.update(slice);
        this.#count(slice, pieces);
        if (pieces.length > 0) yield pieces;
        sinceTurn += slice.length;
        if (sinceTurn >= TURN_BYTES) {
          sinceTurn = 0;
          await turn();
        }
        if (this.#failure !== undefined) throw this.#failure;
      }
    }
  }

  /** The last chunk, and the agent's answer that the end is recorded. */
  async finish(): Promise<{ last: readonly Buffer[]; answer: Received<DataResponse> }> {
    const { gate, messages } = this.#options;
    const last = this.#work.final();
    this.#count(Buffer.alloc(0), last);
    gate.done(this.#bytes);
    const answer = await this.#answer;
    if (answer === undefined || !(await messages.next()).done) throw endedEarly();
    return { last, answer };
  }

  wipe(): void {
    this.#work.wipe();
  }

  #count(data: Buffer, pieces: readonly Buffer[]): void {
    if (this.#options.direction === 'seal') this.#bytes += data.length;
    else for (const { length } of pieces) this.#bytes += length;
  }

  #stop(reason: unknown): void {
    this.#failure = reason;
    this.#interrupt?.(reason);
  }

  #next(): Promise<Buffer | undefined> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    return new Promise((resolve, reject) => {
      this.#interrupt = reject;
      const failed = (cause: unknown): void => reject(sourceFailure(cause, this.#options.correlationId));
      this.#options.reader.next().then(resolve, failed);
    });
  }
}

/** The key out of the agent's answer, whose bytes are wiped. */
const takeKeys = (streamKey: { readonly key: Buffer; readonly baseNonce: Buffer }): ChunkKeys => {
  try {
    return chunkKeysOf(streamKey.key, streamKey.baseNonce);
  } finally {
    streamKey.key.fill(0);
  }
};

/** The stream, whoever works on it. */
export async function* localStream(options: LocalStreamOptions): AsyncGenerator<Outcome, void, undefined> {
  const { gate, messages, cancel, reader } = options;
  let run: LocalRun | undefined;
  let isWhole = false;
  try {
    const { value: first, done } = await messages.next();
    if (done) return;
    yield first;
    const part = 'response' in first ? first.response.part : undefined;
    const streamKey = part?.$case === 'begun' ? part.value.streamKey : undefined;
    if (streamKey === undefined) {
      gate.toAgent();
      yield* messages;
      isWhole = true;
      return;
    }
    run = new LocalRun(options, takeKeys(streamKey));
    if (streamKey.opening.length > 0) yield { pieces: [streamKey.opening] };
    for await (const pieces of run.batches()) yield { pieces };
    const { last, answer } = await run.finish();
    isWhole = true;
    yield { pieces: last };
    yield answer;
  } finally {
    run?.wipe();
    reader.close();
    if (!isWhole) {
      cancel();
      gate.done(0);
      await messages.return();
    }
  }
}
