// The load client of the post-quantum rows: the TypeScript client over Pipeline in a process of its own.
import { randomBytes } from 'node:crypto';
import { connect, type MortiseClient } from '../../clients/typescript/index.ts';
import type { Connection } from './client.ts';
import { closedLoop, type Load, openLoop } from './loops.ts';
import { MESSAGE_BYTES, POST_QUANTUM_WORKS, type PostQuantumWorkName } from './post-quantum-work.ts';
import { answerQuestions } from './remote.ts';

export type PostQuantumQuestion =
  | { readonly makeKeys: Connection; readonly works: readonly PostQuantumWorkName[] }
  | {
      readonly work: PostQuantumWorkName;
      readonly by: Connection;
      readonly ms: number;
      readonly inFlight?: number;
      readonly perSecond?: number;
    };

const DEADLINE_MS = 60_000; // 64 slow signatures wait for one another
const clients = new Map<string, MortiseClient>();

const clientOf = ({ socket, token }: Connection): MortiseClient => {
  const known = clients.get(token);
  if (known !== undefined) return known;
  const client = connect({ socketPath: socket, token, transport: 'pipeline', deadlineMs: DEADLINE_MS });
  clients.set(token, client);
  return client;
};

const prepare = async (client: MortiseClient, name: PostQuantumWorkName): Promise<() => Promise<unknown>> => {
  const { does, key } = POST_QUANTUM_WORKS[name];
  const { keyId } = key;
  const message = randomBytes(MESSAGE_BYTES);
  if (does === 'sign') return () => client.sign(keyId, { message }, { form: 'raw' });
  if (does === 'encrypt') return () => client.encrypt(keyId, message);
  if (does === 'decrypt') {
    const { jwe } = await client.encrypt(keyId, message);
    return () => client.decrypt(jwe);
  }
  const { signature } = await client.sign(keyId, { message }, { form: 'raw' });
  return async () => {
    const { valid } = await client.verify({ raw: signature, message }, { key: keyId });
    if (!valid) throw new Error('the signature does not verify');
  };
};

answerQuestions(async (question: PostQuantumQuestion): Promise<Load | undefined> => {
  if ('makeKeys' in question) {
    const { keys } = clientOf(question.makeKeys);
    for (const work of question.works) {
      const { keyId, purpose, algorithm } = POST_QUANTUM_WORKS[work].key;
      await keys.create({ keyId, purpose, algorithm });
    }
    return undefined;
  }
  const { work, by, ms, inFlight = 1, perSecond } = question;
  const run = await prepare(clientOf(by), work);
  return perSecond === undefined ? closedLoop(run, inFlight, ms) : openLoop(run, perSecond, ms);
});
