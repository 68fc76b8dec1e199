// Every call of the registry with another tenant's names: refused, whether or not what is named exists. And what crosses
// tenants by its own scope stands in the logs of both.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { before, type TestContext, test } from 'node:test';
import type { Client, ServiceError } from '@grpc/grpc-js';
import { TENANT_PATTERN } from '../../proto/documents/key-record.ts';
import { encodeKeyRecord } from '../../proto/documents/key-record-parse.ts';
import { AdminServiceService } from '../../proto/gen/mortise/registry/v1/admin.ts';
import { CatalogServiceService } from '../../proto/gen/mortise/registry/v1/catalog.ts';
import { HostsServiceService } from '../../proto/gen/mortise/registry/v1/hosts.ts';
import { LedgerServiceService } from '../../proto/gen/mortise/registry/v1/ledger.ts';
import { PoliciesServiceService } from '../../proto/gen/mortise/registry/v1/policies.ts';
import { SessionsServiceService } from '../../proto/gen/mortise/registry/v1/sessions.ts';
import { CODES, type Code } from '../../registry/errors.ts';
import { RULES } from '../../registry/server/rules.ts';
import { aRecord } from '../support/key-records.ts';
import { presenceOf } from '../support/presence.ts';
import { duplex, type Method, reasonOf, refusedWith, serverStream, unary } from '../support/registry-client.ts';
import { aFilter, aHeartbeat, aPolicyWatch } from '../support/registry-messages.ts';
import { hostRequest, startTestRegistry, type TestRegistry } from '../support/registry-server.ts';

const OTHERS = 'globex';
const NONE = { pageSize: 0, pageToken: '' };

const entry = (tenant: string, keyId = 'orders') => ({
  tenant,
  entry: {
    $case: 'keyRecord' as const,
    value: encodeKeyRecord(aRecord({ tenant: TENANT_PATTERN.test(tenant) ? tenant : OTHERS, keyId, revision: 1 })),
  },
});

/** What the call comes to: "ok" or the reason of its refusal, with its words where they are not those of the table. */
type Attempt = (client: Client, tenant: string) => Promise<string>;

const wordsOf = (error: unknown): string => {
  const [reason, { details }] = [reasonOf(error), error as ServiceError];
  const told = CODES[reason as Code]?.text;
  return details === told ? reason : `${reason}: ${details}`;
};

const once =
  <Req, Res>(method: Method<Req, Res>, request: (tenant: string) => Req): Attempt =>
  (client, tenant) =>
    unary(client, method, request(tenant)).then(() => 'ok', wordsOf);
const streamed =
  <Req, Res>(method: Method<Req, Res>, request: (tenant: string) => Req): Attempt =>
  (client, tenant) =>
    serverStream(client, method, request(tenant)).end;

const catalog = CatalogServiceService;
const ledger = LedgerServiceService;
const admin = AdminServiceService;

const aToken = { label: 'hsm', serial: '1' };

/** Each call that names a tenant, as a host may try it. */
const HOST_CALLS: Readonly<Record<string, Attempt>> = {
  WatchPolicies: streamed(PoliciesServiceService.watchPolicies, (tenant) => aPolicyWatch({ tenants: [tenant] })),
  GetPolicy: once(PoliciesServiceService.getPolicy, (tenant) => ({ tenant, version: 0n })),
  GetPolicyHistory: once(PoliciesServiceService.getPolicyHistory, (tenant) => ({ tenant, ...NONE })),
  PutEntry: once(catalog.putEntry, (tenant) => ({ entry: entry(tenant), expectedRevision: 0n, correlationId: '' })),
  GetEntry: once(catalog.getEntry, (tenant) => ({ tenant, kind: 'ENTRY_KIND_KEY' as const, name: 'orders' })),
  ListEntries: once(catalog.listEntries, (tenant) => ({ tenant, kind: 'ENTRY_KIND_KEY' as const, ...NONE })),
  WatchCatalog: streamed(catalog.watchCatalog, (tenant) => ({
    from: [{ tenant, position: 0n, head: Buffer.alloc(0) }],
    rebuilds: {},
  })),
  OfferEntries: once(catalog.offerEntries, (tenant) => ({
    ...{
      tenant,
      rebuild: randomBytes(16),
      entries: [entry(tenant)],
      uses: [],
      complete: true,
      objects: [],
      tokenUnread: '',
    },
  })),
  WaitForHosts: streamed(catalog.waitForHosts, (tenant) => ({ tenant, position: 1n })),
  LeaseUses: once(catalog.leaseUses, (tenant) => ({
    leaseId: randomBytes(16),
    tenant,
    keyId: 'orders',
    version: 1,
    wanted: 1,
  })),
  GetReceipt: once(ledger.getReceipt, (tenant) => ({ tenant, eventId: 'web-1/1/1' })),
};

