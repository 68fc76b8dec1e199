// Policies of a registry: judged as those of a folder, in force only when all is there, and no lease without its word.
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { PolicyEvents } from '../../../agent/policy/interface.ts';
import { Policy } from '../../../agent/policy/policy.ts';
import { PublishedPolicies } from '../../../agent/policy/source.ts';
import { makePolicyFolder, type PolicyFolder } from '../../support/policy.ts';
import { DAY_MS, encrypt, NOW, outcome } from './room.ts';

const setUp = async (t: TestContext, tenants: readonly string[] = ['acme', 'globex']) => {
  const folder = await makePolicyFolder({ now: NOW });
  const dataDir = await mkdtemp(join(tmpdir(), 'mortise-data-'));
  const clock = { time: NOW, now: (): number => clock.time };
  const trustAnchor = join(folder.dir, 'trust-anchor.json');
  const refused: string[] = [];
  const ignore = (): void => undefined;
  const events: PolicyEvents = {
    adopted: ignore,
    refused: ({ subject, code }) => void refused.push(`${subject} ${code}`),
    anchorPinned: ignore,
    storeFailed: ignore,
    reloaded: ignore,
    recordFailed: ignore,
  };
  const begin = async () => {
    const source = new PublishedPolicies({ trustAnchor, clock, tenants });
    const mac = async (data: Buffer) => createHmac('sha256', 'test').update(data).digest();
    const record = async (): Promise<void> => undefined;
    const policy = new Policy({ source, dir: '/nowhere', dataDir, mac, record, clock, events, reloadIntervalMs: 0 });
    await policy.reload();
    return { source, policy };
  };
  const room = { ...(await begin()), folder, clock, refused, restart: async () => Object.assign(room, await begin()) };
  t.after(async () => {
    await room.policy.close();
    await folder.remove();
    await rm(dataDir, { recursive: true, force: true });
  });
  const tell = async (scopes: readonly string[], upToDate = true): Promise<void> => {
    const policies = await Promise.all(scopes.map((tenant) => signedOf(folder, tenant)));
    if (room.source.receive({ policies, upToDate })) await room.policy.reload();
  };
  return { room, tell };
};

const signedOf = async ({ dir }: PolicyFolder, tenant: string) => ({
  tenant,
  jws: await readFile(join(dir, tenant === '_platform' ? 'platform.json' : `tenants/${tenant}.json`)),
});

test('nothing is in force before the registry has told everything', async (t) => {
  const { room, tell } = await setUp(t);
  assert.equal(outcome(room.policy, encrypt('acme')), 'POLICY_INVALID');
  await room.folder.publishTenant('acme', { algorithms: { deny: ['AES-256'] } });
  await tell(['_platform'], false);
  assert.equal(outcome(room.policy, encrypt('acme')), 'POLICY_INVALID', 'the tenant’s own narrows it, and may follow');
  await tell(['acme']);
  assert.equal(outcome(room.policy, encrypt('acme')), 'POLICY_DENIED');
  assert.equal(outcome(room.policy, encrypt('globex')), 'allowed');
});

test('a tenant that the host does not serve is refused, also after it was taken from the host', async (t) => {
  const { room, tell } = await setUp(t, ['acme']);
  await tell(['_platform']);
  assert.equal(outcome(room.policy, encrypt('globex')), 'POLICY_DENIED');
  room.source.assign(['globex']);
  room.policy.servedChanged();
  assert.equal(outcome(room.policy, encrypt('globex')), 'allowed');
  assert.equal(outcome(room.policy, encrypt('acme')), 'POLICY_DENIED');
});

test('a lower version, another policy under a version, and one that is badly signed are refused', async (t) => {
  const { room, tell } = await setUp(t);
  const first = await signedOf(room.folder, '_platform');
  await room.folder.publishPlatform();
  await tell(['_platform']);
  room.source.receive({ policies: [first], upToDate: true });
  await room.policy.reload();
  room.source.receive({ policies: [{ tenant: '_platform', jws: Buffer.from('{}') }], upToDate: true });
  await room.policy.reload();
  const [rollback, unsigned] = room.refused.filter((row) => row !== 'platform FILE_MISSING');
  assert.equal(rollback, 'platform ROLLBACK');
  assert.match(unsigned ?? '', /^platform /);
  assert.equal(outcome(room.policy, encrypt('acme')), 'allowed');
});

test('a policy that is refused does not renew the lease of the one before it', async (t) => {
  const { room, tell } = await setUp(t);
  await tell(['_platform']);
  const version = room.policy.status('acme').policies[0]?.verifiedAt;
  room.clock.time += 60_000;
  room.source.receive({ policies: [{ tenant: '_platform', jws: Buffer.from('no policy') }], upToDate: true });
  await room.policy.reload();
  assert.equal(
    room.policy.status('acme').policies[0]?.verifiedAt,
    version,
    'what is published is not what is in force',
  );
});

test('the lease is renewed by the word of the registry alone: not by a restart, not by a look at the disk', async (t) => {
  const { room, tell } = await setUp(t);
  await tell(['_platform']);
  const lease = (): number | undefined => room.policy.status('acme').policies[0]?.verifiedAt;
  const verified = lease();
  room.clock.time += 3_600_000;
  await room.policy.reload();
  assert.equal(lease(), verified);
  await room.policy.close();
  await room.restart();
  assert.equal(lease(), verified);
  assert.equal(
    outcome(room.policy, encrypt('acme')),
    'allowed',
    'what is stored is in force at a start without a registry',
  );
  await tell([]);
  assert.equal(lease(), room.clock.time);
  room.clock.time += 40 * DAY_MS;
  await room.policy.reload();
  assert.equal(outcome(room.policy, encrypt('acme')), 'POLICY_STALE');
});

test('what is in force is told with version, digest and since when', async (t) => {
  const { room, tell } = await setUp(t);
  await tell(['_platform']);
  const [row] = room.policy.inForce();
  assert.equal(row?.tenant, '_platform');
  assert.equal(row?.version, room.folder.platform.version);
  assert.match(row?.digest ?? '', /^[0-9a-f]{64}$/);
  assert.equal(row?.since, NOW);
});
