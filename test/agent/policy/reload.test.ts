// What comes into force from the policy folder, what is refused, and what goes on meanwhile.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { chmod, mkdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { officerSigner } from '../../../proto/documents/officer-keys.ts';
import { signPolicy } from '../../../proto/documents/policy-sign.ts';
import { policyFromTemplate } from '../../../proto/documents/policy-templates.ts';
import { makePolicyFolder, publishFile } from '../../support/policy.ts';
import { DAY_MS, encrypt, NOW, openRoom, outcome, type Room } from './room.ts';

const problemCodes = (room: Room): string[] => room.policy.problems().map(({ subject, code }) => `${subject} ${code}`);

const sign = (room: Room, policy: object): Promise<Buffer> =>
  signPolicy({
    payload: Buffer.from(JSON.stringify(policy)),
    signers: room.folder.officers.map(officerSigner),
    platform: room.folder.platform,
  });

test('platform and tenant policies of the folder come into force', async () => {
  await using room = await openRoom({
    tenantPolicies: { acme: { operations: { encrypt: [] }, rateLimits: { operationsPerSecond: 10, burst: 20 } } },
  });
  const { policy } = room;
  assert.deepEqual(policy.problems(), []);
  assert.equal(outcome(policy, encrypt('acme')), 'POLICY_DENIED');
  assert.equal(outcome(policy, encrypt('globex')), 'allowed');
  assert.equal(outcome(policy, encrypt('initech')), 'POLICY_DENIED');
  assert.equal(policy.rateLimits('acme')?.burst, 20);
  assert.equal(policy.rateLimits('globex')?.burst, room.folder.platform.rateLimits.burst);
  assert.equal(policy.rateLimits('initech'), undefined);
  assert.equal(policy.defaultAlgorithm('globex', 'sign'), 'EC-P256');
  assert.deepEqual(policy.tenants(), ['acme', 'globex']);
  const state = policy.status('acme');
  assert.equal(state.healthy, true);
  assert.deepEqual(
    state.policies.map(({ scope, version, stale }) => [scope, version, stale]),
    [
      ['platform', 1, false],
      ['tenant', 1, false],
    ],
  );
});

test('a newer version comes into force at the next reload, with an audit record of actor and changes', async () => {
  await using room = await openRoom({ officers: 3, threshold: 2 });
  let swaps = 0;
  room.policy.onChange(() => {
    swaps += 1;
  });
  const before = room.policy.status('acme').policies[0]?.digest;
  await room.folder.publishPlatform({ caches: { tokenSeconds: 5 }, tenants: ['acme'] });
  const report = await room.policy.reload();
  await room.policy.recordPending();
  assert.equal(report.changed, true);
  assert.equal(report.platform?.version, 2);
  assert.equal(swaps, 1);
  assert.equal(room.policy.caches().tokenSeconds, 5);
  assert.equal(outcome(room.policy, encrypt('globex')), 'POLICY_DENIED');
  const record = room.records.at(-1);
  assert.equal(record?.tenant, '_platform');
  assert.equal(record?.principal, 'officer-1,officer-2');
  assert.equal(record?.operation, 'load-policy');
  assert.equal(record?.outcome, 'ok');
  assert.deepEqual(record?.detail['previous'], { version: 1, digest: before });
  assert.deepEqual(record?.detail['next'], report.platform);
  assert.deepEqual(record?.detail['changes'], [
    { path: 'caches.tokenSeconds', from: '60', to: '5' },
    { path: 'tenants[globex]', from: '"globex"' },
    { path: 'version', from: '1', to: '2' },
  ]);
});

