// Somebody who can write the data folder but does not have the token edits the key store while the agent is stopped: the
// keys that were touched cannot be used, everything else works, and the agent says so everywhere.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { type Database, open } from 'lmdb';
import type { MortiseClient } from '../../clients/typescript/index.ts';
import { type RunningAgent, startAgent } from '../support/agent.ts';
import { clientOf, refusedWith } from './load.ts';

const MAC_BYTES = 32;
const message = Buffer.from('signed before and after');

let agent: RunningAgent;
let client: MortiseClient;

before(async () => {
  agent = await startAgent();
  client = clientOf(agent, 'acme', { retry: false });
});
after(async () => {
  client?.close();
  await agent?.stop();
});

type Table = Database<Buffer, string>;

const withTable = async <T>(name: string, act: (table: Table) => Promise<T> | T): Promise<T> => {
  const root = open<Buffer, string>({ path: join(agent.dataDir, 'keys'), maxDbs: 8, encoding: 'binary' });
  try {
    return await act(root.openDB<Buffer, string>(name, { encoding: 'binary' }));
  } finally {
    await root.close();
  }
};
const read = (table: Table, key: string): Buffer => Buffer.from(table.get(key) as Buffer);

test('1: a record turned from REVOKED to ACTIVE, and one taken back, cost their own keys', async () => {
  for (const keyId of ['edited', 'taken-back', 'sound']) await client.keys.create({ keyId, purpose: 'sign' });
  const { jws } = await client.sign('sound', { message });
  await agent.end();
  const older = await withTable('records', (table) => read(table, 'acme/taken-back'));
  await agent.start();
  for (const keyId of ['edited', 'taken-back']) await client.keys.revoke(keyId);
  await agent.end();
  await withTable('records', async (table) => {
    const stored = read(table, 'acme/edited');
    const text = stored.subarray(MAC_BYTES).toString();
    assert.match(text, /"state":"REVOKED"/);
    const edited = Buffer.from(text.replace('"state":"REVOKED"', '"state":"ACTIVE"'));
    await table.put('acme/edited', Buffer.concat([stored.subarray(0, MAC_BYTES), edited]));
    await table.put('acme/taken-back', older);
  });
  const from = agent.logs.length;
  await agent.start();
  for (const keyId of ['edited', 'taken-back']) {
    await assert.rejects(client.sign(keyId, { message }), refusedWith('KEY_STATE'));
    await assert.rejects(client.keys.create({ keyId, purpose: 'sign' }), refusedWith('KEY_STATE'));
    const damaged = ({ msg, key }: { msg: string; key?: unknown }) =>
      /key record is damaged/.test(msg) && key === keyId;
    assert.equal((await agent.logged(damaged, from)).level, 'error');
  }
  assert.equal((await client.verify({ jws })).valid, true);
  await client.sign('sound', { message });
  await client.keys.create({ keyId: 'made-after', purpose: 'encrypt' });
  await client.keys.rotate('sound');
});

test('2: health names the damage and goes on serving', async () => {
  const { parts } = await client.status();
  const keys = parts.find(({ part }) => part === 'keys');
  assert.equal(keys?.healthy, false);
  assert.match(keys?.detail ?? '', /2 stored rows are damaged/);
  assert.equal(await client.health('mortise.keys'), 'SERVING');
  await agent.logged(({ msg, part }) => msg === 'part is not healthy' && part === 'keys');
});

test('3: without its index no key is served; put back, the agent comes into service by itself', async () => {
  await agent.end();
  const root = await withTable('seals', async (table) => {
    const bytes = read(table, 'root');
    await table.remove('root');
    return bytes;
  });
  const from = agent.logs.length;
  agent.spawn();
  const waiting = await agent.logged(({ msg, part }) => msg === 'agent cannot serve yet' && part === 'keys', from);
  assert.match(JSON.stringify(waiting['error']), /root of the index is missing; restore the data folder/);
  await assert.rejects(client.sign('sound', { message }), refusedWith('STORE_UNAVAILABLE'));
  assert.equal(await client.health('mortise.keys'), 'NOT_SERVING');
  await withTable('seals', (table) => table.put('root', root));
  await agent.logged(({ msg }) => msg === 'agent is READY', from);
  await client.sign('sound', { message });
});
