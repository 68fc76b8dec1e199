// A real agent as the KMS v2 plugin of an API server: real token, policy and log, through restarts, rotation and a token
// that hangs.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { status } from '@grpc/grpc-js';
import type { MortiseClient } from '../../clients/typescript/index.ts';
import type { EncryptResponse } from '../../proto/gen/kubernetes/kms/v2/api.ts';
import { kmsClientOf } from '../agent/server/kms/support.ts';
import { type RunningAgent, startAgent } from '../support/agent.ts';
import { freeze } from '../support/freeze.ts';
import { allRecords, clientOf } from './load.ts';

const PATIENCE_MS = 30_000;
const seed = randomBytes(32);
const uid = process.getuid?.() ?? 0;

let agent: RunningAgent;
let folder: string;
let client: MortiseClient;
let platform: MortiseClient;
let kms: ReturnType<typeof kmsClientOf>;
const closers: (() => void)[] = [];
let first: EncryptResponse;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'mortise-kms-'));
  const path = join(folder, 'kms.sock');
  agent = await startAgent({
    env: {
      MORTISE_KMS_SOCKET_PATH: path,
      MORTISE_KMS_TENANT: 'acme',
      MORTISE_KMS_KEY: 'etcd',
      MORTISE_KMS_PEERS: `uid:${uid}`,
      PKCS11_SESSION_POOL_SIZE: '2',
    },
  });
  client = clientOf(agent, 'acme');
  platform = clientOf(agent, '_platform', { scopes: ['audit.read'] });
  kms = kmsClientOf({ after: (close: () => void) => void closers.push(close) } as never, path);
});
after(async () => {
  for (const close of closers) close();
  client?.close();
  platform?.close();
  await agent?.stop();
  await rm(folder, { recursive: true, force: true });
});

/** Polls as the API server does, faster. */
const healthz = async (fits: (text: string) => boolean): Promise<string> => {
  const until = Date.now() + PATIENCE_MS;
  for (;;) {
    // While the agent restarts the client may meet nobody.
    const said = await kms.status().then(({ healthz: text }) => text, String);
    if (fits(said)) return said;
    if (Date.now() > until) throw new Error(`healthz is still: ${said}`);
    await sleep(20);
  }
};
const isOk = (text: string): boolean => text === 'ok';

test('1: without its key the plugin is not well; with it the API server can encrypt and decrypt', async () => {
  assert.equal(await healthz(() => true), 'KEY_UNKNOWN: no such key');
  await client.keys.create({ keyId: 'etcd', purpose: 'encrypt', algorithm: 'AES-256' });
  assert.equal(await healthz(isOk), 'ok');
  first = await kms.encrypt(seed, 'uid-of-the-api-server');
  assert.equal(first.keyId, (await kms.status()).keyId);
  assert.deepEqual(await kms.decrypt(first), seed);
  const mine = (await allRecords(client)).filter(({ principal }) => principal === 'kubernetes:apiserver');
  assert.deepEqual(
    mine.map(({ operation, outcome, key }) => [operation, outcome, key]),
    [
      ['encrypt', 'ok', 'etcd/1'],
      ['decrypt', 'ok', 'etcd/1'],
    ],
  );
  assert.equal(mine[0]?.correlationId, 'uid-of-the-api-server');
});

test('2: a restart of the agent changes no key_id and keeps old data readable', async () => {
  await agent.end();
  await agent.start();
  await healthz(isOk);
  assert.equal((await kms.status()).keyId, first.keyId);
  assert.deepEqual(await kms.decrypt(first), seed);
});

test('3: rotation of the key changes key_id once, for Status and Encrypt alike, and old data stays readable', async () => {
  await client.keys.rotate('etcd');
  const { keyId } = await kms.status();
  assert.notEqual(keyId, first.keyId);
  const second = await kms.encrypt(seed);
  assert.equal(second.keyId, keyId);
  for (const sealed of [first, second]) assert.deepEqual(await kms.decrypt(sealed), seed);
  assert.equal((await kms.status()).keyId, keyId);
});

test('4: while the token hangs Status answers and says so, operations end, and all comes back', async () => {
  const hung = agent.tokenPid();
  await freeze(hung);
  const decrypting = Promise.allSettled([kms.decrypt(first)]); // its deadline is longer than the token is given
  assert.match(await healthz((text) => !isOk(text)), /^token: /);
  const [ended] = await decrypting;
  // The agent kills what hung, and may repeat a decryption in the next process: that is safe.
  if (ended.status === 'fulfilled') assert.deepEqual(ended.value, seed);
  else assert.equal(ended.reason.code, status.UNAVAILABLE);
  await healthz(isOk);
  assert.deepEqual(await kms.decrypt(first), seed);
  assert.notEqual(agent.tokenPid(), hung);
});

test('5: a peer that is not listed is refused, and that is recorded', async () => {
  await agent.end();
  await agent.start({ MORTISE_KMS_PEERS: `uid:${uid + 1},gid:${(process.getgid?.() ?? 0) + 1}` });
  await healthz((text) => text.includes('no valid credentials'));
  await assert.rejects(kms.decrypt(first), { code: status.UNAUTHENTICATED });
  const refused = (await allRecords(platform)).filter(({ operation }) => operation === 'decrypt');
  assert.deepEqual(
    refused.map(({ outcome, principal }) => [outcome, principal]),
    [['UNAUTHENTICATED', '-']],
  );
  await agent.end();
});

test('6: an agent that waits for its token answers Status at once and says what it waits for', async () => {
  const conf = agent.token.confPath;
  await rename(conf, `${conf}.away`);
  await writeFile(conf, (await readFile(`${conf}.away`, 'utf8')).replace('/tokens', '/no-tokens'));
  await mkdir(join(agent.token.folder, 'no-tokens'));
  const from = agent.logs.length;
  agent.spawn();
  await agent.logged(({ msg }) => msg === 'agent cannot serve yet', from);
  assert.match(await healthz((text) => text.startsWith('starting: ')), /token/);
  assert.equal((await kms.status()).keyId, '');
  await assert.rejects(kms.encrypt(seed), { code: status.UNAVAILABLE });
  await rename(`${conf}.away`, conf);
  process.kill(agent.pid, 'SIGHUP');
  await healthz(isOk);
  assert.deepEqual(await kms.decrypt(first), seed);
});