/** Each leaves the folder with a file that must not come into force. */
const BAD: Record<string, { code: string; spoil: (room: Room) => Promise<void> }> = {
  'with a changed payload': {
    code: 'SIGNATURE_THRESHOLD',
    spoil: async (room) => {
      const path = join(room.folder.dir, 'platform.json');
      const jws = JSON.parse(await readFile(path, 'utf8'));
      const payload = Buffer.from(jws.payload, 'base64url').toString().replace('"burst": 100000', '"burst": 200000');
      await publishFile(path, JSON.stringify({ ...jws, payload: Buffer.from(payload).toString('base64url') }));
    },
  },
  'that has expired': {
    code: 'EXPIRED',
    spoil: async (room) => {
      const expiresAt = new Date(NOW - 1).toISOString();
      const notBefore = new Date(NOW - DAY_MS).toISOString();
      await room.folder.publishPlatform({ issuedAt: notBefore, notBefore, expiresAt });
    },
  },
  'of a lower version': {
    code: 'ROLLBACK',
    spoil: async (room) => void (await room.folder.publishPlatform({ version: 1 })),
  },
  'of the same version with other contents': {
    code: 'VERSION_REUSED',
    spoil: async (room) => void (await room.folder.publishPlatform({ version: 2, caches: { tokenSeconds: 1 } })),
  },
  'signed by strangers': {
    code: 'SIGNATURE_THRESHOLD',
    spoil: async (room) => {
      await using other = await makePolicyFolder({ now: NOW, platform: { version: 8 } });
      await publishFile(join(room.folder.dir, 'platform.json'), await readFile(join(other.dir, 'platform.json')));
    },
  },
  "that is a tenant's": {
    code: 'SCOPE_MISMATCH',
    spoil: async (room) => {
      await room.folder.publishTenant('acme');
      await publishFile(
        join(room.folder.dir, 'platform.json'),
        await readFile(join(room.folder.dir, 'tenants', 'acme.json')),
      );
      await rm(join(room.folder.dir, 'tenants', 'acme.json'));
    },
  },
  'that is no JSON': {
    code: 'MALFORMED',
    spoil: (room) => publishFile(join(room.folder.dir, 'platform.json'), '{"payload":'),
  },
  'that is too large': {
    code: 'TOO_LARGE',
    spoil: (room) => publishFile(join(room.folder.dir, 'platform.json'), Buffer.alloc(2 * 1024 * 1024, 0x20)),
  },
  'that is gone': { code: 'FILE_MISSING', spoil: (room) => rm(join(room.folder.dir, 'platform.json')) },
  'that is a folder': {
    code: 'FILE_UNREADABLE',
    spoil: async (room) => {
      await rm(join(room.folder.dir, 'platform.json'));
      await mkdir(join(room.folder.dir, 'platform.json'));
    },
  },
};

for (const [title, { code, spoil }] of Object.entries(BAD)) {
  test(`a platform policy ${title} is refused, recorded once and alarmed; the last good one goes on`, async () => {
    await using room = await openRoom({ platform: { version: 1 } });
    await spoil(room);
    const report = await room.policy.reload();
    await room.policy.reload();
    await room.policy.recordPending();
    assert.deepEqual(problemCodes(room), [`platform ${code}`]);
    assert.equal(report.changed, false);
    assert.equal(report.platform?.version, 2);
    assert.equal(outcome(room.policy, encrypt('acme')), 'allowed');
    assert.deepEqual(
      room.said.refused.map(({ subject, code: said, inForceVersion }) => [subject, said, inForceVersion]),
      [['platform', code, 2]],
    );
    const refusals = room.records.filter((record) => record.outcome === 'POLICY_INVALID');
    assert.deepEqual(
      refusals.map(({ tenant, detail }) => [tenant, detail['code']]),
      [['_platform', code]],
    );
    assert.equal(room.policy.status('acme').healthy, false);
    assert.match(room.policy.status('acme').detail, new RegExp(code));
    await room.restart();
    assert.equal(outcome(room.policy, encrypt('acme')), 'allowed');
  });
}

test('a tenant policy that widens is refused and the tenant stays under the last good one', async () => {
  await using room = await openRoom({
    platform: { operations: { sign: ['PS256'] } },
    tenantPolicies: { acme: { operations: { sign: [] } } },
  });
  const widening = policyFromTemplate({
    scope: 'tenant',
    template: 'default',
    tenant: 'acme',
    issuedAt: NOW,
    version: 2,
  });
  // Signed by officers who were shown another platform policy.
  const jws = await signPolicy({
    payload: Buffer.from(JSON.stringify({ ...widening, operations: { sign: ['ES256'] } })),
    signers: room.folder.officers.map(officerSigner),
    platform: { ...room.folder.platform, operations: {} },
  });
  await publishFile(join(room.folder.dir, 'tenants', 'acme.json'), jws);
  await room.policy.reload();
  await room.policy.recordPending();
  assert.deepEqual(problemCodes(room), ['tenant/acme WIDENING']);
  assert.equal(room.records.at(-1)?.tenant, 'acme');
  const question = { tenant: 'acme', operation: 'sign', algorithm: 'RSA-3072', jose: 'PS256', custody: 'hsm' } as const;
  assert.equal(outcome(room.policy, question), 'POLICY_DENIED');
});

