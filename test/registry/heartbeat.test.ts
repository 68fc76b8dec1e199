// What hosts say that they have applied, and who gets to read it.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AdminServiceService } from '../../proto/gen/mortise/registry/v1/admin.ts';
import { HostsServiceService } from '../../proto/gen/mortise/registry/v1/hosts.ts';
import { presenceOf } from '../support/presence.ts';
import { duplex, unary } from '../support/registry-client.ts';
import { aHeartbeat } from '../support/registry-messages.ts';
import { startTestRegistry, type TestRegistry } from '../support/registry-server.ts';

const DIGEST = 'a'.repeat(64);

const listed = async (registry: TestRegistry, client = registry.adminClient) => {
  const request = { pageSize: 0, pageToken: '', tenant: '', state: 'HOST_STATE_UNSPECIFIED' as const };
  return (await unary(client, AdminServiceService.listHosts, request)).hosts;
};

test('the list of hosts says which policy and catalogue position each has applied, since when', async (t) => {
  const registry = await startTestRegistry(t);
  const client = registry.connect(await registry.host('web-1', ['acme']));
  const heartbeat = duplex(client, HostsServiceService.heartbeat);
  heartbeat.write(aHeartbeat({ agentVersion: '1.2.3', startTime: new Date(1_000) }));
  const welcome = await heartbeat.next();
  assert.equal(welcome.command?.$case, 'welcome');
  assert.deepEqual(welcome.command?.value.tenants, ['acme']);
  assert.equal(welcome.command?.value.replica, 'one');
  const since = new Date(1_700_000_000_000);
  heartbeat.write(aHeartbeat({ policies: [{ tenant: '_platform', version: 3n, digest: DIGEST, since }] }));
  heartbeat.write(
    aHeartbeat({ catalogs: [{ tenant: 'acme', position: 7n }], backlogs: [{ tenant: 'acme', records: 5n }] }),
  );
  heartbeat.write(aHeartbeat({ policies: [{ tenant: '_platform', version: 4n, digest: DIGEST, since }] }));
  heartbeat.write(aHeartbeat({ parts: [{ part: 'token', healthy: false, detail: 'away' }] }));
  await presenceOf(registry.store, 'web-1', ({ parts }) => parts.length === 1);
  const [host] = await listed(registry);
  assert.equal(host?.connected, true);
  assert.equal(host?.agentVersion, '1.2.3');
  assert.deepEqual(host?.policies, [{ tenant: '_platform', version: 4n, digest: DIGEST, since }]);
  assert.deepEqual(host?.catalogs, [{ tenant: 'acme', position: 7n }]);
  assert.deepEqual(host?.backlogs, [{ tenant: 'acme', records: 5n }]);
  assert.deepEqual(host?.parts, [{ part: 'token', healthy: false, detail: 'away' }]);
  assert.match(await registry.metrics(), /^registry_hosts_connected 1$/m);
  heartbeat.close();
  assert.equal(await heartbeat.end, 'ok');
  await presenceOf(registry.store, 'web-1', ({ replica }) => replica === undefined);
  assert.equal((await listed(registry))[0]?.connected, false);
});

test('what a host says of tenants that are not its own is passed over', async (t) => {
  const registry = await startTestRegistry(t);
  const heartbeat = duplex(registry.connect(await registry.host('web-1', ['acme'])), HostsServiceService.heartbeat);
  heartbeat.write(
    aHeartbeat({
      catalogs: [
        { tenant: 'globex', position: 1n },
        { tenant: 'acme', position: 2n },
      ],
      policies: [{ tenant: 'globex', version: 1n, digest: DIGEST, since: undefined }],
      backlogs: [{ tenant: 'globex', records: 9n }],
    }),
  );
  await heartbeat.next();
  await presenceOf(registry.store, 'web-1', ({ catalogs }) => catalogs.length > 0);
  const [host] = await listed(registry);
  assert.deepEqual([host?.catalogs.map(({ tenant }) => tenant), host?.policies, host?.backlogs], [['acme'], [], []]);
});

test("a tenant's administrator sees of a shared host only what is his tenant's, and other hosts not at all", async (t) => {
  const registry = await startTestRegistry(t);
  const shared = duplex(
    registry.connect(await registry.host('shared', ['acme', 'globex'])),
    HostsServiceService.heartbeat,
  );
  shared.write(
    aHeartbeat({
      catalogs: [
        { tenant: 'acme', position: 1n },
        { tenant: 'globex', position: 2n },
      ],
    }),
  );
  await shared.next();
  await presenceOf(registry.store, 'shared', ({ catalogs }) => catalogs.length === 2);
  await registry.host('theirs', ['globex']);
  const admin = await registry.administrator('acme-admin', { scopes: ['hosts.read'], tenants: ['acme'] });
  const hosts = await listed(registry, registry.connect(admin));
  assert.deepEqual(
    hosts.map(({ host, tenants }) => [host, tenants]),
    [['shared', ['acme']]],
  );
  assert.deepEqual(hosts[0]?.catalogs, [{ tenant: 'acme', position: 1n }]);
});

test('a second heartbeat of a host ends the first, also at another replica', async (t) => {
  const one = await startTestRegistry(t);
  const two = await startTestRegistry(t, { replicaOf: one });
  const host = await one.host('web-1', ['acme']);
  const open = async (registry: TestRegistry) => {
    const heartbeat = duplex(registry.connect(host), HostsServiceService.heartbeat);
    heartbeat.write(aHeartbeat({ agentVersion: '1' }));
    await heartbeat.next();
    return heartbeat;
  };
  const first = await open(one);
  const second = await open(one);
  assert.equal(await first.end, 'HEARTBEAT_REPLACED');
  await presenceOf(one.store, 'web-1', ({ replica }) => replica === 'one');
  const third = await open(two);
  assert.equal(await second.end, 'HEARTBEAT_REPLACED');
  await presenceOf(one.store, 'web-1', ({ replica }) => replica === 'two');
  third.cancel();
});

test('a host that falls silent counts as gone', async (t) => {
  const registry = await startTestRegistry(t, { environment: { REGISTRY_HEARTBEAT_SECONDS: '1' } });
  const heartbeat = duplex(registry.connect(await registry.host('web-1', ['acme'])), HostsServiceService.heartbeat);
  heartbeat.write(aHeartbeat());
  await heartbeat.next();
  assert.equal(await heartbeat.end, 'DEADLINE_EXCEEDED');
  await presenceOf(registry.store, 'web-1', ({ replica }) => replica === undefined);
});

test('a heartbeat that says nonsense is INVALID_REQUEST', async (t) => {
  const registry = await startTestRegistry(t);
  const host = await registry.host('web-1', ['acme']);
  const nonsense = [
    aHeartbeat({ policies: [{ tenant: 'acme', version: 1n, digest: 'x', since: undefined }] }),
    aHeartbeat({ catalogs: [{ tenant: 'acme', position: 2n ** 63n }] }),
    aHeartbeat({ agentVersion: 'v'.repeat(65) }),
  ];
  for (const message of nonsense) {
    const heartbeat = duplex(registry.connect(host), HostsServiceService.heartbeat);
    heartbeat.write(message);
    assert.equal(await heartbeat.end, 'INVALID_REQUEST');
  }
});