/** Each call that names a tenant, as an administrator of another tenant may try it. */
const ADMIN_CALLS: Readonly<Record<string, Attempt>> = {
  GetPolicy: HOST_CALLS['GetPolicy'] as Attempt,
  GetPolicyHistory: HOST_CALLS['GetPolicyHistory'] as Attempt,
  GetEntry: HOST_CALLS['GetEntry'] as Attempt,
  ListEntries: HOST_CALLS['ListEntries'] as Attempt,
  WaitForHosts: HOST_CALLS['WaitForHosts'] as Attempt,
  GetReceipt: HOST_CALLS['GetReceipt'] as Attempt,
  QueryRecords: once(ledger.queryRecords, (tenant) => ({ filter: aFilter({ tenant }), ...NONE })),
  ExportRecords: streamed(ledger.exportRecords, (tenant) => ({
    filter: aFilter({ tenant }),
    format: 'EXPORT_FORMAT_CSV' as const,
    part: undefined,
  })),
  VerifyLedger: once(ledger.verifyLedger, (tenant) => ({ tenant, host: '', trustedCheckpoints: [] })),
  ListLogs: once(ledger.listLogs, (tenant) => ({ tenant, ...NONE })),
  ReadLog: once(ledger.readLog, (tenant) => ({ tenant, origin: `web-1/${tenant}/1`, from: 0n, pageSize: 0 })),
  CreateTenant: once(admin.createTenant, (tenant) => ({ tenant, displayName: '' })),
  CreateHost: once(admin.createHost, (tenant) => hostRequest('new-host', [tenant])),
  ListHosts: once(admin.listHosts, (tenant) => ({ tenant, state: 'HOST_STATE_UNSPECIFIED' as const, ...NONE })),
  BeginRebuild: once(catalog.beginRebuild, (tenant) => ({ tenant, seconds: 0 })),
  GetRebuild: once(catalog.getRebuild, (tenant) => ({ tenant })),
  EndRebuild: once(catalog.endRebuild, (tenant) => ({ tenant, acceptMissing: true })),
  // Of tokens, which are nobody's of the tenants': no administrator of a tenant sees or changes how hosts share them.
  ListBudgets: once(SessionsServiceService.listBudgets, () => ({})),
  SetBudget: once(SessionsServiceService.setBudget, () => ({ token: aToken, total: 9, reserve: 0, leaseSeconds: 60 })),
  ForgetShare: once(SessionsServiceService.forgetShare, () => ({ token: aToken, host: 'theirs' })),
  RevokeHost: once(admin.revokeHost, () => ({ host: 'theirs', reason: '' })),
  CreateAdmin: once(admin.createAdmin, (tenant) => ({
    name: 'mole',
    scopes: ['hosts.read'],
    tenants: [tenant],
    tokenSeconds: 0,
  })),
};

const SCOPES = [
  'tenants.manage',
  'hosts.read',
  'hosts.manage',
  'admins.manage',
  'policy.read',
  'catalog.read',
  'catalog.rebuild',
  'audit.read',
];

const withTwoTenants = async (t: TestContext): Promise<TestRegistry> => {
  const registry = await startTestRegistry(t);
  await registry.host('theirs', [OTHERS]);
  return registry;
};

/** Each refusal stands in the log of the platform and in that of the caller's tenant, and in no other tenant's. */
const assertRefused = (registry: TestRegistry, operation: string, principal: string, times: number): void => {
  const rows = registry.records.filter((row) => row.operation === operation);
  for (const tenant of ['_platform', 'acme']) {
    const told = rows.filter((row) => row.tenant === tenant && row.principal === principal);
    assert.equal(told.length, times, `${operation} in the log of ${tenant}`);
    assert.ok(told.every(({ outcome }) => outcome === 'PERMISSION_DENIED'));
  }
  assert.deepEqual([...new Set(registry.records.map(({ tenant }) => tenant))].sort(), ['_platform', 'acme']);
};

/** What the attempts named is as it was, or is still not there. */
const assertUntouched = async ({ adminClient, store }: TestRegistry): Promise<void> => {
  const { tenants } = await unary(adminClient, admin.listTenants, NONE);
  assert.ok(tenants.every(({ tenant }) => ['acme', OTHERS].includes(tenant)));
  assert.equal((await store.host('theirs'))?.state, 'ACTIVE');
  assert.equal(await store.host('new-host'), undefined);
  const { admins } = await unary(adminClient, admin.listAdmins, {});
  assert.ok(admins.every(({ name }) => name !== 'mole'));
  const platform = { kind: 'registry' as const, name: 'test' };
  for (const tenant of [OTHERS, 'nobody']) {
    const rows = await store.forTenant(tenant, platform).entries({ limit: 10 } as never);
    assert.deepEqual(rows, [], tenant);
  }
};

