// The registry's catalogue is lost, or an old backup of it is put back: it is made anew from two real agents and the token
// that they share, by the command line, and everything goes on.
import assert from 'node:assert/strict';
import { cp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { MortiseClient } from '../../clients/typescript/index.ts';
import { CatalogServiceService, EntryKind } from '../../proto/gen/mortise/registry/v1/catalog.ts';
import { LedgerServiceService } from '../../proto/gen/mortise/registry/v1/ledger.ts';
import { runCli } from '../clients/cli/run-cli.ts';
import type { RunningAgent } from '../support/agent.ts';
import { enrolAgent, type Fleet, makeFleetOf } from '../support/fleet.ts';
import { unary } from '../support/registry-client.ts';
import { RegistryProcess } from '../support/registry-process.ts';
import { clientOf, refusedWith } from './load.ts';

let fleet: Fleet<RegistryProcess>;
let agents: readonly [RunningAgent, RunningAgent];
let a: MortiseClient;
let b: MortiseClient;
const message = Buffer.from('shared');
const HARD_USES = 4000;

before(async () => {
  const allow = ['AES-256', 'EC-P256', 'RSA-2048', 'ML-DSA-44', 'ML-DSA-44-ES256'];
  fleet = await makeFleetOf({
    makeRegistry: (anchor) => RegistryProcess.make(anchor),
    tenants: ['acme'],
    platform: { algorithms: { allow } },
  });
  agents = [await fleet.agent('host-a'), await fleet.agent('host-b')];
  [a, b] = agents.map((agent) => clientOf(agent, 'acme', { retry: false })) as [MortiseClient, MortiseClient];
});
after(async () => {
  a?.close();
  b?.close();
  await fleet?.[Symbol.asyncDispose]();
});

/** Asks until it holds; what fails is asked again. */
const until = async (what: string, holds: () => Promise<boolean>): Promise<void> => {
  const end = Date.now() + 30_000;
  while (!(await holds().catch(() => false))) {
    if (Date.now() > end) throw new Error(`never came about: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
};

const signs = (client: MortiseClient, key: string) => async (): Promise<boolean> => {
  const { jws } = await client.sign(key, { message });
  return (await (client === a ? b : a).verify({ jws })).valid;
};

const registryHas = async (name: string): Promise<{ revision: number; state: string; versions: unknown[] }> => {
  const request = { tenant: 'acme', kind: EntryKind.KEY, name };
  const { change } = await unary(fleet.registry.admin, CatalogServiceService.getEntry, request);
  const entry = change?.entry?.entry;
  return JSON.parse(Buffer.from(entry?.$case === 'keyRecord' ? entry.value : []).toString());
};

const adminOf = (folder: string) => ({
  env: { MORTISE_ADMIN_DIR: join(fleet.registry.folder, folder), MORTISE_REGISTRY: fleet.registry.address },
});

const enrolPerson = async (folder: string): Promise<void> => {
  const args = ['registry', 'enrol', '--enrolment-token', fleet.registry.tokenFile];
  const { code, stderr } = await runCli(args, adminOf(folder));
  assert.equal(code, 0, stderr);
};

/** How many records of an operation the log of the tenant has. */
const deeds = async (operation: string): Promise<number> => {
  const filter = { tenant: 'acme', fromTime: undefined, toTime: undefined, key: '', principal: '', operation };
  const request = { filter: { ...filter, outcome: '', host: '', correlationId: '' }, pageSize: 100, pageToken: '' };
  return (await unary(fleet.registry.admin, LedgerServiceService.queryRecords, request)).records.length;
};

/** Everything but the authority; the hosts are enrolled anew. `meanwhile`: while the agents stand still. */
const loseRegistry = async (meanwhile = async (): Promise<void> => undefined): Promise<void> => {
  a.close();
  b.close();
  await fleet.registry.loseStore();
  await fleet.publish();
  for (const agent of agents) await agent.end();
  await meanwhile();
  for (const [index, host] of ['host-a', 'host-b'].entries()) {
    const agent = agents[index] as RunningAgent;
    await enrolAgent(agent, await fleet.registry.admit(host, ['acme']));
    await agent.start();
  }
  [a, b] = agents.map((agent) => clientOf(agent, 'acme', { retry: false })) as [MortiseClient, MortiseClient];
};

test('1: an old backup of the registry is brought up to what the hosts know; a revocation since then stands', async () => {
  await a.keys.create({ keyId: 'signer', purpose: 'sign', algorithm: 'EC-P256' });
  await a.keys.create({ keyId: 'leaked', purpose: 'sign', algorithm: 'EC-P256' });
  await until('the first keys on the other host', signs(b, 'leaked'));
  await enrolPerson('person');
  await fleet.registry.stop('SIGTERM');
  const backup = join(fleet.registry.folder, 'backup');
  await cp(fleet.registry.dataDir, backup, { recursive: true });
  await fleet.registry.start();
  await until('a revocation', async () => (await a.keys.revoke('leaked', { reason: 'leaked' })) !== undefined);
  await until('a key made since', async () => {
    await a.keys.create({ keyId: 'since', purpose: 'sign', algorithm: 'ML-DSA-44' });
    return true;
  });
  await until('the new key on the other host', signs(b, 'since'));
  await fleet.registry.stop('SIGTERM');
  await rm(fleet.registry.dataDir, { recursive: true });
  await cp(backup, fleet.registry.dataDir, { recursive: true });
  const from = agents.map(({ logs }) => logs.length);
  await fleet.registry.start();
  const noticed = (line: { msg: string }): boolean => line.msg.startsWith('the key catalogue of the registry does not');
  await Promise.all(agents.map((agent, index) => agent.logged(noticed, from[index])));
  await assert.rejects(a.keys.rotate('signer'), refusedWith('REGISTRY_UNAVAILABLE'));
  assert.equal((await registryHas('leaked')).state, 'ACTIVE', 'the backup knows nothing of the revocation');

  const { code, stdout, stderr } = await runCli(['registry', 'rebuild', 'acme'], adminOf('person'));
  assert.equal(code, 0, `${stderr}${stdout}`);
  assert.match(stdout, /state +ended/);
  assert.match(stdout, /missing hosts +none/);
  assert.match(stdout, /conflicts +0/);
  assert.equal((await registryHas('leaked')).state, 'REVOKED');
  const inForce = (line: { msg: string }): boolean => line.msg.startsWith('the rebuilt key catalogue has all');
  await Promise.all(agents.map((agent, index) => agent.logged(inForce, from[index])));
  await a.keys.rotate('signer');
  await until('the rotation on the other host', async () => {
    const { envelope } = await b.sign('signer', { message });
    return envelope.keyUsed?.version === 2;
  });
  await assert.rejects(b.sign('leaked', { message }), refusedWith('KEY_STATE'));
  const recorded = [await deeds('begin-rebuild'), await deeds('end-rebuild')];
  assert.deepEqual(recorded, [2, 2], 'intent and outcome of both are in the log of the tenant');
});

test('2: a registry whose store is gone has all again: keys, KEKs, and how often limited keys were used', async () => {
  await a.keys.create({ keyId: 'limited', purpose: 'sign', algorithm: 'EC-P256', limits: { hardUses: HARD_USES } });
  await until('the limited key on the other host', signs(b, 'limited'));
  await a.sign('limited', { message });
  await loseRegistry();
  await until('cryptography without the catalogue', signs(a, 'signer'));
  await assert.rejects(a.keys.rotate('signer'), refusedWith('REGISTRY_UNAVAILABLE'));
  await enrolPerson('person-2');
  const { code, stdout, stderr } = await runCli(
    ['registry', 'rebuild', 'acme', '--output', 'json'],
    adminOf('person-2'),
  );
  assert.equal(code, 0, stderr);
  const { state, hosts, missing, conflicts } = JSON.parse(stdout);
  assert.deepEqual([state, missing, conflicts], ['ended', [], []]);
  assert.deepEqual(
    hosts.map((row: { host: string; complete: boolean }) => [row.host, row.complete]),
    [
      ['host-a', true],
      ['host-b', true],
    ],
  );
  assert.equal((await registryHas('leaked')).state, 'REVOKED');
  assert.equal((await registryHas('signer')).versions.length, 2);
  for (const key of ['signer', 'since', 'limited']) await until(`${key} on one host`, signs(a, key));
  await until('a new wrapped key on the other host', async () => {
    await a.keys.create({ keyId: 'anew', purpose: 'sign', algorithm: 'ML-DSA-44' });
    return true;
  });
  await until('the new key', signs(b, 'anew'));
  const { uses } = await a.keys.get('limited');
  assert.ok(uses > 2, `${uses} uses: those from before count`);
});

test('3: keys whose records are gone with the registry and with one host come back from the token, suspended', async () => {
  // The other host is away meanwhile and never hears of them.
  b.close();
  await agents[1].end();
  await a.keys.create({ keyId: 'rsa-alone', purpose: 'sign', algorithm: 'RSA-2048', joseAlgorithm: 'PS384' });
  await a.keys.create({ keyId: 'box-alone', purpose: 'encrypt', algorithm: 'AES-256' });
  await a.keys.create({ keyId: 'wrapped-alone', purpose: 'sign', algorithm: 'ML-DSA-44' });
  await a.keys.create({ keyId: 'split-alone', purpose: 'sign', algorithm: 'ML-DSA-44-ES256' });
  await a.keys.rotate('rsa-alone');
  await a.keys.rotate('signer');
  const { jws } = await a.sign('rsa-alone', { message });
  const { jws: newest } = await a.sign('signer', { message });
  const { jwe } = await a.encrypt('box-alone', message);
  await loseRegistry(() => rm(join(agents[0].dataDir, 'keys'), { recursive: true }));
  await enrolPerson('person-3');
  const admin = adminOf('person-3');
  const { code, stdout, stderr } = await runCli(['registry', 'rebuild', 'acme', '--output', 'json'], admin);
  assert.equal(code, 4, stderr);
  const { state, conflicts, findings } = JSON.parse(stdout);
  assert.deepEqual([state, conflicts], ['ended', []]);
  assert.deepEqual(
    findings
      .map(({ outcome, name, versions }: { outcome: string; name: string; versions: number[] }) =>
        [outcome, name, ...versions].join(' '),
      )
      .sort(),
    ['added signer 3', 'lost split-alone 1', 'recreated box-alone 1', 'recreated rsa-alone 1 2'],
  );
  const seen = await runCli(['registry', 'rebuild', 'acme', '--status'], admin);
  assert.match(seen.stdout, /recreated: key rsa-alone versions 1, 2: made anew from the token and suspended/);
  assert.match(seen.stdout, /lost: key split-alone version 1: half a key/);

  await until('the key on the host that never knew it', async () => {
    await assert.rejects(b.verify({ jws }), refusedWith('KEY_STATE'));
    return true;
  });
  await a.keys.resume('rsa-alone');
  await a.keys.resume('box-alone');
  await until('a signature of before', async () => (await b.verify({ jws })).valid);
  const signed = await b.sign('rsa-alone', { message });
  const header = JSON.parse(Buffer.from(signed.jws.split('.')[0] ?? '', 'base64url').toString());
  assert.equal(header.alg, 'PS384', 'which of its algorithms it was made for is in the label');
  await until('a ciphertext of before', async () => Buffer.from((await b.decrypt(jwe)).plaintext).equals(message));
  assert.equal((await b.verify({ jws: newest })).valid, true, 'the version that no host knew still verifies');
  assert.equal((await a.sign('signer', { message })).envelope.keyUsed?.version, 2, 'and signs nothing');
  assert.equal((await a.keys.rotate('signer')).key.versions.at(-1)?.version, 4, 'its number is not given again');
  await assert.rejects(a.sign('wrapped-alone', { message }), refusedWith('KEY_UNKNOWN'));
});
