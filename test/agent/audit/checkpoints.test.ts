import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AgentError } from '../../../agent/errors.ts';
import { verifyCheckpoint } from '../../../proto/documents/checkpoint.ts';
import { appendMany, createToken, entry, openLog, recordEvents, tempFolder } from './fixture.ts';

test('appends never visit the token', async (t) => {
  const token = createToken();
  const log = await openLog(t, { path: tempFolder(t), token });
  const { wrap, unwrap, sign } = { ...token.calls };
  token.broken = new AgentError('HSM_UNAVAILABLE');
  await appendMany(log, 'acme', 200);
  assert.equal((await log.list('acme', { limit: 1000 })).length, 200);
  assert.deepEqual(token.calls, { wrap, unwrap, sign });
});

test('signs after so many records, and at close', async (t) => {
  const path = tempFolder(t);
  const token = createToken();
  const events = recordEvents();
  const log = await openLog(t, { path, token, events, limits: { checkpointRecords: 50 } });
  const signed = events.next('checkpointSigned');
  await appendMany(log, 'acme', 60, 10);
  const { size } = (await signed) as { size: number };
  assert.ok(size >= 50);
  await log.append(entry('acme'));
  await log.close();
  const reopened = await openLog(t, { path, token });
  const calls = token.calls.sign;
  assert.equal((await reopened.checkpoint('acme')).size, 61);
  assert.equal(token.calls.sign, calls, 'the one signed at close serves');
});

test('signs some time after the first new record', async (t) => {
  const events = recordEvents();
  const log = await openLog(t, { path: tempFolder(t), events, limits: { checkpointSeconds: 0.02 } });
  const signed = events.next('checkpointSigned');
  await log.append(entry('acme'));
  const keepAlive = setInterval(() => undefined, 1000);
  assert.deepEqual(await signed, { tenant: 'acme', size: 1 });
  clearInterval(keepAlive);
});

test('a token that is away delays checkpoints, says so, and never blocks appends', async (t) => {
  const token = createToken();
  const events = recordEvents();
  const log = await openLog(t, { path: tempFolder(t), token, events, limits: { checkpointSeconds: 0.02 } });
  token.broken = new AgentError('HSM_UNAVAILABLE');
  const failed = events.next('checkpointFailed');
  await appendMany(log, 'acme', 5);
  const keepAlive = setInterval(() => undefined, 1000);
  t.after(() => clearInterval(keepAlive));
  assert.equal((await failed)['tenant'], 'acme');
  await assert.rejects(log.checkpoint('acme'), { code: 'HSM_UNAVAILABLE' });
  assert.equal(log.health().ok, true);
  assert.match(log.health().degraded ?? '', /could not be signed/);
  await appendMany(log, 'acme', 5);
  const signed = events.next('checkpointSigned');
  token.broken = undefined;
  assert.deepEqual(await signed, { tenant: 'acme', size: 10 });
  assert.equal(log.health().degraded, undefined);
});

test('a wrong signature of the token does not get into the log', async (t) => {
  const token = createToken();
  const log = await openLog(t, { path: tempFolder(t), token: { ...token, sign: async () => Buffer.alloc(64, 1) } });
  await log.append(entry('acme'));
  await assert.rejects(log.checkpoint('acme'), /does not verify/);
  assert.deepEqual((await log.verify('acme')).findings, []);
});

test('callers at once share one checkpoint, and later ones extend it', async (t) => {
  const token = createToken('EC-P256');
  const log = await openLog(t, { path: tempFolder(t), token });
  await appendMany(log, 'acme', 5);
  const texts = await Promise.all([log.checkpoint('acme'), log.checkpoint('acme'), log.checkpoint('acme')]);
  assert.equal(new Set(texts.map(({ text }) => text)).size, 1);
  assert.equal(token.calls.sign, 1);
  await appendMany(log, 'acme', 3);
  const later = await log.checkpoint('acme');
  assert.equal(verifyCheckpoint(later.text, token.publicJwk).size, 8);
  assert.deepEqual((await log.verify('acme', texts[0]?.text)).findings, []);
});

test('an empty log has a checkpoint of size 0', async (t) => {
  const token = createToken();
  const log = await openLog(t, { path: tempFolder(t), token });
  const { text, size } = await log.checkpoint('nobody');
  assert.deepEqual([size, verifyCheckpoint(text, token.publicJwk).size], [0, 0]);
});

test('each tenant has a log of its own', async (t) => {
  const log = await openLog(t, { path: tempFolder(t) });
  await Promise.all([appendMany(log, 'acme', 20), appendMany(log, 'globex', 10), appendMany(log, 'acm', 3)]);
  assert.deepEqual(
    ['acme', 'globex', 'acm', 'none'].map((tenant) => log.size(tenant)),
    [20, 10, 3, 0],
  );
  const origins = await Promise.all(
    ['acme', 'globex'].map(async (tenant) => (await log.checkpoint(tenant)).text.split('\n')[0]),
  );
  assert.match(origins[0] ?? '', /^host-1\/acme\/\d+$/);
  assert.match(origins[1] ?? '', /^host-1\/globex\/\d+$/);
  assert.ok((await log.list('acme', { limit: 100 })).every(({ record }) => record.tenant === 'acme'));
});

test('a trusted checkpoint of another tenant, of another log, or that is none is a finding', async (t) => {
  const token = createToken();
  const log = await openLog(t, { path: tempFolder(t), token });
  await appendMany(log, 'acme', 5);
  await appendMany(log, 'globex', 5);
  const { text } = await log.checkpoint('globex');
  const codes = async (trusted: string): Promise<string[]> =>
    (await log.verify('acme', trusted)).findings.map(({ code }) => code);
  assert.deepEqual(await codes(text), ['LOG_FORKED']);
  assert.deepEqual(await codes(text.replace('globex', 'acme')), ['CHECKPOINT_INVALID']);
  assert.deepEqual(await codes('no note'), ['CHECKPOINT_INVALID']);
  const other = await openLog(t, { path: tempFolder(t), token, clock: { now: () => Date.now() + 5000 } });
  await appendMany(other, 'acme', 3);
  assert.deepEqual(await codes((await other.checkpoint('acme')).text), ['LOG_FORKED']);
});

test('verifies a log that grows meanwhile', async (t) => {
  const log = await openLog(t, { path: tempFolder(t), limits: { checkpointRecords: 40 } });
  await appendMany(log, 'acme', 600, 60);
  const growing = appendMany(log, 'acme', 600, 20);
  for (let i = 0; i < 5; i += 1) assert.deepEqual((await log.verify('acme')).findings, []);
  await growing;
});
