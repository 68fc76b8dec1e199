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

export interface Message {
  readonly bytes: Buffer;
  readonly sent: readonly PendingCall[];
  /** How many calls were taken from the queue, settled ones included. */
  readonly taken: number;
}

const encodeCall = ({ name, request, attempt }: PendingCall, sequence: number): Uint8Array =>
  PipelineCall.encode({
    sequence,
    timeoutMs: Math.max(1, Math.ceil(attempt.deadline - Date.now())),
    correlationId: attempt.correlationId,
    request: { $case: name, value: request } as PipelineCall['request'],
  }).finish();

/** Encodes a call; one that cannot be sent is rejected alone. */
const tryEncode = (call: PendingCall, sequence: number): Uint8Array | undefined => {
  try {
    const bytes = encodeCall(call, sequence);
    if (bytes.length <= MAX_CALL_BYTES) return bytes;
    const { correlationId } = call.attempt;
    call.reject(new MortiseError('TOO_LARGE', { message: 'the request is larger than the limit', correlationId }));
  } catch (thrown) {
    call.reject(asMortiseError(thrown, call.attempt.correlationId));
  }
  return undefined;
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
  const writer = new BinaryWriter();
  if (token !== undefined && token !== from.token) writer.uint32(TOKEN_TAG).string(token);
  if (from.cancel.length > 0) {
    writer.uint32(CANCEL_TAG).fork();
    for (const sequence of from.cancel) writer.uint32(sequence);
    writer.join();
  }
  const sent: PendingCall[] = [];
  let bytes = 0;
  let taken = 0;
  for (const call of from.queue) {
    if (!call.isSettled) {
      if (sent.length >= from.room || call.attempt.token !== token || bytes >= MESSAGE_BYTES) break;
      const sequence = from.nextSequence();
      const encoded = tryEncode(call, sequence);
      if (encoded !== undefined) {
        if (bytes > 0 && bytes + encoded.length > MESSAGE_BYTES) break;
        bytes += encoded.length;
        writer.uint32(CALLS_TAG).bytes(encoded);
        call.sequence = sequence;
        sent.push(call);
      }
    }
    taken += 1;
  }
  const message = writer.finish();
  return { bytes: Buffer.from(message.buffer, message.byteOffset, message.length), sent, taken };
};
