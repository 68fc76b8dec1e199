// The registry's own audit logs: verified as those of hosts, continued over restarts.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { AdminServiceService } from '../../proto/gen/mortise/registry/v1/admin.ts';
import { LedgerServiceService as ledger } from '../../proto/gen/mortise/registry/v1/ledger.ts';
import { OwnLog } from '../../registry/assembly/own-log.ts';
import { readAuthority } from '../../registry/hosts/authority-folder.ts';
import { unary } from '../support/registry-client.ts';
import { startTestRegistry, type TestRegistry } from '../support/registry-server.ts';

const deed = (correlationId: string, tenant = '_platform') => ({
  tenant,
  principal: 'admin/root',
  operation: 'create-tenant',
  outcome: 'ok',
  correlationId,
  detail: { tenant },
});

const verify = (registry: TestRegistry, tenant: string) =>
  unary(registry.adminClient, ledger.verifyLedger, { tenant, host: '', trustedCheckpoints: [] });

test('records of many at once are one intact log of each tenant, over restarts too, also of one second', async (t) => {
  const registry = await startTestRegistry(t);
  await unary(registry.adminClient, AdminServiceService.createTenant, { tenant: 'acme', displayName: '' });
  const authority = await readAuthority(join(registry.dir, 'authority'), { now: () => Date.now() });
  const now = Date.now();
  const start = () => new OwnLog({ store: registry.store, authority, replica: 'other', clock: { now: () => now } });
  const first = start();
  const many = Array.from({ length: 270 }, (_, count) =>
    deed(`first-${count}`, count % 9 === 0 ? 'acme' : '_platform'),
  );
  await Promise.all(many.map((each) => first.record(each)));
  const second = start();
  await Promise.all(Array.from({ length: 40 }, (_, count) => second.record(deed(`second-${count}`))));
  for (const tenant of ['_platform', 'acme']) {
    const { intact, findings } = await verify(registry, tenant);
    assert.deepEqual([intact, findings], [true, []], tenant);
  }
  const page = { tenant: '_platform', pageSize: 0, pageToken: '' };
  const { logs } = await unary(registry.adminClient, ledger.listLogs, page);
  const own = logs.filter(({ origin }) => origin.startsWith('registry.other/'));
  assert.deepEqual(
    own.map(({ size }) => size),
    [280n],
  );
  assert.match(own[0]?.checkpoint ?? '', /registry\.test\/mortise\/registry/);
});

test('a record that cannot be stored is refused, and the next one goes in', async (t) => {
  const registry = await startTestRegistry(t);
  const authority = await readAuthority(join(registry.dir, 'authority'), { now: () => Date.now() });
  const log = new OwnLog({ store: registry.store, authority, replica: 'other', clock: { now: () => Date.now() } });
  registry.failRecords(true);
  const outcomes = await Promise.allSettled([log.record(deed('a')), log.record(deed('b'))]);
  assert.deepEqual(
    outcomes.map(({ status }) => status),
    ['rejected', 'rejected'],
  );
  registry.failRecords(false);
  await log.record(deed('c'));
  assert.deepEqual((await verify(registry, '_platform')).findings, []);
});
