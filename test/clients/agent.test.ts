// The client against a whole agent on a SoftHSM token: every method, what is refused, and an agent that is killed.
import assert from 'node:assert/strict';
import { createHash, createHmac, createPublicKey, generateKeyPairSync, sign as signData, verify } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { connect, type MortiseClient, MortiseError } from '../../clients/typescript/index.ts';
import { startAgent } from '../lab/agent-process.ts';
import { type Lab, prepareLab, type Role, type Tenant } from '../lab/lab.ts';
import type { Program } from '../lab/program.ts';

const folder = mkdtempSync(join(tmpdir(), 'mortise-whole-'));
const logFile = join(folder, 'agent.log');
let lab: Lab;
let agent: Program;
let admin: MortiseClient;
let app: MortiseClient;
let stranger: MortiseClient;

const clientOf = (tenant: Tenant, role: Role): MortiseClient =>
  connect({
    socketPath: lab.socketPath,
    token: () => readFileSync(lab.tokenFile(tenant, role), 'utf8').trim(),
    deadlineMs: 20_000,
    retry: { maxAttempts: 100 }, // a start takes long where much else runs; the deadline ends it
  });

before(async () => {
  lab = await prepareLab(folder);
  agent = await startAgent(lab, logFile);
  admin = clientOf('acme', 'admin');
  app = clientOf('acme', 'app');
  stranger = clientOf('globex', 'app');
});
after(async () => {
  for (const client of [admin, app, stranger]) client?.close();
  await agent?.stop();
  rmSync(folder, { recursive: true, force: true });
});

const refusedWith = (code: string) => (error: unknown) => {
  assert.ok(error instanceof MortiseError, String(error));
  assert.equal(error.code, code, error.message);
  return true;
};

test('who am I, status and health', async () => {
  const me = await app.whoAmI();
  assert.deepEqual([me.tenant, me.principal, me.authenticatedBy], ['acme', 'app@acme', 'jwt']);
  assert.equal(me.pid, process.pid);
  using operator = connect({ socketPath: lab.socketPath, token: readFileSync(lab.operatorTokenFile, 'utf8').trim() });
  assert.equal((await operator.whoAmI()).tenant, '_platform');
  const status = await app.status();
  assert.equal(status.host, 'lab');
  assert.deepEqual(status.parts.map(({ part }) => part).sort(), ['audit', 'keys', 'policy', 'token']);
  assert.ok(status.parts.every(({ healthy }) => healthy));
  assert.deepEqual(
    status.policies.map(({ scope, version }) => [scope, version]),
    [
      ['platform', 1],
      ['tenant', 1],
    ],
  );
  assert.ok(status.token?.abilities.length);
  assert.equal(await app.health(), 'SERVING');
  assert.equal(await app.health('mortise.token'), 'SERVING');
  assert.equal(await app.health('mortise.nothing'), 'SERVICE_UNKNOWN');
});

test('encrypt and decrypt, over a rotation, with associated data', async () => {
  const { key } = await admin.keys.create({ keyId: 'data', purpose: 'encrypt', labels: { team: 'a' } });
  assert.deepEqual(
    [key.tenant, key.state, key.labels, key.versions[0]?.custody],
    ['acme', 'ACTIVE', { team: 'a' }, 'hsm'],
  );
  const associatedData = Buffer.from('order 17');
  const first = await app.encrypt('data', Buffer.from('one'), { associatedData, correlationId: 'my-own-id' });
  assert.equal(first.envelope.correlationId, 'my-own-id');
  const rotated = await admin.keys.rotate('data', { expectedVersion: 1 });
  assert.equal(rotated.envelope.keyUsed?.version, 2);
  const second = await app.encrypt('acme/data', Buffer.from('two'));
  assert.equal(second.envelope.keyUsed?.version, 2);
  assert.equal((await app.decrypt(first.jwe, { associatedData })).plaintext.toString(), 'one');
  assert.equal((await app.decrypt(second.jwe)).plaintext.toString(), 'two');
  await assert.rejects(app.decrypt(first.jwe), refusedWith('INVALID_CIPHERTEXT'));
  await assert.rejects(admin.keys.rotate('data', { expectedVersion: 1 }), refusedWith('KEY_CONFLICT'));
});

