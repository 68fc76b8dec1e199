// The least that a stream over gRPC costs: messages sent up and back unchanged, by grpc-js alone on both sides. What the
// agent's stream is compared with to tell its own cost from the carrier's.
import { once } from 'node:events';
import { Client, credentials, Server, ServerCredentials, type ServerDuplexStream } from '@grpc/grpc-js';

const PATH = '/bench.Echo/Echo';
const MESSAGE = Buffer.alloc(240 * 1024); // as the client of the agent cuts its data
const UNSENT_MESSAGES = 2;

const asItIs = (bytes: Buffer): Buffer => bytes;

const METHOD = {
  path: PATH,
  requestStream: true,
  responseStream: true,
  requestSerialize: asItIs,
  requestDeserialize: asItIs,
  responseSerialize: asItIs,
  responseDeserialize: asItIs,
} as const;

/** Serves until the process ends. */
export const serveEcho = async (socket: string): Promise<void> => {
  const server = new Server();
  const echo = (stream: ServerDuplexStream<Buffer, Buffer>): void => {
    stream.on('data', (message: Buffer) => {
      if (stream.write(message)) return;
      stream.pause();
      stream.once('drain', () => stream.resume());
    });
    stream.on('end', () => stream.end());
  };
  server.addService({ echo: METHOD }, { echo });
  await new Promise<void>((resolve, reject) => {
    const credentialsOfServer = ServerCredentials.createInsecure();
    server.bindAsync(`unix:${socket}`, credentialsOfServer, (error) => (error === null ? resolve() : reject(error)));
  });
};

/** Milliseconds that so many bytes take, up and back. */
export const echo = async (socket: string, bytes: number): Promise<number> => {
  const client = new Client(`unix:${socket}`, credentials.createInsecure());
  const stream = client.makeBidiStreamRequest(PATH, asItIs, asItIs);
  const from = performance.now();
  let received = 0;
  let unsent = 0;
  let wake = (): void => undefined;
  stream.on('data', (message: Buffer) => {
    received += message.length;
  });
  const ended = once(stream, 'end');
  for (let left = bytes; left > 0; left -= MESSAGE.length) {
    unsent += 1;
    stream.write(MESSAGE, () => {
      unsent -= 1;
      wake();
    });
    if (unsent < UNSENT_MESSAGES) continue;
    await new Promise<void>((resolve) => {
      wake = resolve;
    });
  }
  stream.end();
  await ended;
  client.close();
  if (received < bytes) throw new Error(`only ${received} bytes came back`);
  return performance.now() - from;
};