test('a tenant policy stays in force when the platform narrows beneath it, and cannot undo the narrowing', async () => {
  await using room = await openRoom({ tenantPolicies: { acme: { algorithms: { allow: ['AES-256', 'AES-128'] } } } });
  await room.folder.publishPlatform({ algorithms: { allow: ['AES-256', 'EC-P256', 'HMAC-SHA256'] } });
  await room.restart();
  assert.equal(room.policy.status('acme').policies.length, 2);
  assert.equal(outcome(room.policy, encrypt('acme', 'AES-128', 'A128GCMKW')), 'POLICY_DENIED');
  assert.equal(outcome(room.policy, encrypt('acme')), 'allowed');
});

test("removing a tenant's file does not widen: its policy stays, alarmed, and grows stale", async () => {
  await using room = await openRoom({
    platform: { lease: { maxStalenessSeconds: 3600, whenStale: 'deny' } },
    tenantPolicies: { acme: { operations: { encrypt: ['AES-256'] } } },
  });
  await rm(join(room.folder.dir, 'tenants', 'acme.json'));
  await room.restart();
  assert.deepEqual(problemCodes(room), ['tenant/acme FILE_MISSING']);
  assert.equal(outcome(room.policy, encrypt('acme', 'AES-128', 'A128GCMKW')), 'POLICY_DENIED');
  assert.equal(outcome(room.policy, encrypt('acme')), 'allowed');
  room.clock.time += 3_600_001;
  await room.policy.reload();
  assert.equal(outcome(room.policy, encrypt('acme')), 'POLICY_STALE');
  assert.equal(outcome(room.policy, encrypt('globex')), 'allowed');
  assert.equal(room.policy.status('acme').policies[1]?.stale, true);
});

test('the lease counts from the last verification, also over a restart', async () => {
  await using room = await openRoom({ platform: { lease: { maxStalenessSeconds: 3600, whenStale: 'process-only' } } });
  const decrypt = { ...encrypt('acme'), operation: 'decrypt' } as const;
  room.clock.time += 3_500_000;
  await room.policy.reload();
  await rm(join(room.folder.dir, 'platform.json'));
  room.clock.time += 3_500_000;
  await room.restart();
  assert.equal(outcome(room.policy, encrypt('acme')), 'allowed');
  room.clock.time += 200_000;
  assert.equal(outcome(room.policy, encrypt('acme')), 'POLICY_STALE');
  const decision = room.policy.decide(decrypt);
  assert.ok(decision.allowed);
  assert.deepEqual(
    decision.warnings.map(({ code }) => code),
    ['POLICY_STALE'],
  );
});

test('a policy in force that expires fails closed for all but looking at the agent', async () => {
  await using room = await openRoom();
  room.clock.time += 400 * DAY_MS;
  await room.policy.reload();
  const decision = room.policy.decide(encrypt('acme'));
  assert.ok(!decision.allowed);
  assert.deepEqual([decision.code, decision.rule], ['POLICY_INVALID', 'validity']);
  assert.match(decision.explanation, /expired at 2027/);
  assert.equal(outcome(room.policy, { tenant: 'acme', operation: 'get-status' }), 'allowed');
  assert.equal(outcome(room.policy, { tenant: 'acme', operation: 'list-keys' }), 'POLICY_INVALID');
});

