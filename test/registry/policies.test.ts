// Publishing and watching policies over TLS: what is refused, what arrives, who may see it.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Client } from '@grpc/grpc-js';
import { AdminServiceService } from '../../proto/gen/mortise/registry/v1/admin.ts';
import { PoliciesServiceService } from '../../proto/gen/mortise/registry/v1/policies.ts';
import { makePolicyFolder, type PolicyFolder } from '../support/policy.ts';
import { refusedWith, serverStream, unary } from '../support/registry-client.ts';
import { aPolicyWatch } from '../support/registry-messages.ts';
import { startTestRegistry, type TestRegistry } from '../support/registry-server.ts';

const signed = (folder: PolicyFolder, tenant?: string): Promise<Buffer> =>
  readFile(join(folder.dir, tenant === undefined ? 'platform.json' : `tenants/${tenant}.json`));

const publish = (client: Client, jws: Buffer, acceptConflicts = false) =>
  unary(client, AdminServiceService.publishPolicy, { jws, acceptConflicts });

/** A registry with tenants acme and globex and the platform policy published. */
const withPlatform = async (t: Parameters<typeof startTestRegistry>[0]): Promise<TestRegistry> => {
  const registry = await startTestRegistry(t);
  for (const tenant of ['acme', 'globex']) {
    await unary(registry.adminClient, AdminServiceService.createTenant, { tenant, displayName: '' });
  }
  await publish(registry.adminClient, await signed(registry.policies));
  return registry;
};

test('a published policy is what Get answers, byte for byte, and stands in the history with its officers', async (t) => {
  const registry = await withPlatform(t);
  const jws = await signed(registry.policies);
  const client = registry.adminClient;
  const { policy } = await unary(client, PoliciesServiceService.getPolicy, { tenant: '_platform', version: 0n });
  assert.ok(Buffer.from(policy?.jws ?? []).equals(jws));
  const question = { tenant: '_platform', pageSize: 0, pageToken: '' };
  const { versions } = await unary(client, PoliciesServiceService.getPolicyHistory, question);
  assert.deepEqual(
    versions.map(({ version, officers, publishedBy }) => [version, officers, publishedBy]),
    [[1n, ['officer-1'], 'root']],
  );
  const missing = unary(client, PoliciesServiceService.getPolicy, { tenant: 'acme', version: 0n });
  await assert.rejects(missing, refusedWith('POLICY_UNKNOWN'));
});

test('the history comes in pages, and a page token answers its own question alone', async (t) => {
  const registry = await withPlatform(t);
  for (let left = 4; left > 0; left -= 1) {
    await registry.policies.publishPlatform();
    await publish(registry.adminClient, await signed(registry.policies));
  }
  const page = (tenant: string, pageToken: string) =>
    unary(registry.adminClient, PoliciesServiceService.getPolicyHistory, { tenant, pageSize: 2, pageToken });
  const seen: bigint[] = [];
  let token = '';
  do {
    const answer = await page('_platform', token);
    seen.push(...answer.versions.map(({ version }) => version));
    token = answer.nextPageToken;
  } while (token !== '');
  assert.deepEqual(seen, [5n, 4n, 3n, 2n, 1n]);
  const first = await page('_platform', '');
  await assert.rejects(page('acme', first.nextPageToken), refusedWith('INVALID_REQUEST'));
  await assert.rejects(page('_platform', 'AAAA'), refusedWith('INVALID_REQUEST'));
});

test('what other officers signed, or nobody, is POLICY_INVALID and recorded', async (t) => {
  const registry = await withPlatform(t);
  await using foreign = await makePolicyFolder();
  await foreign.publishPlatform();
  const altered = Buffer.from((await signed(registry.policies)).toString().replace('"payload": "', '"payload": "e'));
  registry.records.length = 0;
  for (const jws of [await signed(foreign), altered, Buffer.from('{}'), Buffer.alloc(0)]) {
    await assert.rejects(publish(registry.adminClient, jws), refusedWith('POLICY_INVALID'));
  }
  assert.deepEqual(
    registry.records.map(({ operation, outcome, principal }) => [operation, outcome, principal]),
    new Array(4).fill(['publish-policy', 'POLICY_INVALID', 'admin/root']),
  );
});

test('versions only ascend; the newest once more is answered as before', async (t) => {
  const registry = await withPlatform(t);
  const first = await signed(registry.policies);
  await registry.policies.publishPlatform();
  const second = await signed(registry.policies);
  const answer = await publish(registry.adminClient, second);
  assert.deepEqual(await publish(registry.adminClient, second), answer);
  await assert.rejects(publish(registry.adminClient, first), refusedWith('POLICY_VERSION'));
});

test('a tenant policy may only narrow the platform policy, and needs one', async (t) => {
  const bare = await startTestRegistry(t);
  await bare.policies.publishTenant('acme');
  await assert.rejects(publish(bare.adminClient, await signed(bare.policies, 'acme')), refusedWith('POLICY_INVALID'));
  const registry = await withPlatform(t);
  const { platform } = registry.policies;
  // Signed against a wider platform policy that was never published.
  const { operationsPerSecond, burst } = platform.rateLimits;
  const rateLimits = { operationsPerSecond: operationsPerSecond + 1, burst: burst + 1 };
  await registry.policies.publishPlatform({ rateLimits });
  await registry.policies.publishTenant('acme', { rateLimits });
  await assert.rejects(
    publish(registry.adminClient, await signed(registry.policies, 'acme')),
    refusedWith('POLICY_WIDENS'),
  );
});

