// The policy store on real LMDB: what it promises when its bytes are changed, the disk is full, the token or the audit
// log is away, and when somebody brings another trust anchor.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHmac, createSecretKey } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import fc from 'fast-check';
import { open } from 'lmdb';
import { openRecord, sealRecord } from '../../../agent/policy/envelope.ts';
import { PolicyError } from '../../../proto/documents/policy-error.ts';
import { trustAnchorDigest } from '../../../proto/documents/trust-anchor.ts';
import { makePolicyFolder, publishFile } from '../../support/policy.ts';
import { encrypt, NOW, openRoom, outcome, type Room } from './room.ts';

const problemCodes = (room: Room): string[] => room.policy.problems().map(({ subject, code }) => `${subject} ${code}`);

/** Changes the store between two lives of the agent. */
const tamper = async (room: Room, change: (rows: Map<string, Buffer>) => void): Promise<void> => {
  await room.policy.close();
  const db = open<Buffer, string>({ path: room.storeDir, encoding: 'binary', noSubdir: false });
  const rows = new Map([...db.getRange()].map(({ key, value }) => [key, Buffer.from(value)]));
  const before = [...rows.keys()];
  assert.ok(before.length > 0);
  change(rows);
  db.transactionSync(() => {
    for (const key of before) db.removeSync(key);
    for (const [key, value] of rows) db.putSync(key, value);
  });
  await db.close();
};

const flip = (bytes: Buffer, at: number): void => {
  bytes[at] = (bytes[at] ?? 0) ^ 1;
};

test('a stored policy with any byte changed is refused at the next start, alarmed and recorded', async () => {
  await using room = await openRoom();
  for (const at of [0, 1, 33, 40, 80, 500, -1]) {
    await tamper(room, (rows) => {
      const stored = rows.get('policy/platform') as Buffer;
      flip(stored, at < 0 ? stored.length - 1 : at);
    });
    await rm(join(room.folder.dir, 'platform.json'));
    await room.restart();
    await room.policy.recordPending();
    assert.equal(outcome(room.policy, encrypt('acme')), 'POLICY_INVALID', `byte ${at}`);
    assert.deepEqual(problemCodes(room), ['platform STORE_TAMPERED'], `byte ${at}`);
    assert.equal(room.records.at(-1)?.detail['code'], 'STORE_TAMPERED', `byte ${at}`);
    await room.folder.publishPlatform();
    await room.policy.reload();
    assert.equal(outcome(room.policy, encrypt('acme')), 'allowed');
  }
});

test('a changed stored policy is alarmed and recorded even where a good file takes its place', async () => {
  await using room = await openRoom({ tenantPolicies: { acme: {} } });
  await tamper(room, (rows) => {
    flip(rows.get('policy/tenant/acme') as Buffer, 100);
  });
  await room.restart();
  await room.policy.recordPending();
  assert.deepEqual(problemCodes(room), []);
  assert.deepEqual(
    room.said.refused.map(({ subject, code }) => [subject, code]),
    [['tenant/acme', 'STORE_TAMPERED']],
  );
  assert.deepEqual(
    room.records.filter(({ detail }) => detail['code'] === 'STORE_TAMPERED').map(({ tenant }) => tenant),
    ['acme'],
  );
});

test('a record moved to another key, and a record nobody wrote, do not verify', async () => {
  await using room = await openRoom({ tenantPolicies: { acme: { operations: { encrypt: [] } } } });
  await tamper(room, (rows) => rows.set('policy/tenant/globex', rows.get('policy/tenant/acme') as Buffer));
  await room.restart();
  assert.deepEqual(problemCodes(room), ['tenant/globex STORE_TAMPERED']);
  assert.equal(outcome(room.policy, encrypt('globex')), 'allowed');
  await tamper(room, (rows) => rows.set('other', Buffer.from('x')));
  await room.restart();
  assert.ok(problemCodes(room).includes('store STORE_TAMPERED'));
});

test('a version once in force stays the floor over restarts, whatever file is brought back', async () => {
  await using room = await openRoom();
  const path = join(room.folder.dir, 'platform.json');
  const old = await readFile(path);
  await room.folder.publishPlatform({ algorithms: { allow: ['EC-P256'] }, defaults: {} });
  await room.restart();
  await publishFile(path, old);
  await room.restart();
  assert.deepEqual(problemCodes(room), ['platform ROLLBACK']);
  assert.equal(outcome(room.policy, encrypt('acme')), 'POLICY_DENIED');
});