before(() => {
  const named = new Set([...Object.keys(HOST_CALLS), ...Object.keys(ADMIN_CALLS)]);
  // Calls that name no tenant, or are tried on their own below.
  const apart = [
    'LeaseSessions',
    'Enrol',
    'Renew',
    'Heartbeat',
    'Append',
    'ReturnUses',
    'ListTenants',
    'ListAdmins',
    'RevokeAdmin',
  ];
  for (const name of [...apart, 'PublishPolicy', 'GetRegistryStatus']) named.add(name);
  const services = [HostsServiceService, PoliciesServiceService, catalog, ledger, admin, SessionsServiceService];
  const generated = services.flatMap((service) => Object.values(service)).map(({ path }) => path);
  assert.deepEqual(Object.keys(RULES).sort(), generated.sort());
  const missing = generated.filter((path) => !named.has(path.split('/').at(-1) as string));
  assert.deepEqual(missing, [], 'calls that no test tries with another tenant');
});

test("a host's call with another tenant's name is PERMISSION_DENIED, whether or not that tenant exists", async (t) => {
  const registry = await withTwoTenants(t);
  const client = registry.connect(await registry.host('web-1', ['acme']));
  registry.records.length = 0;
  for (const [name, attempt] of Object.entries(HOST_CALLS)) {
    for (const tenant of [OTHERS, 'nobody', 'acme/x', '']) {
      assert.equal(await attempt(client, tenant), 'PERMISSION_DENIED', `${name} of ${JSON.stringify(tenant)}`);
    }
    assertRefused(registry, name, 'host/web-1', 4);
  }
  await assertUntouched(registry);
});

test("an administrator's call with a tenant that is not his is PERMISSION_DENIED", async (t) => {
  const registry = await withTwoTenants(t);
  const client = registry.connect(await registry.administrator('acme-admin', { scopes: SCOPES, tenants: ['acme'] }));
  registry.records.length = 0;
  for (const [name, attempt] of Object.entries(ADMIN_CALLS)) {
    for (const tenant of [OTHERS, 'nobody', '_platform']) {
      if (name === 'CreateTenant' && tenant === '_platform') continue; // no tenant's name: refused before
      assert.equal(await attempt(client, tenant), 'PERMISSION_DENIED', `${name} of ${tenant}`);
    }
    assertRefused(registry, name, 'admin/acme-admin', name === 'CreateTenant' ? 2 : 3);
  }
  await assertUntouched(registry);
  const platform = { name: 'mole', scopes: ['hosts.read'], tenants: [], tokenSeconds: 0 };
  await assert.rejects(unary(client, admin.createAdmin, platform), refusedWith('PERMISSION_DENIED'));
  const more = { name: 'mole', scopes: ['audit.read-any'], tenants: ['acme'], tokenSeconds: 0 };
  await assert.rejects(unary(client, admin.createAdmin, more), refusedWith('PERMISSION_DENIED'));
  await assert.rejects(unary(client, admin.revokeAdmin, { name: 'root' }), refusedWith('PERMISSION_DENIED'));
  assert.deepEqual(
    (await unary(client, admin.listTenants, NONE)).tenants.map(({ tenant }) => tenant),
    [],
  );
  assert.deepEqual(
    (await unary(client, admin.listAdmins, {})).admins.map(({ name }) => name),
    ['acme-admin'],
  );
});

test('a host takes no other host over: neither by a log, nor by a lease, nor in a heartbeat', async (t) => {
  const registry = await withTwoTenants(t);
  const client = registry.connect(await registry.host('web-1', ['acme']));
  const append = duplex(client, ledger.append);
  const jwk = '{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}';
  for (const origin of ['theirs/globex/1', 'web-1/globex/1', 'web-1/_platform/1/x', '']) {
    append.write({ item: { $case: 'open', value: { origin, publicJwk: jwk, size: 0n } } });
    const { result } = await append.next();
    assert.equal(result?.$case === 'refused' && result.value.code, 'PERMISSION_DENIED', origin);
  }
  append.close();
  await append.end;
  const stolen = unary(client, catalog.returnUses, { leaseId: randomBytes(16), unused: 0 });
  await assert.rejects(stolen, refusedWith('LEASE_UNKNOWN'));
  const heartbeat = duplex(client, HostsServiceService.heartbeat);
  heartbeat.write(aHeartbeat());
  await heartbeat.next();
  assert.equal(await registry.store.presence('theirs'), undefined);
  heartbeat.cancel();
});

