// The rules that the comments of the published api.proto give a KMS v2 plugin, a test for each; and those that the API
// server checks beyond them (k8s.io/apiserver, kmsv2/envelope.go).
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { status } from '@grpc/grpc-js';
import { JWE_ANNOTATION, kmsKeyIdOf } from '../../../../agent/operations/kubernetes-kms.ts';
import { ALGORITHMS } from '../../../../proto/documents/algorithms.ts';
import type { EncryptResponse } from '../../../../proto/gen/kubernetes/kms/v2/api.ts';
import { failsWith } from '../support.ts';
import { KEY, startKms } from './support.ts';

const seed = randomBytes(32);
const KB = 1024;

/** As k8s.io/apimachinery IsFullyQualifiedDomainName. */
const isFqdn = (name: string): boolean => {
  const labels = name.replace(/\.$/, '').split('.');
  return labels.length >= 2 && labels.every((label) => /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/.test(label));
};

const withKey = async (t: TestContext, algorithm = 'AES-256', jose?: string) => {
  const started = await startKms(t);
  await started.world.add({ keyId: KEY, algorithm, purpose: 'encrypt', ...(jose !== undefined && { jose }) });
  return started;
};

test('messages and calls are those of the published api.proto, by number and type', () => {
  const root = join(import.meta.dirname, '../../../..');
  const built = JSON.parse(
    execFileSync('buf', ['build', '--path', 'proto/kubernetes', '-o', '-#format=json'], {
      cwd: root,
      encoding: 'utf8',
      env: { ...process.env, PATH: `${join(root, 'node_modules/.bin')}:${process.env['PATH']}` },
    }),
  );
  const file = built.file.find(({ name }: { name: string }) => name === 'kubernetes/kms/v2/api.proto');
  assert.equal(file.package, 'v2');
  type Field = { name: string; number: number; type: string; label: string };
  const shapes = Object.fromEntries(
    file.messageType.map(({ name, field = [] }: { name: string; field?: Field[] }) => [
      name,
      field.map((row) => `${row.number} ${row.name} ${row.type.slice(5)}${row.label === 'LABEL_REPEATED' ? '*' : ''}`),
    ]),
  );
  assert.deepEqual(shapes, {
    StatusRequest: [],
    StatusResponse: ['1 version STRING', '2 healthz STRING', '3 key_id STRING'],
    DecryptRequest: ['1 ciphertext BYTES', '2 uid STRING', '3 key_id STRING', '4 annotations MESSAGE*'],
    DecryptResponse: ['1 plaintext BYTES'],
    EncryptRequest: ['1 plaintext BYTES', '2 uid STRING'],
    EncryptResponse: ['1 ciphertext BYTES', '2 key_id STRING', '3 annotations MESSAGE*'],
  });
  const [service] = file.service;
  assert.equal(service.name, 'KeyManagementService');
  assert.deepEqual(
    service.method.map((row: { name: string; inputType: string; outputType: string }) => [row.name, row.inputType]),
    [
      ['Status', '.v2.StatusRequest'],
      ['Decrypt', '.v2.DecryptRequest'],
      ['Encrypt', '.v2.EncryptRequest'],
    ],
  );
});

test('Status is meant to be polled: it visits no token, takes no use of the key and writes no record', async (t) => {
  const { client, token, world } = await withKey(t);
  token.fail({ method: 'gcmEncrypt', code: 'HSM_UNAVAILABLE' });
  token.fail({ method: 'random', code: 'HSM_UNAVAILABLE' });
  for (let poll = 0; poll < 20; poll += 1) assert.equal((await client.status()).healthz, 'ok');
  assert.equal(world.uses, 0);
  assert.deepEqual(world.records, []);
});

test('version is the plugin API: it matches the apiVersion v2 of the provider', async (t) => {
  const { client, said } = await withKey(t);
  assert.equal((await client.status()).version, 'v2');
  said.notOpen = 'starting: the token is away';
  assert.equal((await client.status()).version, 'v2', 'also where nothing else can be answered');
});

test('any value of healthz other than ok is failing: it says what is wrong, and is ok only where Encrypt is', async (t) => {
  const { client, world, said } = await withKey(t);
  const healthz = async (): Promise<string> => (await client.status()).healthz;
  assert.equal(await healthz(), 'ok');
  said.notOpen = 'starting: the token is away';
  assert.deepEqual(await client.status(), { version: 'v2', healthz: 'starting: the token is away', keyId: '' });
  delete said.notOpen;
  said.problem = `token: ${'it hangs '.repeat(100)}`;
  assert.match(await healthz(), /^token: it hangs/);
  assert.ok((await healthz()).length <= 256, 'short enough for the health check of the API server');
  delete said.problem;
  world.refuses = ({ operation }) => (operation === 'decrypt' ? 'POLICY_DENIED' : undefined);
  assert.equal(await healthz(), 'POLICY_DENIED: refused by the test');
  world.refuses = () => undefined;
  world.change(KEY, { state: 'SUSPENDED' });
  assert.match(await healthz(), /^KEY_STATE: the key is SUSPENDED/);
  await assert.rejects(client.encrypt(seed), failsWith(status.FAILED_PRECONDITION, 'KEY_STATE'));
  world.change(KEY, { state: 'ACTIVE', grants: [{ principal: 'payments', operations: ['encrypt', 'decrypt'] }] });
  assert.match(await healthz(), /^PERMISSION_DENIED: no grant/);
  world.change(KEY, { grants: [{ principal: 'kubernetes:apiserver', operations: ['encrypt', 'decrypt'] }] });
  assert.equal(await healthz(), 'ok');
});