test('the trust anchor is pinned: another one is refused until an operator accepts it by its digest', async () => {
  await using room = await openRoom();
  await using other = await makePolicyFolder({ now: NOW, platform: { version: 6, caches: { tokenSeconds: 3 } } });
  const anchor = await readFile(join(other.dir, 'trust-anchor.json'));
  for (const name of ['trust-anchor.json', 'platform.json'])
    await publishFile(join(room.folder.dir, name), await readFile(join(other.dir, name)));
  await room.policy.reload();
  assert.deepEqual(problemCodes(room), ['trust-anchor ANCHOR_UNTRUSTED', 'platform SIGNATURE_THRESHOLD']);
  assert.equal(outcome(room.policy, encrypt('acme')), 'allowed');
  const accept = join(room.storeDir, 'accept-trust-anchor');
  await writeFile(accept, `${'0'.repeat(64)}  trust-anchor.json\n`, { mode: 0o600 });
  await room.restart();
  assert.ok(problemCodes(room).includes('trust-anchor ANCHOR_UNTRUSTED'));
  await writeFile(accept, `${trustAnchorDigest(anchor)}  trust-anchor.json\n`, { mode: 0o600 });
  await room.policy.reload();
  await room.policy.recordPending();
  assert.deepEqual(problemCodes(room), []);
  assert.equal(room.policy.caches().tokenSeconds, 3);
  await assert.rejects(readFile(accept), { code: 'ENOENT' });
  const pin = room.records.find(({ detail }) => detail['next'] === trustAnchorDigest(anchor));
  assert.equal(pin?.outcome, 'ok');
});

test('what only the earlier officers signed goes out of force when the anchor is replaced', async () => {
  await using room = await openRoom();
  await using other = await makePolicyFolder({ now: NOW });
  const anchor = await readFile(join(other.dir, 'trust-anchor.json'));
  await publishFile(join(room.folder.dir, 'trust-anchor.json'), anchor);
  await writeFile(join(room.storeDir, 'accept-trust-anchor'), trustAnchorDigest(anchor), { mode: 0o600 });
  const report = await room.policy.reload();
  assert.equal(report.changed, true);
  assert.deepEqual(problemCodes(room), ['platform SIGNATURE_THRESHOLD']);
  assert.equal(outcome(room.policy, encrypt('acme')), 'POLICY_INVALID');
  await room.restart();
  assert.equal(outcome(room.policy, encrypt('acme')), 'POLICY_INVALID');
});

test('a pinned anchor that was changed or taken away in the store is not replaced by the file', async () => {
  for (const change of ['changed', 'taken away'] as const) {
    await using room = await openRoom();
    await tamper(room, (rows) => {
      if (change === 'changed') flip(rows.get('anchor') as Buffer, 60);
      else rows.delete('anchor');
    });
    await room.restart();
    assert.ok(problemCodes(room).includes('trust-anchor ANCHOR_UNTRUSTED'), change);
    assert.equal(outcome(room.policy, encrypt('acme')), 'POLICY_INVALID', change);
    const digest = trustAnchorDigest(await readFile(join(room.folder.dir, 'trust-anchor.json')));
    await writeFile(join(room.storeDir, 'accept-trust-anchor'), digest, { mode: 0o600 });
    await room.policy.reload();
    assert.deepEqual(problemCodes(room), [], change);
    assert.equal(outcome(room.policy, encrypt('acme')), 'allowed', change);
  }
});

test('the pinned anchor serves while its file is away', async () => {
  await using room = await openRoom();
  await rm(join(room.folder.dir, 'trust-anchor.json'));
  await room.folder.publishPlatform({ caches: { tokenSeconds: 9 } });
  await room.restart();
  assert.deepEqual(problemCodes(room), ['trust-anchor FILE_MISSING']);
  assert.equal(room.policy.caches().tokenSeconds, 9);
});

test('a policy that cannot be sealed by the token does not come into force, until it can', async () => {
  await using room = await openRoom();
  room.faults.mac = new Error('token gone');
  await room.folder.publishPlatform({ caches: { tokenSeconds: 2 } });
  await room.policy.reload();
  assert.deepEqual(problemCodes(room), ['platform STORE_UNAVAILABLE']);
  assert.equal(room.policy.caches().tokenSeconds, 60);
  await room.restart();
  assert.equal(outcome(room.policy, encrypt('acme')), 'POLICY_INVALID');
  assert.deepEqual(problemCodes(room), ['store STORE_UNAVAILABLE']);
  room.faults.mac = undefined;
  await room.policy.reload();
  assert.deepEqual(problemCodes(room), []);
  assert.equal(room.policy.caches().tokenSeconds, 2);
});