test('sign and verify in every form; others can check it', async () => {
  await admin.keys.create({ keyId: 'signer', purpose: 'sign' });
  const message = Buffer.from('message');
  const whole = await app.sign('signer', { message });
  const verified = await app.verify({ jws: whole.jws });
  assert.deepEqual([verified.valid, verified.payload], [true, message]);
  for (const form of ['jws-detached', 'jws-unencoded'] as const) {
    const { jws } = await app.sign('signer', { message }, { form });
    assert.equal((await app.verify({ jws, message })).valid, true, form);
    assert.equal((await app.verify({ jws, message: Buffer.from('other') })).valid, false, form);
  }
  const digest = createHash('sha256').update(message).digest();
  const raw = await app.sign('signer', { digest }, { form: 'raw' });
  assert.equal((await app.verify({ raw: raw.signature, message }, { key: 'signer' })).valid, true);
  assert.equal((await app.verify({ raw: raw.signature, digest }, { key: 'signer' })).valid, true);
  const { publicKey } = await app.keys.publicKey('signer', { format: 'pem' });
  const key = { key: createPublicKey(publicKey), dsaEncoding: 'ieee-p1363' as const };
  assert.equal(verify('sha256', message, key, raw.signature), true);
  const jwk = JSON.parse((await app.keys.publicKey('signer')).publicKey) as { kid: string };
  assert.equal(jwk.kid, 'acme/signer/1');
});

test('MACs, random bytes, and a public key that others bring', async () => {
  await admin.keys.create({ keyId: 'mac', purpose: 'mac' });
  const message = Buffer.from('m');
  const { mac } = await app.mac('mac', message);
  assert.equal(mac.length, createHmac('sha256', 'x').update('').digest().length);
  assert.equal((await app.verifyMac('mac', message, mac)).valid, true);
  assert.equal((await app.verifyMac('mac', Buffer.from('n'), mac)).valid, false);
  const [one, two] = [await app.generateRandom(32), await app.generateRandom(32)];
  assert.equal(one.length, 32);
  assert.notDeepEqual(one, two);
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const jwk = publicKey.export({ format: 'jwk' });
  assert.equal((await app.encryptTo(jwk, message)).jwe.split('.').length, 5);
  const raw = signData('sha256', message, { key: privateKey, dsaEncoding: 'ieee-p1363' });
  assert.equal((await app.verifyWith({ ...jwk, alg: 'ES256' }, { raw, message })).valid, true);
});

test('the life of a key', async () => {
  const id = 'life';
  await admin.keys.create({ keyId: id, purpose: 'encrypt' });
  const { jwe } = await app.encrypt(id, Buffer.from('x'));
  assert.equal((await admin.keys.suspend(id, { reason: 'a test' })).state, 'SUSPENDED');
  await assert.rejects(app.decrypt(jwe), refusedWith('KEY_STATE'));
  assert.equal((await admin.keys.resume(id)).state, 'ACTIVE');
  const updated = await admin.keys.update(id, { labels: { a: 'b' }, limits: { softUses: 1, hardUses: 1000 } });
  assert.deepEqual([updated.labels, updated.limits.hardUses], [{ a: 'b' }, 1000]);
  await assert.rejects(admin.keys.update(id, { labels: {}, revision: 1 }), refusedWith('KEY_CONFLICT'));
  const warned = [await app.encrypt(id, Buffer.from('x')), await app.encrypt(id, Buffer.from('x'))];
  assert.ok(warned.some(({ envelope }) => envelope.warnings.some(({ code }) => code === 'SOFT_LIMIT')));
  const destroyed = await admin.keys.destroy(id);
  assert.equal(destroyed.state, 'PENDING_DESTRUCTION');
  assert.ok(destroyed.destroyTime && destroyed.destroyTime.getTime() > Date.now());
  assert.equal((await admin.keys.restore(id)).state, 'ACTIVE');
  assert.equal((await app.decrypt(jwe)).plaintext.toString(), 'x');
  assert.equal((await admin.keys.revoke(id)).state, 'REVOKED');
  await assert.rejects(app.decrypt(jwe), refusedWith('KEY_STATE'));
  const ids: string[] = [];
  for await (const key of admin.keys.list({ pageSize: 1, states: ['REVOKED'] })) ids.push(key.keyId);
  assert.deepEqual(ids, [id]);
  assert.ok((await admin.keys.rotateTenantKek()).version >= 1);
});

