// One call to the registry as a promise, and one answer stream as an iterator: with a deadline, an abort and a Refusal
// for whatever goes wrong.
import type { Client, ClientReadableStream, Metadata } from '@grpc/grpc-js';
import { Metadata as CallMetadata } from '@grpc/grpc-js';
import { asRefusal, Refusal } from './refusal.ts';

/** A method as the generated service definitions have it. */
export interface Method<Req, Res> {
  readonly path: string;
  readonly requestSerialize: (request: Req) => Buffer;
  readonly responseDeserialize: (bytes: Buffer) => Res;
}

export const CALL_MS = 10_000;

const refuseAborted = (signal: AbortSignal | undefined): void => {
  if (signal?.aborted) throw new Refusal('CANCELLED', 'the call was cancelled');
};

export const unary = async <Req, Res>(
  client: Client,
  method: Method<Req, Res>,
  request: Req,
  options: { readonly deadline?: number; readonly signal?: AbortSignal } = {},
): Promise<Res> => {
  const { signal, deadline = Date.now() + CALL_MS } = options;
  refuseAborted(signal);
  const { promise, resolve, reject } = Promise.withResolvers<Res>();
  const { path, requestSerialize, responseDeserialize } = method;
  const metadata: Metadata = new CallMetadata();
  try {
    const call = client.makeUnaryRequest(
      path,
      requestSerialize,
      responseDeserialize,
      request,
      metadata,
      { deadline },
      (error, value) => {
        if (error !== null) reject(error);
        else resolve(value as Res);
      },
    );
    const abort = (): void => call.cancel();
    signal?.addEventListener('abort', abort, { once: true });
    try {
      return await promise;
    } finally {
      signal?.removeEventListener('abort', abort);
    }
  } catch (thrown) {
    throw asRefusal(thrown);
  }
};

/** Answers until the stream ends. Leaving the loop cancels it; so does the signal, which ends it without an error. */
export async function* answers<Req, Res>(
  client: Client,
  method: Method<Req, Res>,
  request: Req,
  signal: AbortSignal,
): AsyncGenerator<Res, void, undefined> {
  if (signal.aborted) return;
  const { path, requestSerialize, responseDeserialize } = method;
  let stream: ClientReadableStream<Res> | undefined;
  const abort = (): void => stream?.cancel();
  try {
    stream = client.makeServerStreamRequest(path, requestSerialize, responseDeserialize, request);
    signal.addEventListener('abort', abort, { once: true });
    yield* stream as AsyncIterable<Res>;
  } catch (thrown) {
    if (!signal.aborted) throw asRefusal(thrown);
  } finally {
    signal.removeEventListener('abort', abort);
    stream?.on('error', () => undefined).cancel(); // a cancelled stream emits one last error
  }
}