test('a policy whose time is still to come waits, and comes into force by itself then', async () => {
  await using room = await openRoom();
  const notBefore = new Date(NOW + DAY_MS).toISOString();
  await room.folder.publishPlatform({ notBefore, caches: { tokenSeconds: 7 } });
  await room.policy.reload();
  assert.deepEqual(problemCodes(room), ['platform NOT_YET_VALID']);
  assert.equal(room.policy.caches().tokenSeconds, 60);
  room.clock.time = NOW + DAY_MS;
  await room.policy.reload();
  assert.deepEqual(problemCodes(room), []);
  assert.equal(room.policy.caches().tokenSeconds, 7);
});

test('without any good policy everything is refused, and the refusal says why', async () => {
  await using room = await openRoom({ beforeOpen: (folder) => writeFile(join(folder.dir, 'platform.json'), '{}') });
  const decision = room.policy.decide(encrypt('acme'));
  assert.ok(!decision.allowed);
  assert.deepEqual([decision.code, decision.rule], ['POLICY_INVALID', 'none']);
  assert.match(decision.explanation, /FIELD_MISSING: payload/);
  assert.equal(
    outcome(room.policy, { tenant: 'acme', operation: 'sign', algorithm: 'RSA-1024' }),
    'ALGORITHM_FORBIDDEN',
  );
  assert.deepEqual(room.policy.issuers(), []);
  assert.equal(room.policy.durability('acme'), 'flushed');
  assert.equal(room.policy.whenAuditUnavailable('acme'), 'refuse');
  assert.equal(room.policy.status('acme').healthy, false);
  await room.folder.publishPlatform();
  await room.policy.reload();
  assert.equal(outcome(room.policy, encrypt('acme')), 'allowed');
});

test('files that are no tenants are reported, hidden ones and links are as Kubernetes makes them', async () => {
  await using room = await openRoom({ tenantPolicies: { acme: {} } });
  const tenants = join(room.folder.dir, 'tenants');
  await mkdir(join(tenants, '..data'));
  await publishFile(join(tenants, '..data', 'acme.json'), await readFile(join(tenants, 'acme.json')));
  await rm(join(tenants, 'acme.json'));
  await symlink('..data/acme.json', join(tenants, 'acme.json'));
  await room.policy.reload();
  assert.deepEqual(problemCodes(room), []);
  await writeFile(join(tenants, '_platform.json'), '{}');
  await room.policy.reload();
  assert.deepEqual(problemCodes(room), ['folder FILE_UNREADABLE']);
});

test("a tenant's policy in another tenant's file is refused", async () => {
  await using room = await openRoom({ tenantPolicies: { acme: { operations: { encrypt: [] } } } });
  const tenants = join(room.folder.dir, 'tenants');
  await publishFile(join(tenants, 'globex.json'), await readFile(join(tenants, 'acme.json')));
  await room.policy.reload();
  assert.deepEqual(problemCodes(room), ['tenant/globex SCOPE_MISMATCH']);
  assert.equal(outcome(room.policy, encrypt('globex')), 'allowed');
});

test('a tenant that the platform policy does not have gets no policy', async () => {
  await using room = await openRoom();
  const policy = policyFromTemplate({ scope: 'tenant', template: 'default', tenant: 'initech', issuedAt: NOW });
  const platform = { ...room.folder.platform, tenants: ['initech'] };
  const payload = Buffer.from(JSON.stringify(policy));
  const jws = await signPolicy({ payload, signers: room.folder.officers.map(officerSigner), platform });
  await publishFile(join(room.folder.dir, 'tenants', 'initech.json'), jws);
  await room.policy.reload();
  await room.policy.recordPending();
  assert.deepEqual(problemCodes(room), ['tenant/initech TENANT_UNKNOWN']);
  assert.deepEqual(
    [room.records.at(-1)?.tenant, room.records.at(-1)?.detail['subject']],
    ['_platform', 'tenant/initech'],
  );
  assert.equal(outcome(room.policy, encrypt('initech')), 'POLICY_DENIED');
});

test('a trust anchor that others may write to is not believed', async () => {
  await using room = await openRoom({
    beforeOpen: (folder) => chmod(join(folder.dir, 'trust-anchor.json'), 0o666),
  });
  assert.ok(problemCodes(room).includes('trust-anchor ANCHOR_UNTRUSTED'));
  assert.equal(outcome(room.policy, encrypt('acme')), 'POLICY_INVALID');
});

