// What agents do when their registry hangs, is restored from an old backup, or when they themselves are put back: real
// processes, one token.
import assert from 'node:assert/strict';
import { cp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { MortiseClient } from '../../clients/typescript/index.ts';
import { LedgerServiceService } from '../../proto/gen/mortise/registry/v1/ledger.ts';
import { clientOf, refusedWith } from '../e2e/load.ts';
import type { RunningAgent } from '../support/agent.ts';
import { type Fleet, makeFleetOf } from '../support/fleet.ts';
import { unary } from '../support/registry-client.ts';
import { RegistryProcess } from '../support/registry-process.ts';
import { bundleVerifies } from './support/registry-stage.ts';

const message = Buffer.from('whatever becomes of the registry');
const PATIENCE_MS = 60_000;

interface Stage {
  readonly fleet: Fleet<RegistryProcess>;
  readonly agent: RunningAgent;
  client: MortiseClient;
}

const setUp = async (t: TestContext): Promise<Stage> => {
  const fleet = await makeFleetOf({ makeRegistry: (anchor) => RegistryProcess.make(anchor) });
  t.after(() => fleet[Symbol.asyncDispose]());
  const agent = await fleet.agent('host-a');
  const stage: Stage = { fleet, agent, client: clientOf(agent, 'acme', { retry: false }) };
  t.after(() => stage.client.close());
  await stage.client.keys.create({ keyId: 'signer', purpose: 'sign', algorithm: 'EC-P256' });
  return stage;
};

const recordsOf = async ({ fleet }: Stage, operation: string): Promise<number> => {
  const nothing = { fromTime: undefined, toTime: undefined, key: '', principal: '', host: '', correlationId: '' };
  const filter = { ...nothing, tenant: 'acme', operation, outcome: 'ok' };
  const request = { filter, pageSize: 1000, pageToken: '' };
  return (await unary(fleet.registry.admin, LedgerServiceService.queryRecords, request)).records.length;
};

const until = async (what: string, holds: () => Promise<boolean>): Promise<void> => {
  const end = Date.now() + PATIENCE_MS;
  while (!(await holds())) {
    if (Date.now() > end) throw new Error(`never came about: ${what}`);
    await sleep(50);
  }
};

/** The registry says that its ledger is whole, and a bundle of it proves so without registry or agent. */
const assertIntact = async (t: TestContext, { fleet }: Stage, why?: string): Promise<void> => {
  const request = { tenant: 'acme', host: '', trustedCheckpoints: [] };
  const { intact } = await unary(fleet.registry.admin, LedgerServiceService.verifyLedger, request);
  assert.equal(intact, true, why);
  await bundleVerifies(t, fleet.registry);
};

test('a registry that hangs is noticed, operations go on, and all is there when it goes on', async (t) => {
  const stage = await setUp(t);
  const { fleet, agent, client } = stage;
  const from = agent.logs.length;
  fleet.registry.hang(true);
  t.after(() => fleet.registry.hang(false));
  for (let count = 0; count < 50; count += 1) await client.sign('signer', { message });
  await until('the loss of the session', async () =>
    agent.logs.slice(from).some(({ msg }) => msg.startsWith('not connected to the registry')),
  );
  await assert.rejects(client.keys.rotate('signer'), refusedWith('REGISTRY_UNAVAILABLE'));
  fleet.registry.hang(false);
  await until('50 records', async () => (await recordsOf(stage, 'sign')) >= 50);
  await assertIntact(t, stage);
});

test('a registry that is restored from an old backup is told of; records come again, keys do not go back', async (t) => {
  const stage = await setUp(t);
  const { fleet, agent, client } = stage;
  await client.sign('signer', { message });
  await until('the first record', async () => (await recordsOf(stage, 'sign')) >= 1);
  await fleet.registry.stop('SIGTERM');
  const backup = join(fleet.registry.folder, 'backup');
  await cp(fleet.registry.dataDir, backup, { recursive: true });
  await fleet.registry.start();
  await until('a rotation', () =>
    client.keys.rotate('signer').then(
      () => true,
      () => false,
    ),
  );
  for (let count = 0; count < 20; count += 1) await client.sign('signer', { message });
  await until('21 records', async () => (await recordsOf(stage, 'sign')) >= 21);
  await fleet.registry.stop('SIGTERM');
  await rm(fleet.registry.dataDir, { recursive: true });
  await cp(backup, fleet.registry.dataDir, { recursive: true });
  const from = agent.logs.length;
  await fleet.registry.start();
  await Promise.all([
    agent.logged(({ msg }) => msg.startsWith('the registry has lost records that it had acknowledged'), from),
    agent.logged(({ msg }) => msg.startsWith('the key catalogue of the registry does not follow'), from),
  ]);
  await until('the lost records again', async () => (await recordsOf(stage, 'sign')) >= 21);
  assert.equal((await client.sign('signer', { message })).envelope.keyUsed?.version, 2, 'the rotation stands');
  await assert.rejects(client.keys.rotate('signer'), refusedWith('REGISTRY_UNAVAILABLE'));
  await assertIntact(t, stage);
});

test('an agent whose data folder is put back is refused by the ledger, and says so', async (t) => {
  const stage = await setUp(t);
  const { agent } = stage;
  await stage.client.sign('signer', { message });
  stage.client.close();
  await agent.end();
  const backup = join(agent.folder, 'backup');
  await cp(agent.dataDir, backup, { recursive: true });
  await agent.start();
  stage.client = clientOf(agent, 'acme', { retry: false });
  for (let count = 0; count < 10; count += 1) await stage.client.sign('signer', { message });
  await until('11 records', async () => (await recordsOf(stage, 'sign')) >= 11);
  stage.client.close();
  await agent.end('SIGKILL');
  await rm(agent.dataDir, { recursive: true });
  await cp(backup, agent.dataDir, { recursive: true });
  const from = agent.logs.length;
  await agent.start();
  const line = await agent.logged(({ msg }) => msg.startsWith('the registry refuses the audit log of a tenant'), from);
  assert.match(String(line['code']), /^LEDGER_(REWOUND|FORKED)$/);
  stage.client = clientOf(agent, 'acme', { retry: false });
  await stage.client.sign('signer', { message });
  await assertIntact(t, stage, 'what the ledger has, it has');
});

test('an agent that is killed and starts while the registry is gone loses no record', async (t) => {
  const stage = await setUp(t);
  const { agent, fleet } = stage;
  await fleet.registry.stop();
  for (let count = 0; count < 20; count += 1) await stage.client.sign('signer', { message });
  stage.client.close();
  await agent.end('SIGKILL');
  await agent.start();
  stage.client = clientOf(agent, 'acme', { retry: false });
  for (let count = 0; count < 20; count += 1) await stage.client.sign('signer', { message });
  await fleet.registry.start();
  await until('40 records', async () => (await recordsOf(stage, 'sign')) >= 40);
  await assertIntact(t, stage);
});
