// The session with the registry: who is believed, what is required of the connection, and how it comes back.
import assert from 'node:assert/strict';
import { chmod, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { createServer } from 'node:tls';
import { waitBefore } from '../../../agent/uplink/backoff.ts';
import { enrol } from '../../../agent/uplink/enrol.ts';
import { readIdentity } from '../../../agent/uplink/identity.ts';
import { FakeRegistry } from '../../fakes/registry.ts';
import { addressOf, bring, setUp } from './world.ts';

test('a host that has enrolled connects, and is told with what it has in force', async (t) => {
  const world = await setUp(t);
  world.state = {
    policies: [{ tenant: '_platform', version: 7, digest: 'ab'.repeat(32), since: 1 }],
    catalogs: [{ tenant: 'acme', position: 3 }],
    backlogs: [{ tenant: 'acme', records: 9 }],
    parts: [{ part: 'token', healthy: false, detail: 'away' }],
  };
  const uplink = world.make();
  await world.next('connected');
  const told = world.registry.hosts.get('host-a')?.told ?? [];
  await world.registry.until(() => told.length > 0, 'a heartbeat');
  assert.equal(told[0]?.policies[0]?.version, 7n);
  assert.equal(told[0]?.catalogs[0]?.position, 3n);
  assert.equal(told[0]?.parts[0]?.detail, 'away');
  world.state = { ...world.state, catalogs: [{ tenant: 'acme', position: 4 }] };
  uplink.changed();
  await world.registry.until(() => told.some(({ catalogs }) => catalogs[0]?.position === 4n), 'the next position');
  const last = told.find(({ catalogs }) => catalogs[0]?.position === 4n);
  assert.deepEqual([last?.policies, last?.backlogs, last?.parts], [[], [], []], 'only what is new');
});

test('a host that is not enrolled says so, and connects as soon as it is', async (t) => {
  const world = await setUp(t, { enrolled: false });
  world.make();
  const { reason } = await world.next('disconnected');
  assert.match(String(reason), /enrol this host/);
  const { dir, host, registry } = world;
  const token = registry.admit(host, ['acme']);
  await enrol({ address: addressOf(registry.url), dir, host, token, requireHybrid: true, ownAnchor: undefined });
  await world.next('connected');
});

test('an enrolment is repeated with the same key after a lost answer, and leaves no half of one', async (t) => {
  const world = await setUp(t, { enrolled: false });
  const { dir, host, registry } = world;
  const token = registry.admit(host, ['acme']);
  const input = { address: addressOf(registry.url), dir, host, token, requireHybrid: true, ownAnchor: undefined };
  await assert.rejects(enrol({ ...input, ownAnchor: Buffer.from('another') }), /another trust anchor/);
  const pending = await readFile(join(dir, 'pending-key.pem'), 'utf8');
  await assert.rejects(readIdentity({ dir, host, brought: undefined }), /enrol this host/);
  await enrol(input);
  assert.ok((await readFile(join(dir, 'identity.pem'), 'utf8')).startsWith(pending.trim()));
  await assert.rejects(readFile(join(dir, 'pending-key.pem')), { code: 'ENOENT' });
});

test('a server of another authority is not believed', async (t) => {
  const world = await setUp(t);
  const other = await FakeRegistry.make(Buffer.from('{}'));
  t.after(() => other[Symbol.asyncDispose]());
  world.make({ urls: [other.url] });
  const { code } = await world.next('disconnected');
  assert.equal(code, 'REGISTRY_UNAVAILABLE');
  assert.equal(other.isConnected('host-a'), false);
});

test('a server without the hybrid group is refused, unless the configuration lets it', async (t) => {
  const world = await setUp(t);
  const { key, chain } = world.registry.authority.server;
  const classical = createServer({
    key,
    cert: chain,
    minVersion: 'TLSv1.3',
    ecdhCurve: 'X25519',
    ALPNProtocols: ['h2'],
  });
  const shaken: string[] = [];
  classical.on('secureConnection', (socket) => {
    shaken.push('done');
    socket.destroy();
  });
  classical.on('tlsClientError', () => shaken.push('refused'));
  await new Promise<void>((resolve) => classical.listen(0, '127.0.0.1', resolve));
  t.after(() => classical.close());
  const { port } = classical.address() as { port: number };
  const strict = world.make({ urls: [`https://localhost:${port}`] });
  await world.next('disconnected');
  assert.ok(!shaken.includes('done') && shaken.includes('refused'));
  await strict.close();
  const from = world.heard.length;
  world.make({ urls: [`https://localhost:${port}`], requireHybrid: false });
  await world.next('disconnected', from);
  assert.ok(shaken.includes('done'), 'with classical key agreement it shakes hands');
});

test('the next replica is tried where one is gone, and none is needed to be first', async (t) => {
  const world = await setUp(t);
  world.make({ urls: ['https://localhost:1', world.registry.url] });
  await world.next('connected');
});

test('a certificate that the host brings is used, and another one takes its place without a gap', async (t) => {
  const world = await setUp(t, { enrolled: false });
  world.registry.admit(world.host, ['acme']);
  const brought = await bring(world);
  world.make({ brought });
  await world.next('connected');
  assert.equal((await readIdentity({ dir: world.dir, host: world.host, brought })).renewAt, undefined);
});

test('credentials that do not fit together are refused with words that say what is wrong', async (t) => {
  const world = await setUp(t, { enrolled: false });
  const { dir, host } = world;
  const brought = await bring(world);
  const read = (as = host) => readIdentity({ dir, host: as, brought });
  await assert.rejects(read('host-b'), /the certificate is that of host-a, and this is host-b/);
  await chmod(brought.keyFile, 0o644);
  await assert.rejects(read(), /others than the agent can read .*tls\.key; chmod 0400 it/);
  await chmod(brought.keyFile, 0o600);
  const { key } = await world.registry.authority.bring(host);
  await writeFile(brought.keyFile, key);
  await assert.rejects(read(), /do not fit together/);
  await writeFile(join(dir, 'registry.json'), '{"schema":"other"}');
  await assert.rejects(read(), /is not of the schema/);
  await writeFile(join(dir, 'roots.pem'), '');
  await assert.rejects(read(), /no certificate in .*roots\.pem/);
});

test('a host that is told to renew has a new key, and is connected all the time', async (t) => {
  const world = await setUp(t);
  const uplink = world.make();
  await world.next('connected');
  const before = await readFile(join(world.dir, 'identity.pem'), 'utf8');
  const from = world.heard.length;
  world.registry.tellToRenew('host-a');
  await world.next('renewed', from);
  await world.next('connected', from);
  assert.equal(uplink.state().connected, true);
  assert.notEqual(await readFile(join(world.dir, 'identity.pem'), 'utf8'), before);
  assert.ok(!world.heard.some(({ name }) => name === 'disconnected'));
});

test('a renewal is due by the time that came with the certificate', async (t) => {
  const world = await setUp(t, { enrolled: false });
  const { registry, dir, host } = world;
  registry.renewAfterMs = -1;
  const token = registry.admit(host, ['acme']);
  await enrol({ address: addressOf(registry.url), dir, host, token, requireHybrid: true, ownAnchor: undefined });
  registry.renewAfterMs = 3_600_000;
  world.make();
  await world.next('renewed');
});

test('two agents with one identity push each other out, and say so', async (t) => {
  const world = await setUp(t);
  world.make();
  await world.next('connected');
  world.make();
  const { code } = await world.next('disconnected');
  assert.equal(code, 'HEARTBEAT_REPLACED');
});

test('a registry that comes back is found again, and calls meanwhile fail at once', async (t) => {
  const world = await setUp(t);
  const uplink = world.make();
  await world.next('connected');
  world.registry.stop();
  await world.next('disconnected');
  assert.equal(uplink.state().connected, false);
  await assert.rejects(
    uplink.call({ path: '/x', requestSerialize: () => Buffer.alloc(0), responseDeserialize: () => 0 }, 0),
    { code: 'NOT_CONNECTED' },
  );
  const from = world.heard.length;
  await world.registry.start();
  await world.next('connected', from);
});

test('it can be closed at any moment, also while it connects', async (t) => {
  const world = await setUp(t);
  await world.make().close();
  const uplink = world.make();
  await world.next('connected');
  await uplink.close();
  assert.equal(uplink.state().connected, false);
});

test('waits grow to a bound, and never are the same for all', () => {
  const waits = Array.from({ length: 60 }, (_, attempt) => waitBefore(attempt));
  for (const [attempt, wait] of waits.entries()) {
    const most = Math.min(30_000, 250 * 2 ** attempt);
    assert.ok(wait >= most / 2 && wait <= most);
  }
  assert.ok(new Set(Array.from({ length: 20 }, () => waitBefore(20))).size > 1);
});