test('a page token of one tenant is no page token of another', async (t) => {
  const registry = await startTestRegistry(t);
  const client = registry.connect(await registry.host('web-1', ['acme', OTHERS]));
  for (const tenant of ['acme', OTHERS]) {
    for (const keyId of ['a', 'b']) {
      await unary(client, catalog.putEntry, { entry: entry(tenant, keyId), expectedRevision: 0n, correlationId: '' });
    }
  }
  const list = (tenant: string, pageToken: string) =>
    unary(client, catalog.listEntries, { tenant, kind: 'ENTRY_KIND_UNSPECIFIED' as const, pageSize: 1, pageToken });
  const first = await list('acme', '');
  assert.notEqual(first.nextPageToken, '');
  await assert.rejects(list(OTHERS, first.nextPageToken), refusedWith('INVALID_REQUEST'));
  const second = await list('acme', first.nextPageToken);
  assert.equal(second.changes.length, 1);
});

test('reading across tenants needs audit.read-any, and stands in the logs of the platform and of the tenant', async (t) => {
  const registry = await withTwoTenants(t);
  const auditor = registry.connect(
    await registry.administrator('auditor', { scopes: ['audit.read-any'], tenants: ['acme'] }),
  );
  registry.records.length = 0;
  const request = { filter: aFilter({ tenant: OTHERS }), ...NONE };
  const { records } = await unary(auditor, ledger.queryRecords, request);
  assert.ok(records.length > 0);
  const rows = registry.records.map(({ tenant, operation, principal, outcome }) => [
    tenant,
    operation,
    principal,
    outcome,
  ]);
  assert.deepEqual(rows, [
    ['_platform', 'query-records', 'admin/auditor', 'ok'],
    [OTHERS, 'query-records', 'admin/auditor', 'ok'],
  ]);
  registry.failRecords(true);
  await assert.rejects(unary(auditor, ledger.queryRecords, request), refusedWith('STORE_UNAVAILABLE'));
});

test('to the administrators of the platform, too, the logs of tenants are open by audit.read-any alone', async (t) => {
  const registry = await withTwoTenants(t);
  const reader = registry.connect(await registry.administrator('reader', { scopes: ['audit.read'] }));
  for (const name of ['QueryRecords', 'ExportRecords', 'VerifyLedger', 'ListLogs', 'ReadLog', 'GetReceipt']) {
    for (const tenant of [OTHERS, 'nobody']) {
      assert.equal(await ADMIN_CALLS[name]?.(reader, tenant), 'PERMISSION_DENIED', `${name} of ${tenant}`);
    }
  }
  assert.equal(await ADMIN_CALLS['QueryRecords']?.(reader, '_platform'), 'ok');
  const auditor = registry.connect(await registry.administrator('auditor', { scopes: ['audit.read-any'] }));
  for (const [name, operation] of [
    ['QueryRecords', 'query-records'],
    ['ExportRecords', 'export-records'],
    ['VerifyLedger', 'verify-ledger'],
    ['ListLogs', 'list-logs'],
    ['ReadLog', 'read-log'],
  ] as const) {
    registry.records.length = 0;
    assert.equal(await ADMIN_CALLS[name]?.(auditor, OTHERS), 'ok', name);
    assert.deepEqual(
      registry.records.map(({ tenant, operation: done }) => [tenant, done]),
      [
        ['_platform', operation],
        [OTHERS, operation],
      ],
    );
  }
});

/** The first answer of a wait that would go on, since no host has applied anything. */
const firstOfWait: Attempt = async (client, tenant) => {
  const wait = serverStream(client, catalog.waitForHosts, { tenant, position: 1n });
  try {
    return await Promise.race([wait.next().then(() => 'ok'), wait.end]);
  } finally {
    wait.cancel();
  }
};

