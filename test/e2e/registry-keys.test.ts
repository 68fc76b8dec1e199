// Two real agents over one token and one registry: a key of one is a key of the other, and so is every change of it.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { MortiseClient } from '../../clients/typescript/index.ts';
import type { RunningAgent } from '../support/agent.ts';
import { type Fleet, makeFleet } from '../support/fleet.ts';
import { clientOf, refusedWith } from './load.ts';

let fleet: Fleet;
let agents: readonly RunningAgent[];
let a: MortiseClient;
let b: MortiseClient;
const HOSTS = ['host-a', 'host-b'] as const;
const message = Buffer.from('shared');

before(async () => {
  fleet = await makeFleet();
  agents = [await fleet.agent('host-a'), await fleet.agent('host-b')];
  [a, b] = agents.map((agent) => clientOf(agent, 'acme', { retry: false })) as [MortiseClient, MortiseClient];
});
after(async () => {
  a?.close();
  b?.close();
  await fleet?.[Symbol.asyncDispose]();
});

/** Resolves when both hosts have told the registry that they have applied everything. */
const everywhere = async (): Promise<void> => {
  const { registry } = fleet;
  const newest = registry.catalog.position('acme');
  await registry.until(
    () => HOSTS.every((host) => registry.catalog.appliedBy(host, 'acme') >= newest),
    `position ${newest} of acme on both hosts`,
  );
};

test('1: a key made on one host signs, encrypts and is listed on the other', async () => {
  await a.keys.create({ keyId: 'signer', purpose: 'sign', algorithm: 'EC-P256' });
  await a.keys.create({ keyId: 'sealer', purpose: 'encrypt', algorithm: 'AES-256' });
  await everywhere();
  const { jws } = await b.sign('signer', { message });
  assert.equal((await a.verify({ jws })).valid, true);
  const { jwe } = await a.encrypt('sealer', message);
  assert.deepEqual((await b.decrypt(jwe)).plaintext, message);
});

test('2: wrapped keys of both hosts are under one KEK, whoever was first', async () => {
  await Promise.all([
    a.keys.create({ keyId: 'pq-a', purpose: 'sign', algorithm: 'ML-DSA-44' }),
    b.keys.create({ keyId: 'pq-b', purpose: 'sign', algorithm: 'ML-DSA-44' }),
  ]);
  await everywhere();
  for (const [made, used, key] of [
    [a, b, 'pq-a'],
    [b, a, 'pq-b'],
  ] as const) {
    const { jws } = await used.sign(key, { message });
    assert.equal((await made.verify({ jws })).valid, true);
  }
});

test('3: without the registry keys are used, and changes are refused with REGISTRY_UNAVAILABLE', async () => {
  const from = agents.map(({ logs }) => logs.length);
  fleet.registry.stop();
  await Promise.all(
    agents.map((agent, index) => agent.logged((line) => line.msg.startsWith('not connected'), from[index])),
  );
  for (const client of [a, b]) {
    await client.sign('signer', { message });
    const refused = refusedWith('REGISTRY_UNAVAILABLE');
    await assert.rejects(client.keys.create({ keyId: 'late', purpose: 'mac', algorithm: 'HMAC-SHA256' }), refused);
    await assert.rejects(client.keys.rotate('signer'), refused);
    await assert.rejects(client.keys.suspend('signer'), refused);
  }
  await fleet.registry.start();
  await Promise.all(
    agents.map((agent, index) => agent.logged((line) => line.msg === 'connected to the registry', from[index])),
  );
  await a.keys.create({ keyId: 'late', purpose: 'mac', algorithm: 'HMAC-SHA256' });
  await everywhere();
  await b.mac('late', message);
});

test('4: a host that starts alone knows the keys of both, and what it missed when it is back', async () => {
  const [, second] = agents as [RunningAgent, RunningAgent];
  b.close();
  await second.end();
  await a.keys.create({ keyId: 'missed', purpose: 'mac', algorithm: 'HMAC-SHA256' });
  await second.start();
  b = clientOf(second, 'acme', { retry: false });
  await b.sign('signer', { message });
  await everywhere();
  await b.mac('missed', message);
});

test('5: a change whose answer is lost is in force where the registry took it, and its key works', async () => {
  fleet.registry.catalog.loseAnswers = true;
  await assert.rejects(
    a.keys.create({ keyId: 'lost', purpose: 'sign', algorithm: 'EC-P256' }),
    refusedWith('REGISTRY_UNAVAILABLE'),
  );
  fleet.registry.catalog.loseAnswers = false;
  await everywhere();
  const { jws } = await a.sign('lost', { message });
  assert.equal((await b.verify({ jws })).valid, true);
});

test('6: a catalogue that was taken back is noticed; keys stay usable and are not changed', async () => {
  const from = agents.map(({ logs }) => logs.length);
  fleet.registry.stop();
  fleet.registry.catalog.takeBack('acme', 3);
  await fleet.registry.start();
  await Promise.all(
    agents.map((agent, index) =>
      agent.logged((line) => line.msg.startsWith('the key catalogue of the registry does not follow'), from[index]),
    ),
  );
  await a.sign('signer', { message });
  await assert.rejects(a.keys.rotate('signer'), refusedWith('REGISTRY_UNAVAILABLE'));
  const { parts } = await a.status();
  assert.match(
    parts.find(({ part }) => part === 'registry')?.detail ?? '',
    /the catalogue of acme does not fit that of this host/,
  );
});
