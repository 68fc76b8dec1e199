// The load client: the TypeScript client in a process of its own, as an application has it. One connection for each
// agent, tenant and door; keys are named, answers are looked at only for being there.
import { randomBytes } from 'node:crypto';
import { setFlagsFromString } from 'node:v8';
import { connect, type MortiseClient } from '../../clients/typescript/index.ts';
import { echo } from './bare-stream.ts';
import { closedLoop, type Load, openLoop } from './loops.ts';
import { answerQuestions } from './remote.ts';
import { KEYS, type KeyWish, PIECE_BYTES, STREAM_KEY, WORKS, type WorkName } from './work.ts';

export type Door = 'unary' | 'pipeline';

export interface Connection {
  readonly socket: string;
  /** A JWT. */
  readonly token: string;
  readonly door: Door;
}

export type ClientQuestion =
  | { readonly makeKeys: Connection }
  | { readonly countBuffersAsHeap: true }
  | { readonly stream: Connection; readonly bytes: number; readonly isLocal: boolean }
  | { readonly echo: string; readonly bytes: number }
  | {
      readonly work: WorkName;
      readonly by: Connection;
      readonly ms: number;
      /** Callers that each wait for their answer … */
      readonly inFlight?: number;
      /** … or operations per second, at random moments. */
      readonly perSecond?: number;
    };

const clients = new Map<string, MortiseClient>();

const clientOf = ({ socket, token, door }: Connection): MortiseClient => {
  const name = `${socket} ${token} ${door}`;
  const known = clients.get(name);
  if (known !== undefined) return known;
  const client = connect({ socketPath: socket, token, transport: door });
  clients.set(name, client);
  return client;
};

const makeKey = async (client: MortiseClient, { keyId, purpose, algorithm, jose }: KeyWish): Promise<void> => {
  await client.keys.create({ keyId, purpose, algorithm, ...(algorithm.startsWith('RSA') && { joseAlgorithm: jose }) });
};

/** The work as a function of nothing. */
const prepare = async (client: MortiseClient, name: WorkName): Promise<() => Promise<unknown>> => {
  const { does, key, bytes } = WORKS[name];
  const { keyId } = key;
  const data = randomBytes(bytes);
  switch (does) {
    case 'sign':
      return () => client.sign(keyId, { digest: data }, { form: 'raw' });
    case 'mac':
      return () => client.mac(keyId, data);
    case 'encrypt':
      return () => client.encrypt(keyId, data);
    case 'decrypt': {
      const { jwe } = await client.encrypt(keyId, data);
      return () => client.decrypt(jwe);
    }
    case 'verify': {
      const { signature } = await client.sign(keyId, { message: data }, { form: 'raw' });
      return async () => {
        const { valid } = await client.verify({ raw: signature, message: data }, { key: keyId });
        if (!valid) throw new Error('the signature does not verify');
      };
    }
  }
};

const PIECE = randomBytes(PIECE_BYTES);

function* pieces(bytes: number): Generator<Buffer> {
  for (let left = bytes; left > 0; left -= PIECE_BYTES) yield PIECE;
}

/** Milliseconds that the encryption of so many bytes takes, the container taken up and thrown away. */
const encryptStream = async (client: MortiseClient, bytes: number, isLocal: boolean): Promise<number> => {
  const from = performance.now();
  let received = 0;
  const stream = client.streams.encrypt(STREAM_KEY, pieces(bytes), { local: isLocal ? 'always' : 'never' });
  for await (const batch of stream.batches()) for (const piece of batch) received += piece.length;
  if (received <= bytes) throw new Error(`only ${received} bytes came back`);
  return performance.now() - from;
};

answerQuestions(async (question: ClientQuestion): Promise<Load | number | undefined> => {
  if ('echo' in question) return echo(question.echo, question.bytes);
  if ('stream' in question) return encryptStream(clientOf(question.stream), question.bytes, question.isLocal);
  if ('countBuffersAsHeap' in question) {
    setFlagsFromString('--external-memory-accounted-in-global-limit');
    return undefined;
  }
  if ('makeKeys' in question) {
    for (const key of KEYS) await makeKey(clientOf(question.makeKeys), key);
    return undefined;
  }
  const { work, by, ms, inFlight = 1, perSecond } = question;
  const run = await prepare(clientOf(by), work);
  return perSecond === undefined ? closedLoop(run, inFlight, ms) : openLoop(run, perSecond, ms);
});