test('refusals arrive with their rule, their fields and their code', async () => {
  await assert.rejects(
    admin.keys.create({ keyId: 'weak', purpose: 'sign', algorithm: 'RSA-2048' }),
    (error: unknown) =>
      refusedWith('POLICY_DENIED')(error) && (error as MortiseError).metadata['rule'] === 'tenant.algorithms.deny',
  );
  const weak = { keyId: 'weak', purpose: 'sign', algorithm: 'RSA-1024' } as const;
  await assert.rejects(admin.keys.create(weak), refusedWith('ALGORITHM_FORBIDDEN'));
  await assert.rejects(
    admin.keys.create({ keyId: 'Not An Id', purpose: 'sign' }),
    (error: unknown) => refusedWith('INVALID_REQUEST')(error) && (error as MortiseError).fields[0]?.field === 'key_id',
  );
  await assert.rejects(app.keys.create({ keyId: 'mine', purpose: 'sign' }), refusedWith('PERMISSION_DENIED'));
  await assert.rejects(stranger.keys.get('acme/data'), refusedWith('PERMISSION_DENIED'));
  await assert.rejects(stranger.keys.get('data'), refusedWith('KEY_UNKNOWN'));
  await assert.rejects(app.encrypt('data', Buffer.alloc(2 * 1024 * 1024 + 1)), refusedWith('TOO_LARGE'));
  const explained = await admin.explain({ operation: 'create-key', algorithm: 'RSA-2048' });
  assert.deepEqual([explained.allowed, explained.rule], [false, 'tenant.algorithms.deny']);
  using nobody = connect({ socketPath: lab.socketPath, token: 'not.a.token' });
  await assert.rejects(nobody.whoAmI(), refusedWith('UNAUTHENTICATED'));
});

test('data of exactly the limit passes', async () => {
  const plaintext = Buffer.alloc(2 * 1024 * 1024, 7);
  const { jwe } = await app.encrypt('data', plaintext);
  assert.ok((await app.decrypt(jwe)).plaintext.equals(plaintext));
});

test('the audit log shows what was done, verifies, and is followed over a kill of the agent', async () => {
  const { size } = await admin.audit.records({ newest: true, pageSize: 1 });
  const { checkpoint, publicJwk } = await admin.audit.checkpoint();
  assert.ok(checkpoint.includes('\n') && JSON.parse(publicJwk).kty);
  const report = await admin.audit.verify({ trustedCheckpoint: checkpoint });
  assert.deepEqual([report.intact, report.findings], [true, []]);
  assert.ok(report.size >= size);
  await assert.rejects(app.audit.records(), refusedWith('PERMISSION_DENIED'));

  const wanted = ['before', 'after'];
  const seen: number[] = [];
  const tail = admin.audit.tail({ from: size });
  await app.encrypt('data', Buffer.from('x'), { correlationId: 'before' });
  for await (const record of tail) {
    seen.push(record.index);
    if (record.correlationId !== wanted[0]) continue;
    wanted.shift();
    if (wanted.length === 0) break;
    process.kill(agent.pid, 'SIGKILL');
    await agent.ended;
    const restarted = startAgent(lab, logFile);
    try {
      // The same client, the same path: the call waits for the agent that is to come.
      await app.encrypt('data', Buffer.from('x'), { correlationId: 'after' });
    } finally {
      agent = await restarted;
    }
  }
  assert.deepEqual(wanted, []);
  assert.deepEqual(
    seen,
    Array.from({ length: seen.length }, (_, at) => size + at),
    'every position once, in order',
  );
  assert.equal((await admin.audit.verify({ trustedCheckpoint: checkpoint })).intact, true);
});

test('calls in flight when the agent is killed are answered by the next one', async () => {
  const calls = Array.from({ length: 40 }, (_, at) => app.encrypt('data', Buffer.from(`message ${at}`)));
  await calls[0];
  process.kill(agent.pid, 'SIGKILL');
  await agent.ended;
  agent = await startAgent(lab, logFile);
  const answers = await Promise.all(calls);
  const opened = await Promise.all(answers.map(({ jwe }) => app.decrypt(jwe)));
  assert.deepEqual(
    opened.map(({ plaintext }) => plaintext.toString()),
    calls.map((_, at) => `message ${at}`),
  );
});
