// A host or administrator that is cut off: open streams end at once, on every replica, and nothing is taken again.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AdminServiceService } from '../../proto/gen/mortise/registry/v1/admin.ts';
import { HostsServiceService } from '../../proto/gen/mortise/registry/v1/hosts.ts';
import { PoliciesServiceService } from '../../proto/gen/mortise/registry/v1/policies.ts';
import { type Certified, duplex, enrolWith, refusedWith, serverStream, unary } from '../support/registry-client.ts';
import { aHeartbeat, aPolicyWatch } from '../support/registry-messages.ts';
import { hostRequest, startTestRegistry, type TestRegistry } from '../support/registry-server.ts';

const revoke = (registry: TestRegistry, host: string, reason = 'stolen') =>
  unary(registry.adminClient, AdminServiceService.revokeHost, { host, reason });

const openStreams = async (registry: TestRegistry, who: Certified) => {
  const client = registry.connect(who);
  const heartbeat = duplex(client, HostsServiceService.heartbeat);
  heartbeat.write(aHeartbeat({ agentVersion: '1.0.0' }));
  assert.equal((await heartbeat.next()).command?.$case, 'welcome');
  const watch = serverStream(client, PoliciesServiceService.watchPolicies, aPolicyWatch());
  assert.ok((await watch.next()).snapshotComplete);
  return { client, heartbeat, watch };
};

test('revoking a host ends its open streams and connections, and tells it why', async (t) => {
  const registry = await startTestRegistry(t);
  const host = await registry.host('web-1', ['acme']);
  const other = await registry.host('web-2', ['acme']);
  const theirs = await openStreams(registry, other);
  const { client, heartbeat, watch } = await openStreams(registry, host);
  const ends = Promise.all([heartbeat.end, watch.end]);
  const { host: row } = await revoke(registry, 'web-1');
  assert.equal(row?.state, 'HOST_STATE_REVOKED');
  assert.deepEqual(await heartbeat.next(), { command: { $case: 'revoked', value: { reason: 'stolen' } } });
  assert.deepEqual(await ends, ['HOST_REVOKED', 'HOST_REVOKED']);
  const again = unary(client, PoliciesServiceService.getPolicy, { tenant: 'acme', version: 0n });
  await assert.rejects(again, refusedWith('HOST_REVOKED'));
  theirs.heartbeat.write(aHeartbeat());
  await unary(theirs.client, PoliciesServiceService.getPolicyHistory, { tenant: 'acme', pageSize: 0, pageToken: '' });
});

test('a revocation at one replica cuts the host off at the other', async (t) => {
  const one = await startTestRegistry(t);
  const two = await startTestRegistry(t, { replicaOf: one });
  const host = await one.host('web-1', ['acme']);
  const { heartbeat, watch } = await openStreams(two, host);
  const ends = Promise.all([heartbeat.end, watch.end]);
  await revoke(one, 'web-1');
  assert.deepEqual(await ends, ['HOST_REVOKED', 'HOST_REVOKED']);
});

test('a revoked host comes back only where it is reinstated, and never with its old certificate', async (t) => {
  const registry = await startTestRegistry(t);
  const before = await registry.host('web-1', ['acme']);
  await revoke(registry, 'web-1');
  const create = (change: object) =>
    unary(registry.adminClient, AdminServiceService.createHost, hostRequest('web-1', ['acme'], change));
  await assert.rejects(create({}), refusedWith('HOST_REVOKED'));
  const { token } = await create({ reinstate: true });
  const ask = (who: Certified) =>
    unary(registry.connect(who), PoliciesServiceService.getPolicyHistory, {
      tenant: 'acme',
      pageSize: 0,
      pageToken: '',
    });
  await assert.rejects(ask(before), refusedWith('UNAUTHENTICATED'));
  const after = await enrolWith(registry.port, { token: token?.token ?? '', roots: registry.roots });
  await ask(after);
  await assert.rejects(ask(before), refusedWith('UNAUTHENTICATED'));
});

test('the revocation is in the audit logs of the platform and of the tenants, before and after it was done', async (t) => {
  const registry = await startTestRegistry(t);
  await registry.host('web-1', ['acme', 'globex']);
  registry.records.length = 0;
  await revoke(registry, 'web-1');
  assert.deepEqual(
    registry.records.map(({ tenant, operation, outcome, principal }) => [tenant, operation, outcome, principal]),
    ['intent', 'ok'].flatMap((outcome) =>
      ['_platform', 'acme', 'globex'].map((tenant) => [tenant, 'revoke-host', outcome, 'admin/root']),
    ),
  );
  assert.equal(registry.records[0]?.detail['reason'], 'stolen');
});

test('revoking twice is answered alike, and an unknown host is HOST_UNKNOWN', async (t) => {
  const registry = await startTestRegistry(t);
  await registry.host('web-1', ['acme']);
  const first = await revoke(registry, 'web-1', 'stolen');
  const second = await revoke(registry, 'web-1', 'another reason');
  assert.deepEqual(second.host, first.host);
  await assert.rejects(revoke(registry, 'web-9'), refusedWith('HOST_UNKNOWN'));
});

test('without a record there is no answer, and nothing that cannot be undone is done', async (t) => {
  const registry = await startTestRegistry(t);
  const host = await registry.host('web-1', ['acme']);
  registry.failRecords(true);
  await assert.rejects(revoke(registry, 'web-1'), refusedWith('STORE_UNAVAILABLE'));
  registry.failRecords(false);
  await unary(registry.connect(host), PoliciesServiceService.getPolicyHistory, {
    tenant: 'acme',
    pageSize: 0,
    pageToken: '',
  });
});

test('an administrator that is cut off loses his connection, and the last one cannot be cut off', async (t) => {
  const registry = await startTestRegistry(t);
  const second = registry.connect(await registry.administrator('second', { scopes: ['admins.manage', 'hosts.read'] }));
  const listAdmins = () => unary(second, AdminServiceService.listAdmins, {});
  assert.deepEqual(
    (await listAdmins()).admins.map(({ name }) => name),
    ['root', 'second'],
  );
  await unary(registry.adminClient, AdminServiceService.revokeAdmin, { name: 'second' });
  await assert.rejects(listAdmins(), refusedWith('HOST_REVOKED'));
  const last = unary(registry.adminClient, AdminServiceService.revokeAdmin, { name: 'root' });
  await assert.rejects(last, refusedWith('LAST_ADMIN'));
  const lesser = { name: 'root', scopes: ['hosts.read'], tenants: [], tokenSeconds: 0 };
  await assert.rejects(unary(registry.adminClient, AdminServiceService.createAdmin, lesser), refusedWith('LAST_ADMIN'));
});

test('a certificate that has ended is no caller, also on a connection that began with it', async (t) => {
  const registry = await startTestRegistry(t);
  const { client, heartbeat, watch } = await openStreams(registry, await registry.host('web-1', ['acme']));
  const row = await registry.store.host('web-1');
  assert.ok(row?.certificates);
  const ends = Promise.all([heartbeat.end, watch.end]);
  const certificates = { ...row.certificates, expiresAt: Date.now() - 1 };
  assert.ok(await registry.store.change({ host: { ...row, certificates, revision: row.revision + 1 } }));
  assert.deepEqual(await ends, ['UNAUTHENTICATED', 'UNAUTHENTICATED']);
  const request = { tenant: 'acme', pageSize: 0, pageToken: '' };
  await assert.rejects(unary(client, PoliciesServiceService.getPolicyHistory, request), refusedWith('UNAUTHENTICATED'));
});
