// Session budgets over the wire: who may set them, who is given what, and what is recorded.
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import {
  type LeaseSessionsRequest,
  LeaseSessionsRequest as LeaseSessionsRequestMessage,
  SessionsServiceService,
} from '../../proto/gen/mortise/registry/v1/sessions.ts';
import { refusedWith, unary } from '../support/registry-client.ts';
import { startTestRegistry } from '../support/registry-server.ts';

const token = { label: 'partition-1', serial: '4711' };
const budget = { token, total: 20, reserve: 2, leaseSeconds: 30 };
const aQuestion = (change: Partial<LeaseSessionsRequest> = {}): LeaseSessionsRequest =>
  LeaseSessionsRequestMessage.fromPartial({ token, name: 'default', held: 2, wanted: 11, fallback: 2, ...change });

const start = async (t: TestContext) => {
  const registry = await startTestRegistry(t);
  const web = registry.connect(await registry.host('web-1', ['acme']));
  const db = registry.connect(await registry.host('db-1', ['acme']));
  const lease = (client: typeof web, change?: Partial<LeaseSessionsRequest>) =>
    unary(client, SessionsServiceService.leaseSessions, aQuestion(change));
  return { registry, web, db, lease };
};

test('a host has a share of a budget that an administrator set, and a second replica counts it', async (t) => {
  const { registry, web, db, lease } = await start(t);
  assert.equal((await lease(web)).limited, false, 'no budget, no limit');
  const set = await unary(registry.adminClient, SessionsServiceService.setBudget, budget);
  assert.equal(
    set.budget?.setBy,
    registry.records.find(({ operation }) => operation === 'set-session-budget')?.principal.replace('admin/', ''),
  );
  const first = await lease(web);
  assert.deepEqual([first.limited, first.share, first.total, first.hosts], [true, 11, 20, 1]);
  const replica = await startTestRegistry(t, { replicaOf: registry });
  const elsewhere = replica.connect(await registry.host('db-2', ['acme']));
  assert.equal((await lease(elsewhere, { wanted: 20 })).share, 7, 'what the first does not want');
  assert.equal((await lease(db)).share, 2);
  const { budgets } = await unary(registry.adminClient, SessionsServiceService.listBudgets, {});
  assert.deepEqual(
    budgets[0]?.shares.map(({ host, name, state, held }) => ({ host, name, state, held })),
    [
      { host: 'db-1', name: 'default', state: 'leased', held: 2 },
      { host: 'db-2', name: 'default', state: 'leased', held: 7 },
      { host: 'web-1', name: 'default', state: 'leased', held: 11 },
    ],
  );
  assert.match(await registry.metrics(), /^registry_session_leases_total\{outcome="grown"\} [1-9]/m);
});

test('a host that leaves is told so in the list, and its lease cannot be forgotten before it is over', async (t) => {
  const { registry, web, db, lease } = await start(t);
  await unary(registry.adminClient, SessionsServiceService.setBudget, budget);
  await lease(web);
  await lease(db);
  await lease(web, { leaving: true });
  const { budgets } = await unary(registry.adminClient, SessionsServiceService.listBudgets, {});
  assert.deepEqual(
    budgets[0]?.shares.map(({ host, state }) => [host, state]),
    [
      ['db-1', 'leased'],
      ['web-1', 'leaving'],
    ],
  );
  const forget = (host: string) => unary(registry.adminClient, SessionsServiceService.forgetShare, { token, host });
  await assert.rejects(forget('db-1'), refusedWith('INVALID_REQUEST'));
  await assert.rejects(forget('nobody'), refusedWith('HOST_UNKNOWN'));
  assert.deepEqual(
    (await forget('web-1')).budget?.shares.map(({ host }) => host),
    ['db-1'],
  );
  const forgotten = registry.records.filter(({ operation }) => operation === 'forget-session-share');
  assert.deepEqual(
    forgotten.map(({ outcome }) => outcome),
    ['INVALID_REQUEST', 'HOST_UNKNOWN', 'ok'],
  );
});

test('budgets are set by platform administrators alone, leased by hosts alone, and nonsense is refused', async (t) => {
  const { registry, web, lease } = await start(t);
  const tenants = await registry.administrator('tina', { scopes: ['hosts.manage', 'hosts.read'], tenants: ['acme'] });
  const reader = await registry.administrator('rhea', { scopes: ['hosts.read'] });
  for (const who of [registry.connect(tenants), registry.connect(reader), web]) {
    await assert.rejects(unary(who, SessionsServiceService.setBudget, budget), refusedWith('PERMISSION_DENIED'));
  }
  await assert.rejects(
    unary(registry.connect(tenants), SessionsServiceService.listBudgets, {}),
    refusedWith('PERMISSION_DENIED'),
  );
  await assert.rejects(lease(registry.adminClient), refusedWith('PERMISSION_DENIED'));
  await unary(registry.connect(reader), SessionsServiceService.listBudgets, {});
  const wrong = [
    { token: undefined },
    { token: { label: '', serial: '' } },
    { token: { label: 'x'.repeat(33), serial: '' } },
    { token: { label: 'x', serial: 'y'.repeat(17) } },
    { name: '' },
    { held: 1025 },
    { wanted: 1 },
    { grant: 2n ** 60n },
  ];
  for (const change of wrong) await assert.rejects(lease(web, change), refusedWith('INVALID_REQUEST'));
});
