// The way out of a pipeline: answers of one turn of the event loop leave in one message, and those that are given while
// a message is on its way leave together after it. Invariant: answers leave in the order in which they were added.
import type { CallContext } from './call-context.ts';

/** The writing half of a grpc-js stream that takes encoded messages. */
export interface Sink {
  write(message: Buffer, taken: () => void): boolean;
}

const MESSAGE_BYTES = 256 * 1024; // more costs latency and saves nothing; a larger answer goes alone
const ANSWERS_TAG = 10; // field 1, length-delimited: in PipelineResponse and in BatchResponse

const HEAD_BYTES = 1 + 5; // tag, and a length of at most 32 bits

/** PipelineResponse and BatchResponse alike, from answers that are encoded already; they are copied once. */
export const encodeAnswers = (answers: readonly Uint8Array[]): Buffer => {
  const message = Buffer.allocUnsafe(answers.reduce((sum, answer) => sum + HEAD_BYTES + answer.length, 0));
  let at = 0;
  for (const answer of answers) {
    message[at++] = ANSWERS_TAG;
    let length = answer.length;
    for (; length > 0x7f; length >>>= 7) message[at++] = (length & 0x7f) | 0x80;
    message[at++] = length;
    message.set(answer, at);
    at += answer.length;
  }
  return message.subarray(0, at);
};

export class PipelineOutput {
  readonly #sink: Sink;
  readonly #context: CallContext;
  readonly #taken: () => void;
  #answers: Uint8Array[] = [];
  #bytes = 0;
  #isWriting = false;
  #isScheduled = false;

  /** `taken` is called when the client has taken up a message. */
  constructor(parts: { readonly sink: Sink; readonly context: CallContext; readonly taken: () => void }) {
    this.#sink = parts.sink;
    this.#context = parts.context;
    this.#taken = parts.taken;
  }

  /** Bytes of answers that wait to be sent. */
  get waitingBytes(): number {
    return this.#bytes;
  }

  add(answer: Uint8Array): void {
    this.#answers.push(answer);
    this.#bytes += answer.length;
    this.#context.answering(answer.length);
    if (this.#isScheduled || this.#isWriting) return;
    this.#isScheduled = true;
    process.nextTick(() => {
      this.#isScheduled = false;
      if (!this.#isWriting) this.#send();
    });
  }

  /** Hands over everything that waits, for the stream is about to be ended. */
  flush(): void {
    while (this.#answers.length > 0) this.#send();
  }

  #send(): void {
    const answers = this.#take();
    if (answers.length === 0) return;
    const bytes = answers.reduce((sum, answer) => sum + answer.length, 0);
    this.#isWriting = true;
    this.#sink.write(encodeAnswers(answers), () => {
      this.#isWriting = false;
      this.#context.taken(bytes);
      this.#send();
      this.#taken();
    });
  }

  /** What fits one message: at least one answer. */
  #take(): Uint8Array[] {
    let bytes = 0;
    let count = 0;
    for (const answer of this.#answers) {
      if (count > 0 && bytes + answer.length > MESSAGE_BYTES) break;
      bytes += answer.length;
      count += 1;
    }
    this.#bytes -= bytes;
    return this.#answers.splice(0, count);
  }
}