test('a platform policy under which a tenant policy would widen needs to be said aloud', async (t) => {
  const registry = await withPlatform(t);
  await registry.policies.publishTenant('acme', { rateLimits: { operationsPerSecond: 100, burst: 100 } });
  await publish(registry.adminClient, await signed(registry.policies, 'acme'));
  await registry.policies.publishPlatform({ rateLimits: { operationsPerSecond: 10, burst: 10 } });
  const narrower = await signed(registry.policies);
  await assert.rejects(publish(registry.adminClient, narrower), refusedWith('POLICY_WIDENS'));
  const { conflicts } = await publish(registry.adminClient, narrower, true);
  assert.deepEqual(conflicts, ['acme']);
});

test("a tenant's administrator publishes for his tenant alone", async (t) => {
  const registry = await withPlatform(t);
  const admin = await registry.administrator('acme-admin', { scopes: ['policy.publish'], tenants: ['acme'] });
  const client = registry.connect(admin);
  await registry.policies.publishTenant('acme');
  await registry.policies.publishTenant('globex');
  const { tenant } = await publish(client, await signed(registry.policies, 'acme'));
  assert.equal(tenant, 'acme');
  await assert.rejects(publish(client, await signed(registry.policies, 'globex')), refusedWith('PERMISSION_DENIED'));
  await registry.policies.publishPlatform();
  await assert.rejects(publish(client, await signed(registry.policies)), refusedWith('PERMISSION_DENIED'));
});

test('a watch brings the snapshot, then changes, of the own tenants and the platform alone', async (t) => {
  const registry = await withPlatform(t);
  const client = registry.connect(await registry.host('web-1', ['acme']));
  const watch = serverStream(client, PoliciesServiceService.watchPolicies, aPolicyWatch());
  const snapshot = await watch.next();
  assert.ok(snapshot.snapshotComplete);
  assert.deepEqual(
    snapshot.policies.map(({ tenant, version }) => [tenant, version]),
    [['_platform', 1n]],
  );
  await registry.policies.publishTenant('globex');
  await publish(registry.adminClient, await signed(registry.policies, 'globex'));
  await registry.policies.publishTenant('acme');
  await publish(registry.adminClient, await signed(registry.policies, 'acme'));
  const news: string[] = [];
  while (news.length === 0) news.push(...(await watch.next()).policies.map(({ tenant }) => tenant));
  assert.deepEqual(news, ['acme']);
  watch.cancel();
});

test('a watch leaves out what is known, and tells a newer version than the registry has that it was taken back', async (t) => {
  const registry = await withPlatform(t);
  const client = registry.connect(await registry.host('web-1', ['acme']));
  const { policy } = await unary(client, PoliciesServiceService.getPolicy, { tenant: '_platform', version: 0n });
  const known = { tenant: '_platform', version: policy?.version ?? 0n, digest: policy?.digest ?? '' };
  const same = serverStream(client, PoliciesServiceService.watchPolicies, aPolicyWatch({ known: [known] }));
  assert.deepEqual((await same.next()).policies, []);
  same.cancel();
  const ahead = aPolicyWatch({ known: [{ ...known, version: 9n }] });
  const rewound = serverStream(client, PoliciesServiceService.watchPolicies, ahead);
  assert.deepEqual(
    (await rewound.next()).policies.map(({ version }) => version),
    [1n],
  );
  rewound.cancel();
});

test('a watch says again and again that it is up to date, and is silent while the store is away', async (t) => {
  const registry = await startTestRegistry(t, { environment: { REGISTRY_REFRESH_SECONDS: '1' } });
  const client = registry.connect(await registry.host('web-1', ['acme']));
  const watch = serverStream(client, PoliciesServiceService.watchPolicies, aPolicyWatch());
  const first = await watch.next();
  const second = await watch.next();
  assert.deepEqual([first.snapshotComplete, second.snapshotComplete, second.policies], [true, false, []]);
  assert.ok((second.asOf?.getTime() ?? 0) > (first.asOf?.getTime() ?? 0));
  assert.equal(second.refreshSeconds, 1);
  watch.cancel();
});

test('a policy published at one replica arrives at the watches of the other', async (t) => {
  const one = await withPlatform(t);
  const two = await startTestRegistry(t, { replicaOf: one });
  const client = two.connect(await one.host('web-1', ['acme']));
  const watch = serverStream(client, PoliciesServiceService.watchPolicies, aPolicyWatch());
  await watch.next();
  await one.policies.publishPlatform();
  await publish(one.adminClient, await signed(one.policies));
  let news = await watch.next();
  while (news.policies.length === 0) news = await watch.next();
  assert.equal(news.policies[0]?.version, 2n);
  watch.cancel();
});

test('a watch of another tenant is PERMISSION_DENIED', async (t) => {
  const registry = await withPlatform(t);
  const client = registry.connect(await registry.host('web-1', ['acme']));
  const watch = serverStream(client, PoliciesServiceService.watchPolicies, aPolicyWatch({ tenants: ['globex'] }));
  assert.equal(await watch.end, 'PERMISSION_DENIED');
});
