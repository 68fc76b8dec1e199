// One message of the pipeline: calls that fit into it, the token that they are made with, and cancels.
import { BinaryWriter } from '@bufbuild/protobuf/wire';
import { PipelineCall } from '../../proto/gen/mortise/agent/v1/pipeline.ts';
import { asMortiseError, MortiseError } from './errors.ts';
import type { PendingCall } from './pending-call.ts';

const MESSAGE_BYTES = 256 * 1024; // more saves nothing; a larger call goes alone
// The agent reads messages of up to 4 MiB; a larger one would end the stream and with it the calls of others.
const MAX_CALL_BYTES = 4 * 1024 * 1024 - 32 * 1024;

// Field numbers of PipelineRequest, with wire type 2 (length-delimited).
const CALLS_TAG = 10;
const TOKEN_TAG = 18;
const CANCEL_TAG = 26;
const CALL_HEAD_BYTES = 1 + 4; // tag, and a length of at most 28 bits

export interface Message {
  readonly bytes: Buffer;
  readonly sent: readonly PendingCall[];
  /** How many calls were taken from the queue, settled ones included. */
  readonly taken: number;
}

/**
 * Encodes one call after the other in one buffer. A writer of its own for each takes three bytes for each character of a
 * text, in steps that double, zeroes them and leaves them to be collected.
 */
class CallEncoder {
  #writer = new BinaryWriter();

  /** Undefined where the call cannot be sent; it is rejected alone. */
  encode(call: PendingCall, sequence: number): Uint8Array | undefined {
    const { name, request, attempt } = call;
    const writer = this.#writer;
    this.#writer = new BinaryWriter(); // where the encoding throws, the other holds a part of a call
    try {
      const bytes = PipelineCall.encode(
        {
          sequence,
          timeoutMs: Math.max(1, Math.ceil(attempt.deadline - Date.now())),
          correlationId: attempt.correlationId,
          request: { $case: name, value: request } as PipelineCall['request'],
        },
        writer,
      ).finish();
      this.#writer = writer;
      if (bytes.length <= MAX_CALL_BYTES) return bytes;
      const { correlationId } = attempt;
      call.reject(new MortiseError('TOO_LARGE', { message: 'the request is larger than the limit', correlationId }));
    } catch (thrown) {
      call.reject(asMortiseError(thrown, attempt.correlationId));
    }
    return undefined;
  }
}

const encodeHead = (token: string | undefined, cancel: readonly number[]): Uint8Array => {
  const writer = new BinaryWriter();
  if (token !== undefined) writer.uint32(TOKEN_TAG).string(token);
  if (cancel.length > 0) {
    writer.uint32(CANCEL_TAG).fork();
    for (const sequence of cancel) writer.uint32(sequence);
    writer.join();
  }
  return writer.finish();
};

/** PipelineRequest of parts that are encoded already; they are copied once. */
const joined = (head: Uint8Array, calls: readonly Uint8Array[]): Buffer => {
  const most = calls.reduce((sum, call) => sum + CALL_HEAD_BYTES + call.length, head.length);
  const message = Buffer.allocUnsafe(most);
  message.set(head, 0);
  let at = head.length;
  for (const call of calls) {
    message[at++] = CALLS_TAG;
    let length = call.length;
    for (; length > 0x7f; length >>>= 7) message[at++] = (length & 0x7f) | 0x80;
    message[at++] = length;
    message.set(call, at);
    at += call.length;
  }
  return message.subarray(0, at);
};

/** Takes calls from the front of the queue that have the same token, as far as there is room. */
export const nextMessage = (from: {
  readonly queue: readonly PendingCall[];
  readonly room: number;
  readonly cancel: readonly number[];
  /** The token in force on the stream. */
  readonly token: string | undefined;
  nextSequence(): number;
}): Message => {
  const token = from.queue.find((call) => !call.isSettled)?.attempt.token;
  const encoder = new CallEncoder();
  const calls: Uint8Array[] = [];
  const sent: PendingCall[] = [];
  let bytes = 0;
  let taken = 0;
  for (const call of from.queue) {
    if (!call.isSettled) {
      if (sent.length >= from.room || call.attempt.token !== token || bytes >= MESSAGE_BYTES) break;
      const sequence = from.nextSequence();
      const encoded = encoder.encode(call, sequence);
      if (encoded !== undefined) {
        if (bytes > 0 && bytes + encoded.length > MESSAGE_BYTES) break;
        bytes += encoded.length;
        calls.push(encoded);
        call.sequence = sequence;
        sent.push(call);
      }
    }
    taken += 1;
  }
  const head = encodeHead(token === from.token ? undefined : token, from.cancel);
  return { bytes: joined(head, calls), sent, taken };
};
