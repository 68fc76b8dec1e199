// What agents go on doing when their registry is killed, slow, silent, on a full disk, or behind a cut network: real
// processes, one token. In each: callers go on, changes are refused in words, and the ledger is complete afterwards.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { refusedWith } from '../e2e/load.ts';
import {
  assertComplete,
  loggedLoss,
  loggedReturn,
  makeStage,
  message,
  sign,
  until,
  untilDone,
  untilRefused,
  withSigner,
} from './support/registry-stage.ts';
import { makeSlowPath } from './support/slow-path.ts';

const run = promisify(execFile);
const isRoot = process.getuid?.() === 0;

test('a registry that is killed is not missed under the lease; past it the policy says what goes on', async (t) => {
  const stage = await makeStage(t, { platform: { lease: { maxStalenessSeconds: 5, whenStale: 'process-only' } } });
  const agent = await stage.fleet.agent('host-a');
  const client = await withSigner(t, agent);
  const { jws } = await client.sign('signer', { message });
  stage.signed += 1;
  await sleep(7_000); // longer than the lease: with a registry it does not run out
  await sign(stage, client, 10);
  await stage.registry.stop('SIGKILL');
  await sign(stage, client, 10);
  await assert.rejects(client.keys.rotate('signer'), refusedWith('REGISTRY_UNAVAILABLE'));
  const code = await untilRefused(() => sign(stage, client, 1));
  assert.equal(code, 'POLICY_STALE');
  const verified = await client.verify({ jws });
  assert.equal(verified.valid, true, 'what was signed is still verified');
  await stage.registry.start();
  await untilDone('a signature under the renewed lease', () => sign(stage, client, 1));
  await sign(stage, client, 10);
  await assertComplete(t, stage);
});

test('a slow registry slows down changes of keys and nothing else', async (t) => {
  const stage = await makeStage(t);
  const path = await makeSlowPath(stage.registry.port);
  t.after(() => path[Symbol.asyncDispose]());
  const agent = await stage.fleet.agent('host-a', {
    env: { MORTISE_REGISTRY_URL: `https://localhost:${path.port}` },
  });
  const client = await withSigner(t, agent);
  path.delay(1_000);
  let rotated = false;
  const rotation = client.keys.rotate('signer').then(() => {
    rotated = true;
  });
  await sign(stage, client, 100);
  assert.equal(rotated, false, 'a hundred signatures were there before the registry had answered once');
  await rotation;
  await sign(stage, client, 50);
  await assertComplete(t, stage);
  assert.equal(agent.logs.some(loggedLoss), false, 'slow is not gone');
});

test('a path that swallows everything is noticed without a word from anybody, and left once it is whole', async (t) => {
  const stage = await makeStage(t);
  const path = await makeSlowPath(stage.registry.port);
  t.after(() => path[Symbol.asyncDispose]());
  const agent = await stage.fleet.agent('host-a', {
    env: { MORTISE_REGISTRY_URL: `https://localhost:${path.port}` },
  });
  const client = await withSigner(t, agent);
  const from = agent.logs.length;
  path.swallow(true);
  await sign(stage, client, 50);
  await until('the loss of the session', () => agent.logs.slice(from).some(loggedLoss));
  await assert.rejects(client.keys.rotate('signer'), refusedWith('REGISTRY_UNAVAILABLE'));
  await sign(stage, client, 50);
  path.swallow(false);
  await until('the return of the session', () => agent.logs.slice(from).some(loggedReturn));
  await untilDone('a rotation', () => client.keys.rotate('signer'));
  await assertComplete(t, stage);
});

/** A file system of its own for the registry's store. */
const smallDisk = async (t: TestContext, megabytes: number): Promise<string> => {
  const folder = await mkdtemp(join(tmpdir(), 'mortise-disk-'));
  await run('mount', ['-t', 'tmpfs', '-o', `size=${megabytes}m,mode=700`, 'tmpfs', folder]);
  t.after(async () => {
    await run('umount', ['--lazy', folder]);
    await rm(folder, { recursive: true });
  });
  return folder;
};

test('a registry whose disk is full takes no records and still revokes a key; with room it takes what waited', {
  skip: isRoot ? false : 'only root can mount a small disk',
}, async (t) => {
  const disk = await smallDisk(t, 64);
  const stage = await makeStage(t, { env: { REGISTRY_DATA_DIR: join(disk, 'data') } });
  const agent = await stage.fleet.agent('host-a');
  const client = await withSigner(t, agent);
  await client.keys.create({ keyId: 'other', purpose: 'sign', algorithm: 'EC-P256' });
  await sign(stage, client, 10);
  const ballast = join(disk, 'ballast');
  const { stdout } = await run('df', ['--output=avail', '-B1', disk]);
  const left = Number(stdout.split('\n')[1]);
  await writeFile(ballast, Buffer.alloc(left - 8 * 2 ** 20)); // below what the ledger leaves free
  await sign(stage, client, 200);
  await agent.logged(({ part, code }) => part === 'ledger' && code === 'STORE_UNAVAILABLE');
  await client.keys.revoke('other', { reason: 'stolen' });
  await assert.rejects(client.sign('other', { message }), refusedWith('KEY_STATE'));
  await sign(stage, client, 50);
  await truncate(ballast, 0);
  await assertComplete(t, stage);
});