test('a change of the folder is noticed without polling, and no decision is ever dropped by a swap', async () => {
  await using room = await openRoom({ watch: { intervalMs: 0 } });
  const swaps = new EventTarget();
  room.policy.onChange(() => swaps.dispatchEvent(new Event('swap')));
  let stop = false;
  let decisions = 0;
  const seen = new Set<string>();
  const requests = (async () => {
    while (!stop) {
      seen.add(outcome(room.policy, encrypt('acme')));
      decisions += 1;
      if (decisions % 500 === 0) await new Promise(setImmediate);
    }
  })();
  for (let version = 2; version <= 4; version += 1) {
    const swapped = once(swaps, 'swap');
    await room.folder.publishPlatform({ caches: { tokenSeconds: version } });
    await swapped;
    assert.equal(room.policy.caches().tokenSeconds, version);
  }
  stop = true;
  await requests;
  assert.deepEqual([...seen], ['allowed']);
  assert.ok(decisions > 500, `only ${decisions} decisions`);
});

test('a folder that another one replaces is still watched', async () => {
  await using room = await openRoom({ watch: { intervalMs: 0 }, tenantPolicies: { acme: {} } });
  const swaps = new EventTarget();
  room.policy.onChange(() => swaps.dispatchEvent(new Event('swap')));
  const tenants = join(room.folder.dir, 'tenants');
  await rename(tenants, `${tenants}.old`);
  await mkdir(tenants);
  const first = once(swaps, 'swap');
  await room.folder.publishTenant('acme', { caches: { tokenSeconds: 8 } });
  await first;
  assert.equal(room.policy.caches('acme').tokenSeconds, 8);
  const second = once(swaps, 'swap');
  await room.folder.publishTenant('acme', { caches: { tokenSeconds: 7 } });
  await second;
  assert.equal(room.policy.caches('acme').tokenSeconds, 7);
});

test('a polled change is noticed too, and calls of reload share a round', async () => {
  await using room = await openRoom({ watch: { intervalMs: 20 } });
  const swapped = new Promise<void>((resolve) => void room.policy.onChange(resolve));
  await room.folder.publishPlatform();
  await swapped;
  const [first, second, third] = [room.policy.reload(), room.policy.reload(), room.policy.reload()];
  assert.equal(second, third);
  await Promise.all([first, second, third]);
});

test('a swap empties the cached decisions', async () => {
  await using room = await openRoom();
  assert.equal(outcome(room.policy, encrypt('acme')), 'allowed');
  await room.folder.publishPlatform({ algorithms: { allow: ['EC-P256'] }, defaults: { sign: 'EC-P256' } });
  await room.policy.reload();
  assert.equal(outcome(room.policy, encrypt('acme')), 'POLICY_DENIED');
  assert.equal(room.policy.defaultAlgorithm('acme', 'encrypt'), undefined);
});

test('the host itself may be looked at but does no cryptography', async () => {
  await using room = await openRoom();
  assert.equal(outcome(room.policy, { tenant: '_platform', operation: 'list-audit-records' }), 'allowed');
  assert.equal(outcome(room.policy, encrypt('_platform')), 'POLICY_DENIED');
  await publishFile(join(room.folder.dir, 'tenants', 'acme.json'), await sign(room, room.folder.platform));
  await room.policy.reload();
  assert.match(room.policy.status('_platform').detail, /tenant\/acme: SCOPE_MISMATCH/);
  assert.doesNotMatch(room.policy.status('globex').detail, /acme/);
});

test('the changes in a record are bounded, however much changes and in whatever script', async () => {
  await using room = await openRoom();
  const revokedTokens = Array.from({ length: 500 }, (_, index) => `sub:${'日本語'.repeat(30)}${index}`);
  await room.folder.publishPlatform({ revokedTokens });
  await room.policy.reload();
  await room.policy.recordPending();
  const { detail } = room.records.at(-1) as { detail: Record<string, unknown> };
  assert.equal(detail['changed'], 501);
  assert.ok((detail['changes'] as unknown[]).length > 2);
  assert.ok(Buffer.byteLength(JSON.stringify(detail)) <= 4096);
});
