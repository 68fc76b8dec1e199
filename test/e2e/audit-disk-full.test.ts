// The disk of the audit log fills up: operations are refused with a clear error, nothing is answered unrecorded, and
// service returns with the space, without a restart.
import assert from 'node:assert/strict';
import { mkdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { type MortiseClient, MortiseError } from '../../clients/typescript/index.ts';
import { type RunningAgent, startAgent } from '../support/agent.ts';
import { smallFileSystem } from '../support/folder.ts';
import { type Answer, allRecords, assertRecorded, clientOf, startLoad } from './load.ts';

const MIB = 1024 ** 2;
const cleanUps: (() => void)[] = [];
const disk = smallFileSystem({ after: (undo: () => void) => void cleanUps.push(undo) } as never, '96m');
const skip = disk === undefined ? 'this user may not mount a file system' : false;

let agent: RunningAgent;
let acme: MortiseClient;
let globex: MortiseClient;
const answers: Answer[] = [];
const message = Buffer.from('recorded or not done');

/** Leaves so much free. */
const fill = (leave: number): void => {
  const { bavail, bsize } = statfsSync(disk as string);
  writeFileSync(join(disk as string, 'filler'), Buffer.alloc(Math.max(0, bavail * bsize - leave)));
};

before(async () => {
  if (disk === undefined) return;
  const dataDir = join(disk, 'data');
  mkdirSync(dataDir, { mode: 0o700 });
  agent = await startAgent({
    dataDir,
    tenantPolicies: { acme: { audit: { durability: 'committed', whenUnavailable: 'refuse' } } },
    platform: { audit: { durability: 'committed', whenUnavailable: 'process-only' } },
  });
  acme = clientOf(agent, 'acme', { retry: false });
  globex = clientOf(agent, 'globex', { retry: false });
  for (const client of [acme, globex]) {
    await client.keys.create({ keyId: 'signer', purpose: 'sign', algorithm: 'EC-P256' });
  }
});
after(async () => {
  acme?.close();
  globex?.close();
  await agent?.stop();
  for (const undo of cleanUps) undo();
});

test('1: under load the disk fills up: some answers, then refusals that say why', { skip }, async () => {
  const load = startLoad({
    client: acme,
    callers: 4,
    operation: 'sign',
    act: (caller, correlationId) => caller.sign('signer', { message }, { correlationId }),
  });
  await load.more(20, 'ok');
  fill(2 * MIB);
  await load.more(20, 'AUDIT_UNAVAILABLE');
  await load.stop();
  answers.push(...load.answers);
  const codes = new Set(load.answers.map(({ outcome }) => outcome));
  assert.deepEqual([...codes].sort(), ['AUDIT_UNAVAILABLE', 'ok']);
});

test('2: the error is retryable and says that nothing was done', { skip }, async () => {
  const error = await acme.sign('signer', { message }).catch((thrown: unknown) => thrown);
  assert.ok(error instanceof MortiseError);
  assert.deepEqual([error.reason, error.retryable], ['AUDIT_UNAVAILABLE', true]);
  assert.match(error.message, /recorded/);
});

test('3: health names the audit log, the agent lives, the log of the process says it', { skip }, async () => {
  await agent.logged(({ msg, part }) => msg === 'part is not healthy' && part === 'audit');
  assert.equal(await acme.health('mortise.audit'), 'NOT_SERVING');
  assert.equal(await acme.health('mortise.token'), 'SERVING');
});

test('4: where policy says process-only, verification goes on, marked, and signing does not', { skip }, async () => {
  rmSync(join(disk as string, 'filler'));
  await agent.logged(({ msg, part }) => msg === 'part is healthy again' && part === 'audit');
  const { jws } = await globex.sign('signer', { message });
  const from = agent.logs.length;
  fill(2 * MIB);
  await agent.logged(({ msg, part }) => msg === 'part is not healthy' && part === 'audit', from);
  const verified = await globex.verify({ jws });
  assert.equal(verified.valid, true);
  assert.deepEqual(
    verified.envelope.warnings.map(({ code }) => code),
    ['AUDIT_SUSPENDED'],
  );
  await assert.rejects(globex.sign('signer', { message }), { code: 'AUDIT_UNAVAILABLE' });
  await assert.rejects(acme.verify({ jws: (await acme.sign('signer', { message }).catch(() => ({ jws }))).jws }), {
    code: 'AUDIT_UNAVAILABLE',
  });
});

test('5: with space service returns by itself, with everything answered in the log', { skip }, async () => {
  const from = agent.logs.length;
  rmSync(join(disk as string, 'filler'));
  await agent.logged(({ msg, part }) => msg === 'part is healthy again' && part === 'audit', from);
  assert.equal(await acme.health(), 'SERVING');
  await acme.sign('signer', { message });
  assertRecorded(answers, await allRecords(acme));
  for (const client of [acme, globex]) assert.deepEqual((await client.audit.verify()).findings, []);
});

test('6: an agent that finds the disk full at its start waits, says so, and serves once there is space', {
  skip,
}, async () => {
  fill(1 * MIB);
  await agent.end('SIGKILL');
  const from = agent.logs.length;
  agent.spawn();
  const waiting = await agent.logged(({ msg }) => ['agent cannot serve yet', 'agent cannot start'].includes(msg), from);
  assert.equal(waiting.msg, 'agent cannot serve yet');
  assert.equal(waiting['part'], 'audit');
  await assert.rejects(acme.sign('signer', { message }), { code: 'AUDIT_UNAVAILABLE' });
  rmSync(join(disk as string, 'filler'));
  await agent.logged(({ msg }) => msg === 'agent is READY', from);
  await acme.sign('signer', { message });
});