test('what administrators of the platform read of a tenant stands in the logs of both, or is not answered', async (t) => {
  const registry = await withTwoTenants(t);
  const host = registry.connect(await registry.host('web-2', [OTHERS]));
  await unary(host, catalog.putEntry, { entry: entry(OTHERS), expectedRevision: 0n, correlationId: '' });
  const scopes = ['hosts.read', 'policy.read', 'catalog.read', 'catalog.rebuild'];
  const platform = registry.connect(await registry.administrator('platform', { scopes }));
  const own = registry.connect(await registry.administrator('own', { scopes, tenants: [OTHERS] }));
  const reads: Readonly<Record<string, readonly [Attempt | undefined, string]>> = {
    'get-entry': [ADMIN_CALLS['GetEntry'], 'ok'],
    'list-entries': [ADMIN_CALLS['ListEntries'], 'ok'],
    'wait-for-hosts': [firstOfWait, 'ok'],
    'get-rebuild': [ADMIN_CALLS['GetRebuild'], 'REBUILD_UNKNOWN'],
    'get-policy': [ADMIN_CALLS['GetPolicy'], 'POLICY_UNKNOWN'],
    'get-policy-history': [ADMIN_CALLS['GetPolicyHistory'], 'ok'],
    'list-hosts': [ADMIN_CALLS['ListHosts'], 'ok'],
  };
  for (const [operation, [attempt, answer]] of Object.entries(reads)) {
    registry.records.length = 0;
    assert.equal(await attempt?.(platform, OTHERS), answer, operation);
    assert.deepEqual(
      registry.records.map((row) => [row.tenant, row.operation, row.principal, row.outcome]),
      ['_platform', OTHERS].map((tenant) => [tenant, operation, 'admin/platform', 'ok']),
    );
    registry.records.length = 0;
    assert.equal(await attempt?.(own, OTHERS), answer, operation);
    assert.deepEqual(registry.records, [], 'what is his own anybody reads unrecorded');
    registry.failRecords(true);
    assert.equal(await attempt?.(platform, OTHERS), 'STORE_UNAVAILABLE', operation);
    registry.failRecords(false);
  }
  registry.records.length = 0;
  const everybody = { tenant: '', state: 'HOST_STATE_UNSPECIFIED' as const, ...NONE };
  await unary(platform, admin.listHosts, everybody);
  assert.deepEqual(
    registry.records.map((row) => row.tenant),
    ['_platform', OTHERS],
  );
});

test('a receipt is for the events of the host itself, whether or not another has such an event', async (t) => {
  const registry = await withTwoTenants(t);
  const host = registry.connect(await registry.host('web-1', ['acme', OTHERS]));
  for (const tenant of ['acme', OTHERS, '_platform']) {
    for (const eventId of ['theirs/1/1', 'registry.one/1/1', 'web-11/1/1', 'web-1']) {
      const refused = unary(host, ledger.getReceipt, { tenant, eventId });
      await assert.rejects(refused, refusedWith('PERMISSION_DENIED'), `${eventId} of ${tenant}`);
    }
  }
  const reader = registry.connect(
    await registry.administrator('reader', { scopes: ['audit.read'], tenants: ['acme'] }),
  );
  const there = registry.records.find(({ tenant }) => tenant === OTHERS)?.eventId ?? '';
  assert.match(there, /^registry\./);
  for (const eventId of [there, `${there}9`]) {
    const unknown = unary(reader, ledger.getReceipt, { tenant: 'acme', eventId });
    await assert.rejects(unknown, (error) => assert.equal(wordsOf(error), 'RECORD_UNKNOWN') === undefined);
  }
});

test('pages of hosts, and what is said of the parts of a shared host, name nobody to the administrator of one tenant', async (t) => {
  const registry = await startTestRegistry(t);
  for (const name of ['a-theirs', 'b-theirs', 'd-theirs']) await registry.host(name, [OTHERS]);
  await registry.host('e-ours', ['acme']);
  const shared = duplex(
    registry.connect(await registry.host('c-shared', ['acme', OTHERS])),
    HostsServiceService.heartbeat,
  );
  const parts = [{ part: 'audit', healthy: false, detail: `the audit log of ${OTHERS} does not verify` }];
  shared.write(aHeartbeat({ parts }));
  await shared.next();
  await presenceOf(registry.store, 'c-shared', (row) => row.parts.length === 1);
  const ours = registry.connect(await registry.administrator('ours', { scopes: ['hosts.read'], tenants: ['acme'] }));
  const list = (client: Client, pageToken: string) =>
    unary(client, admin.listHosts, { tenant: '', state: 'HOST_STATE_UNSPECIFIED' as const, pageSize: 1, pageToken });
  const seen: string[] = [];
  for (let pageToken: string | undefined; pageToken !== ''; ) {
    const { hosts, nextPageToken } = await list(ours, pageToken ?? '');
    for (const { host, parts: shown } of hosts) {
      seen.push(host);
      assert.ok(shown.every(({ detail }) => detail === ''));
    }
    assert.doesNotMatch(Buffer.from(nextPageToken, 'base64url').toString('latin1'), /theirs/);
    pageToken = nextPageToken;
  }
  assert.deepEqual(seen, ['c-shared', 'e-ours']);
  shared.cancel();
});