test('healthz names a key that does not exist', async (t) => {
  const { client } = await startKms(t);
  assert.deepEqual(await client.status(), { version: 'v2', healthz: 'KEY_UNKNOWN: no such key', keyId: '' });
});

test('key_id is the current write key: what Encrypt answers, new with each rotation, the same in between', async (t) => {
  const { client, world } = await withKey(t);
  const seen: string[] = [];
  for (let rotation = 0; rotation < 4; rotation += 1) {
    const { keyId } = await client.status();
    assert.equal((await client.encrypt(seed)).keyId, keyId);
    world.change(KEY, { labels: { changed: String(rotation) }, updatedAt: Date.now() + 1, revision: 99 });
    assert.equal((await client.status()).keyId, keyId, 'no other change of the key changes it');
    seen.push(keyId);
    await world.rotate(KEY);
  }
  assert.equal(new Set(seen).size, seen.length, 'none comes back');
});

test('key_id does not come back with a key of the same name in a catalogue that was begun anew', async (t) => {
  const { world } = await withKey(t);
  const [key, version] = [world.key(KEY), world.version(KEY)];
  assert.notEqual(kmsKeyIdOf(key, version), kmsKeyIdOf(key, { ...version, createdAt: version.createdAt + 1 }));
});

test('key_id is not empty, at most 1 kB, and tells no secret: a name, a number and a digest', async (t) => {
  const started = await startKms(t, { key: `k${'x'.repeat(63)}` });
  await started.world.add({ keyId: `k${'x'.repeat(63)}`, algorithm: 'AES-256', purpose: 'encrypt' });
  const { keyId } = await started.client.status();
  assert.match(keyId, /^kx{63}\/1\/[0-9a-f]{16}$/);
  assert.ok(keyId.length <= KB);
});

test('the data to be decrypted is what Encrypt made, whole and unchanged', async (t) => {
  const { client } = await withKey(t);
  const sealed = await client.encrypt(seed);
  assert.deepEqual(await client.decrypt(sealed), seed);
  for (const at of [0, 40, sealed.ciphertext.length >> 1, sealed.ciphertext.length - 2]) {
    const ciphertext = Buffer.from(sealed.ciphertext);
    ciphertext[at] = (ciphertext[at] as number) ^ 1;
    await assert.rejects(client.decrypt(sealed, { ciphertext }), { code: status.INVALID_ARGUMENT });
  }
  await assert.rejects(client.decrypt(sealed, { ciphertext: Buffer.alloc(0) }), { code: status.INVALID_ARGUMENT });
  const long = Buffer.alloc(KB + 1, 0x61);
  await assert.rejects(client.decrypt(sealed, { ciphertext: long }), failsWith(status.INVALID_ARGUMENT, 'TOO_LARGE'));
});

test('uid names the request: it is the correlation id of the record', async (t) => {
  const { client, world } = await withKey(t);
  const uid = '9ec5b8d2-6f3c-4f65-a66e-4f4d1d4a2f10';
  const sealed = await client.encrypt(seed, uid);
  await client.decrypt(sealed, { uid: 'other-uid' });
  assert.deepEqual(
    world.records.map(({ operation, outcome, principal, correlationId, key }) => [
      operation,
      outcome,
      principal,
      correlationId,
      key,
    ]),
    [
      ['encrypt', 'ok', 'kubernetes:apiserver', uid, 'etcd/1'],
      ['decrypt', 'ok', 'kubernetes:apiserver', 'other-uid', 'etcd/1'],
    ],
  );
  await client.encrypt(seed, 'not\nfor a log');
  assert.match(world.lastRecord.correlationId, /^[0-9a-f-]{36}$/, 'what may not stand in a log is replaced');
});

test('key_id of a Decrypt is the key that encrypted the data: no other one opens it', async (t) => {
  const { client, world } = await withKey(t);
  const old = await client.encrypt(seed);
  await world.rotate(KEY);
  const { keyId } = await client.status();
  for (const wrong of [keyId, '', 'etcd', '../x/1', `other/1/${'0'.repeat(16)}`, 'x'.repeat(KB + 1)]) {
    await assert.rejects(client.decrypt(old, { keyId: wrong }), { code: status.INVALID_ARGUMENT }, wrong);
    assert.notEqual(world.lastRecord.outcome, 'ok', 'and the refusal is recorded');
  }
  assert.deepEqual(await client.decrypt(old), seed, 'with its own it opens after the rotation');
});

