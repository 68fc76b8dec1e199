// The two directions of a stream as asynchronous iterables, with back-pressure both ways. Invariant: neither outlives the
// call's signal.
import { once } from 'node:events';
import type { ServerDuplexStream, ServerWritableStream } from '@grpc/grpc-js';
import { RegistryError } from '../errors.ts';
import type { CallContext } from './call-context.ts';
import { decodeMessage } from './message.ts';

type Method = { requestDeserialize(bytes: Buffer): unknown };
type Readable = ServerDuplexStream<Buffer, unknown>;
type Writable = ServerWritableStream<Buffer, unknown> | ServerDuplexStream<Buffer, unknown>;

/** The client's messages; ends when the client half-closes, throws the signal's reason when the call is ended. */
export async function* requestsOf(
  call: Readable,
  method: Method,
  { context, maxUnhandled }: { readonly context: CallContext; readonly maxUnhandled: number },
): AsyncGenerator<unknown> {
  const waiting: Buffer[] = [];
  let ended = false;
  let wake: () => void = () => undefined;
  call.on('data', (bytes: Buffer) => {
    waiting.push(bytes);
    if (waiting.length >= maxUnhandled) call.pause();
    wake();
  });
  call.once('end', () => {
    ended = true;
    wake();
  });
  const abort = (): void => wake();
  context.signal.addEventListener('abort', abort, { once: true });
  try {
    for (;;) {
      const { reason } = context;
      if (reason !== undefined) throw reason;
      const bytes = waiting.shift();
      if (bytes !== undefined) {
        if (waiting.length < maxUnhandled && call.isPaused()) call.resume();
        yield decodeMessage(method, bytes);
      } else if (ended) return;
      else {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    }
  } finally {
    context.signal.removeEventListener('abort', abort);
    call.removeAllListeners('data');
    call.resume(); // what still comes is dropped
  }
}

/** Writes one message; waits while the client does not take them up. */
export const writeMessage = async (
  call: Writable,
  message: unknown,
  context: CallContext,
  answerMs: number,
): Promise<void> => {
  if (call.write(message)) return;
  const late = AbortSignal.timeout(answerMs);
  try {
    await once(call, 'drain', { signal: AbortSignal.any([context.signal, late]) });
  } catch (cause) {
    throw (
      context.reason ??
      new RegistryError('DEADLINE_EXCEEDED', { message: 'the client does not take up answers', cause })
    );
  }
};
