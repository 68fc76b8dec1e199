// A disk that is full, small, slow to come back or not to be written: refused with a clear error, nothing lost, and
// service again without a restart.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { verifyStore } from '../../../agent/audit/verify.ts';
import { AgentError } from '../../../agent/errors.ts';
import { appendMany, createToken, entry, openLog, recordEvents, tempFolder } from './fixture.ts';

/** A tmpfs of its own, or undefined (the test skips) where mounting is refused. */
const mountTmpfs = (t: TestContext, kilobytes: number): string | undefined => {
  const folder = mkdtempSync(join(tmpdir(), 'mortise-audit-disk-'));
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${kilobytes}k`, 'tmpfs', folder], { stdio: 'pipe' });
  } catch (cause) {
    rmdirSync(folder);
    t.skip(`a tmpfs cannot be mounted here: ${(cause as Error).message.split('\n')[0]}`);
    return undefined;
  }
  t.after(() => {
    execFileSync('umount', ['-l', folder]);
    rmdirSync(folder);
  });
  return folder;
};

const fillDisk = (folder: string, leave = 0): string => {
  const { bavail, bsize } = statfsSync(folder);
  const file = join(folder, 'filler');
  writeFileSync(file, Buffer.alloc(Math.max(0, bavail * bsize - leave)));
  return file;
};

const big = (number: number) => entry('acme', number, { detail: { text: 'x'.repeat(3000) } });

/** Appends until one is refused; answers how many were acknowledged, and the refusal. */
const appendUntilRefused = async (append: (number: number) => Promise<unknown>, most = 5000) => {
  for (let number = 0; number < most; number += 1) {
    try {
      await append(number);
    } catch (error) {
      return { acknowledged: number, error };
    }
  }
  assert.fail(`nothing refused in ${most} appends`);
};

/** Appends until one is taken, as clients that repeat a call do. */
const untilServed = async (append: () => Promise<unknown>): Promise<unknown> => {
  for (const deadline = Date.now() + 20_000; ; ) {
    try {
      return await append();
    } catch (error) {
      if (Date.now() > deadline) throw error;
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
};

for (const durability of ['committed', 'flushed'] as const) {
  test(`a full disk refuses appends (${durability}), keeps every record, and serves again when there is space`, async (t) => {
    const disk = mountTmpfs(t, 4096);
    if (disk === undefined) return;
    const token = createToken();
    const path = join(disk, 'audit');
    const events = recordEvents();
    const limits = { journalBytes: 128 * 1024, reserveBytes: 256 * 1024 };
    const log = await openLog(t, { path, token, events, limits, durability: () => durability });
    await appendMany(log, 'acme', 20);
    const filler = fillDisk(disk, 600 * 1024);
    const { acknowledged, error } = await appendUntilRefused((number) => log.append(big(number)));
    assert.ok(error instanceof AgentError && error.code === 'AUDIT_UNAVAILABLE', String(error));
    assert.match(error.message, /free space/);
    assert.ok(acknowledged > 0);
    // A record can be in the log though its operation was refused, never the other way round.
    const size = log.size('acme');
    assert.ok(size === 20 + acknowledged || (durability === 'flushed' && size === 21 + acknowledged), String(size));
    assert.ok(events.seen.some(({ name }) => name === 'failed'));
    rmSync(filler);
    await untilServed(() => log.append(big(0)));
    assert.equal(log.size('acme'), size + 1);
    assert.deepEqual((await log.verify('acme')).findings, []);
    await log.close();
    const reopened = await openLog(t, { path, token, limits });
    assert.equal(reopened.size('acme'), size + 1);
  });
}

test('a disk that fills behind our back: the store fails, appends stop, and all acknowledged records come through', async (t) => {
  const disk = mountTmpfs(t, 4096);
  if (disk === undefined) return;
  const token = createToken();
  const path = join(disk, 'audit');
  const limits = { journalBytes: 256 * 1024, reserveBytes: 0 };
  const log = await openLog(t, { path, token, limits });
  await appendMany(log, 'acme', 20);
  await log.checkpoint('acme');
  const filler = fillDisk(disk);
  // The free-space check may have been asked just before; LMDB meets the full disk itself then.
  const { acknowledged, error } = await appendUntilRefused((number) => log.append(big(number)));
  assert.equal((error as AgentError).code, 'AUDIT_UNAVAILABLE');
  rmSync(filler);
  await untilServed(() => log.append(big(1)));
  assert.equal(log.size('acme'), 21 + acknowledged);
  assert.equal(log.health().ok, true);
  assert.deepEqual((await log.verify('acme')).findings, []);
});

test('the reserve lets a checkpoint be signed when appends are refused', async (t) => {
  const disk = mountTmpfs(t, 8192);
  if (disk === undefined) return;
  const token = createToken();
  const options = { path: join(disk, 'audit'), token, limits: { journalBytes: 128 * 1024, reserveBytes: 1024 * 1024 } };
  await (await openLog(t, options)).close();
  fillDisk(disk, 2700 * 1024);
  const log = await openLog(t, options);
  const { acknowledged, error } = await appendUntilRefused((number) => log.append(big(number)));
  assert.match((error as AgentError).message, /less than 1048576 bytes are free/);
  assert.ok(acknowledged > 0);
  assert.equal((await log.checkpoint('acme')).size, acknowledged);
  assert.deepEqual((await log.verify('acme')).findings, []);
});

test('closing on a full disk keeps what was acknowledged for the next start', async (t) => {
  const disk = mountTmpfs(t, 4096);
  if (disk === undefined) return;
  const token = createToken();
  const path = join(disk, 'audit');
  const limits = { journalBytes: 256 * 1024, reserveBytes: 0 };
  const log = await openLog(t, { path, token, limits });
  await appendMany(log, 'acme', 20);
  await log.checkpoint('acme');
  const group = Array.from({ length: 30 }, (_, number) => log.append(big(number)));
  await new Promise((resolve) => setImmediate(resolve));
  const filler = fillDisk(disk);
  const acknowledged = (await Promise.allSettled(group)).filter(({ status }) => status === 'fulfilled').length;
  await log.close();
  // Readable meanwhile, journal and all.
  const found = await verifyStore({ path, unwrap: (a, b) => token.unwrap(a, b) });
  assert.deepEqual([found.findings, found.tenants[0]?.size], [[], 20 + acknowledged]);
  rmSync(filler);
  const reopened = await openLog(t, { path, token, limits });
  assert.equal(reopened.size('acme'), 20 + acknowledged);
});

test('the size limit refuses appends and says so; checkpoint and close still work', async (t) => {
  const token = createToken();
  const path = tempFolder(t);
  const limits = { mapSize: 512 * 1024, reserveBytes: 128 * 1024, journalBytes: 128 * 1024 };
  const log = await openLog(t, { path, token, limits });
  const { acknowledged, error } = await appendUntilRefused((number) => log.append(big(number)));
  assert.equal((error as AgentError).code, 'AUDIT_UNAVAILABLE');
  assert.match((error as AgentError).message, /limit of 524288 bytes/);
  assert.equal((await log.checkpoint('acme')).size, acknowledged);
  await log.close();
  const larger = await openLog(t, { path, token, limits: { ...limits, mapSize: 2 ** 20 } });
  await larger.append(big(0));
  assert.equal(larger.size('acme'), acknowledged + 1);
  assert.deepEqual((await larger.verify('acme')).findings, []);
});

test('a read-only folder is refused at open with words', async (t) => {
  const disk = mountTmpfs(t, 4096);
  if (disk === undefined) return;
  execFileSync('mount', ['-o', 'remount,ro', disk]);
  await assert.rejects(openLog(t, { path: join(disk, 'audit') }), (error: AgentError) => {
    assert.equal(error.code, 'AUDIT_UNAVAILABLE');
    assert.match(error.message, /cannot be opened for writing/);
    return true;
  });
});

test('a store on a read-only disk can still be verified', async (t) => {
  const disk = mountTmpfs(t, 4096);
  if (disk === undefined) return;
  const token = createToken();
  const path = join(disk, 'audit');
  const log = await openLog(t, { path, token, limits: { journalBytes: 64 * 1024 } });
  await appendMany(log, 'acme', 20);
  await log.close();
  execFileSync('mount', ['-o', 'remount,ro', disk]);
  const found = await verifyStore({ path, unwrap: (a, b) => token.unwrap(a, b), checkpointKey: token.publicJwk });
  assert.deepEqual([found.intact, found.tenants[0]?.size], [true, 20]);
});

test('a second writer of the same folder is refused', async (t) => {
  const path = tempFolder(t);
  const token = createToken();
  const log = await openLog(t, { path, token });
  await assert.rejects(openLog(t, { path, token }), {
    code: 'AUDIT_UNAVAILABLE',
    message: /is being written by process/,
  });
  await log.append(entry('acme'));
  await log.close();
  assert.equal((await openLog(t, { path, token })).size('acme'), 1);
});

test('a folder of another host is refused', async (t) => {
  const path = tempFolder(t);
  const token = createToken();
  await (await openLog(t, { path, token })).close();
  await assert.rejects(openLog(t, { path, token, host: 'host-2' }), {
    code: 'AUDIT_UNAVAILABLE',
    message: /belongs to host host-1/,
  });
});

test('a folder that vanished or lost its mode is refused, not a crash', async (t) => {
  const path = tempFolder(t);
  writeFileSync(join(path, 'file'), '');
  await assert.rejects(openLog(t, { path: join(path, 'file') }), { code: 'AUDIT_UNAVAILABLE' });
  await assert.rejects(verifyStore({ path }), { code: 'AUDIT_UNAVAILABLE', message: /no audit store/ });
});