test('annotations of a Decrypt are those that were sent: missing, changed or more of them open nothing', async (t) => {
  const { client } = await withKey(t, 'ML-KEM-1024');
  const sealed = await client.encrypt(seed);
  assert.deepEqual(await client.decrypt(sealed), seed);
  const jwe = sealed.annotations[JWE_ANNOTATION] as Buffer;
  const flipped = Buffer.from(jwe);
  flipped[100] = (flipped[100] as number) ^ 1;
  const refused = { code: status.INVALID_ARGUMENT };
  await assert.rejects(client.decrypt(sealed, { annotations: {} }), refused);
  await assert.rejects(client.decrypt(sealed, { annotations: { [JWE_ANNOTATION]: flipped } }), refused);
  await assert.rejects(client.decrypt(sealed, { annotations: { [JWE_ANNOTATION]: Buffer.alloc(0) } }), refused);
  const more = { ...sealed.annotations, 'other.example.com': Buffer.from('x') };
  await assert.rejects(client.decrypt(sealed, { annotations: more }), refused);
  const inline = { ciphertext: jwe.subarray(0, KB), annotations: {} };
  await assert.rejects(client.decrypt(sealed, inline), refused);
});

/** What Encrypt answers under every algorithm and JOSE name that encrypts, for the smallest and the largest data. */
const allSealed = async (t: TestContext): Promise<readonly (EncryptResponse & { plaintext: Buffer })[]> => {
  const started = await startKms(t);
  const { world, client } = started;
  const sealed: (EncryptResponse & { plaintext: Buffer })[] = [];
  const rows = ALGORITHMS.filter(({ jose, status: standing }) => jose.encrypt && standing !== 'forbidden');
  assert.ok(rows.length >= 10, `saw only ${rows.map(({ id }) => id)}`);
  for (const { id } of rows) {
    await world.add({ keyId: KEY, algorithm: id, purpose: 'encrypt' });
    for (const plaintext of [seed, randomBytes(16 * KB)]) {
      const answer = await client.encrypt(plaintext);
      assert.deepEqual(await client.decrypt(answer), plaintext, id);
      sealed.push({ ...answer, plaintext });
    }
  }
  return sealed;
};

test('ciphertext, key_id and annotations keep the sizes and names that the API server accepts, for every algorithm', async (t) => {
  const sealed = await allSealed(t);
  let inline = 0;
  for (const { ciphertext, keyId, annotations } of sealed) {
    assert.ok(ciphertext.length > 0 && ciphertext.length <= KB, `ciphertext of ${ciphertext.length} bytes`);
    assert.ok(keyId.length > 0 && keyId.length <= KB);
    const entries = Object.entries(annotations);
    if (entries.length === 0) inline += 1;
    for (const [name] of entries) assert.ok(isFqdn(name), `${name} is a fully qualified domain name (RFC 1123)`);
    const total = entries.reduce((sum, [name, value]) => sum + name.length + value.length, 0);
    assert.ok(total < 32 * KB, `annotations of ${total} bytes`);
  }
  assert.ok(inline > 0 && inline < sealed.length, 'both forms were seen');
});

test('annotations are stored in plaintext: nothing of the data stands in them, nor in the ciphertext', async (t) => {
  for (const { plaintext, ciphertext, annotations } of await allSealed(t)) {
    const shown = [ciphertext, ...Object.values(annotations)];
    const decoded = shown.flatMap((bytes) => [bytes, ...bytes.toString('latin1').split('.').map(fromBase64url)]);
    for (const bytes of decoded) assert.ok(!bytes.includes(plaintext.subarray(0, 16)));
  }
});
const fromBase64url = (text: string): Buffer => Buffer.from(text, 'base64url');

test('the data to be encrypted may be no larger than the annotations can carry, and more is refused and recorded', async (t) => {
  const { client, world } = await withKey(t);
  const tooLarge = randomBytes(16 * KB + 1);
  await assert.rejects(client.encrypt(tooLarge), failsWith(status.INVALID_ARGUMENT, 'TOO_LARGE'));
  assert.equal(world.lastRecord.outcome, 'TOO_LARGE');
});

test('key_id of an Encrypt refers to the KMS KEK, never to a content key: each Encrypt has a fresh one, under one key_id', async (t) => {
  const { client } = await withKey(t);
  const [first, second] = [await client.encrypt(seed), await client.encrypt(seed)];
  assert.equal(first.keyId, second.keyId);
  const wrapped = ({ ciphertext }: EncryptResponse) => ciphertext.toString('latin1').split('.')[1];
  assert.notEqual(wrapped(first), wrapped(second));
});

test('data of an earlier configured key stays readable', async (t) => {
  const { client, world } = await withKey(t);
  const old = await client.encrypt(seed);
  const later = await startKms(t, { ports: world.ports, key: 'etcd-2' });
  await world.add({ keyId: 'etcd-2', algorithm: 'AES-256', purpose: 'encrypt' });
  assert.notEqual((await later.client.status()).keyId, old.keyId);
  assert.deepEqual(await later.client.decrypt(old), seed);
});