test('events wait in the store for the audit log, over a restart, and are recorded in order', async () => {
  await using room = await openRoom();
  await room.policy.recordPending();
  room.records.length = 0;
  room.faults.record = new Error('the audit log is not open');
  await room.folder.publishPlatform({ caches: { tokenSeconds: 4 } });
  await room.policy.reload();
  await room.policy.recordPending();
  assert.equal(room.policy.caches().tokenSeconds, 4);
  assert.deepEqual(room.records, []);
  assert.ok(room.said.recordFailed.length > 0);
  await room.restart();
  room.faults.record = undefined;
  await room.policy.recordPending();
  assert.deepEqual(
    room.records.map(({ outcome: said, detail }) => [said, (detail['next'] as { version: number }).version]),
    [['ok', 2]],
  );
  await room.restart();
  await room.policy.recordPending();
  assert.equal(room.records.length, 1);
});

test('on a full disk the policy in force stays, and the new one waits for space', async () => {
  await using folder = await makePolicyFolder({ now: NOW });
  const dataDir = await mkdtemp(join(tmpdir(), 'mortise-data-'));
  // A limit on the size of files makes a write fail as a full disk does; with the signal ignored it is EFBIG.
  const limited = `trap '' XFSZ; ulimit -f 128; exec "$0" "$@"`;
  const script = join(import.meta.dirname, 'full-disk.ts');
  const args = ['-c', limited, process.execPath, script, folder.dir, dataDir];
  const child = spawn('sh', args, { stdio: ['pipe', 'pipe', 'inherit'] });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const answer = async (): Promise<unknown> => JSON.parse((await lines.next()).value ?? 'null');
  assert.deepEqual(await answer(), { problems: [], version: 1, decision: 'allowed' });
  const revokedTokens = Array.from({ length: 4000 }, (_, index) => `sub:${String(index).padStart(40, '0')}`);
  await folder.publishPlatform({ revokedTokens });
  child.stdin.write('reload\n');
  assert.deepEqual(await answer(), { problems: ['platform STORE_UNAVAILABLE'], version: 1, decision: 'allowed' });
  await folder.publishPlatform({ revokedTokens: ['sub:0'] });
  child.stdin.write('reload\n');
  assert.deepEqual(await answer(), { problems: [], version: 3, decision: 'allowed' });
  child.stdin.end();
  await once(child, 'exit');
  await rm(dataDir, { recursive: true, force: true });
});

test('an envelope opens only with its key, its place and all of its bytes', async () => {
  const mac = async (data: Buffer): Promise<Buffer> => createHmac('sha256', 'key').update(data).digest();
  const sealed = await sealRecord(mac, 'place', ['one', Buffer.from('two')]);
  assert.deepEqual(await openRecord(mac, 'place', sealed, 2), [Buffer.from('one'), Buffer.from('two')]);
  await assert.rejects(openRecord(mac, 'other', sealed, 2), { code: 'STORE_TAMPERED' });
  await assert.rejects(openRecord(mac, 'place', sealed, 3), { code: 'STORE_TAMPERED' });
  const other = async (data: Buffer): Promise<Buffer> => createHmac('sha256', 'other').update(data).digest();
  await assert.rejects(openRecord(other, 'place', sealed, 2), { code: 'STORE_TAMPERED' });
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 200 }), async (bytes) => {
      await assert.rejects(openRecord(mac, 'place', Buffer.from(bytes), 2), PolicyError);
    }),
    { numRuns: 200 },
  );
});

test('an envelope has the bytes of the specification', async () => {
  const key = createSecretKey(Buffer.from(Array.from({ length: 32 }, (_, index) => index)));
  const mac = async (data: Buffer): Promise<Buffer> => createHmac('sha256', key).update(data).digest();
  const sealed = await sealRecord(mac, 'policy/platform', ['7', 'ab', '1795507200000', '{}']);
  const page = await readFile(join(import.meta.dirname, '../../../docs/spec/policy.md'), 'utf8');
  assert.ok(page.replaceAll('\n', '').includes(sealed.toString('hex')), sealed.toString('hex'));
});
