// OpenSSL 3.5 or later of Debian trixie, another build than the one inside Node, on post-quantum keys: it verifies what we
// sign, signs for us, encapsulates to our keys and decapsulates what we encrypt to its own.
import assert from 'node:assert/strict';
import { createPublicKey, hash, type JsonWebKey, randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import {
  COMPOSITE_SIGNATURES,
  labelContext,
  messageRepresentative,
  splitHalves,
} from '../../agent/crypto/composite-signature.ts';
import { encryptContent } from '../../agent/crypto/content-encryption.ts';
import { buildCompactJwe, buildJweHeader } from '../../agent/crypto/jwe.ts';
import { KEM_ALGORITHMS } from '../../agent/crypto/kem-algorithms.ts';
import { unwrapUnderSecret, wrapUnderSecret } from '../../agent/crypto/kem-key-wrap.ts';
import { decrypt } from '../../agent/operations/decrypt.ts';
import { encryptTo } from '../../agent/operations/encrypt-to.ts';
import { getPublicKey } from '../../agent/operations/get-public-key.ts';
import { sign } from '../../agent/operations/sign.ts';
import { verifyWith } from '../../agent/operations/verify-with.ts';
import { akpJwk, PQ_SIGNATURES } from '../../proto/documents/pq-signatures.ts';
import { aCall, CryptoWorld, NO_AAD } from '../agent/operations/crypto-world.ts';
import { FakeToken } from '../fakes/token.ts';
import { debianRoot, needsRoot, outputInside, runInside, TRIXIE } from './support/debian-root.ts';

const RUN_MS = 2 * 60_000;
const message = randomBytes(500);

describe('OpenSSL of Debian trixie', { skip: needsRoot }, () => {
  const world = new CryptoWorld(new FakeToken());
  let root: string;
  let shared: string;
  before(async () => {
    root = await debianRoot(TRIXIE);
    shared = await mkdtemp(join(tmpdir(), 'mortise-openssl-'));
  });
  after(async () => {
    await world.postQuantum.close();
    await world.pool.close();
    if (shared !== undefined) await rm(shared, { recursive: true, force: true });
  });

  /** Puts files where the next script finds them. */
  const files = async (given: Readonly<Record<string, string | Buffer>>): Promise<void> => {
    for (const [name, content] of Object.entries(given)) await writeFile(join(shared, name), content);
  };
  const openssl = (script: string) => outputInside(root, `cd /mnt; ${script}`, { timeoutMs: RUN_MS, shared });
  const accepts = async (script: string): Promise<boolean> =>
    (await runInside(root, `cd /mnt; ${script}`, { timeoutMs: RUN_MS, shared })).exitCode === 0;
  const made = (name: string): Promise<Buffer> => readFile(join(shared, name));
  const pemOf = async (key: string): Promise<string> =>
    (await getPublicKey(world.ports, aCall(), { key, version: undefined, format: 'pem' })).value.publicKey;

  test('is of 3.5 or later', async (t) => {
    const version = await openssl('openssl version');
    t.diagnostic(version.trim());
    const [, major = 0, minor = 0] = /^OpenSSL (\d+)\.(\d+)/.exec(version)?.map(Number) ?? [];
    assert.ok(major > 3 || (major === 3 && minor >= 5), version);
  });

  const signing = [...PQ_SIGNATURES.keys()].filter((id) => /^(ML|SLH)-DSA-/.test(id)); // it has no FN-DSA
  assert.equal(signing.length, 15);
  for (const id of signing) {
    test(`${id}: it verifies what we sign by our PEM public key, and refuses it changed`, async () => {
      const key = id.toLowerCase();
      await world.add({ keyId: key, algorithm: id, purpose: 'sign' });
      const { value } = await sign(world.ports, aCall(), { key, input: { message }, form: 'raw', type: '' });
      assert.ok('signature' in value);
      const changed = Buffer.from(message);
      changed[3] = (changed[3] ?? 0) ^ 1;
      await files({ pem: await pemOf(key), signature: value.signature, message, changed });
      const verify = 'openssl pkeyutl -verify -pubin -inkey pem -rawin -sigfile signature -in';
      await openssl(`${verify} message`);
      assert.equal(await accepts(`${verify} changed`), false);
    });

    test(`${id}: we verify what it signs with a key of its own`, async () => {
      await files({ message });
      await openssl(
        `openssl genpkey -algorithm ${id} -out key; openssl pkey -in key -pubout -out pem;
         openssl pkeyutl -sign -inkey key -rawin -in message -out signature`,
      );
      const jwk = createPublicKey(await made('pem')).export({ format: 'jwk' }) as JsonWebKey;
      const verified = async (text: Buffer) => {
        const signature = { raw: await made('signature') };
        const what = { publicJwk: JSON.stringify(jwk), signature, input: { message: text } };
        return (await verifyWith(world.ports, aCall(), what)).value.valid;
      };
      assert.equal(await verified(message), true);
      assert.equal(await verified(randomBytes(500)), false);
    });
  }

  test('ML-DSA-65-ES256: it verifies the post-quantum half under the label as context', async () => {
    await world.add({ keyId: 'composite', algorithm: 'ML-DSA-65-ES256', purpose: 'sign' });
    const input = { key: 'composite', input: { message }, form: 'raw', type: '' } as const;
    const { value } = await sign(world.ports, aCall(), input);
    assert.ok('signature' in value);
    const composite = COMPOSITE_SIGNATURES.get('ML-DSA-65-ES256') ?? assert.fail();
    const halves = splitHalves(composite, value.signature) ?? assert.fail();
    const pub = Buffer.from(world.version('composite').publicJwk?.['pub'] ?? '', 'base64url').subarray(0, 1952);
    const key = createPublicKey({ key: akpJwk('ML-DSA-65', pub) as JsonWebKey, format: 'jwk' });
    const digest = hash('sha512', message, 'buffer');
    await files({
      pem: key.export({ type: 'spki', format: 'pem' }) as string,
      signature: halves.pqc,
      message: messageRepresentative(composite, digest),
    });
    const verify = 'openssl pkeyutl -verify -pubin -inkey pem -rawin -in message -sigfile signature';
    await openssl(`${verify} -pkeyopt hexcontext-string:${labelContext(composite).toString('hex')}`);
    assert.equal(await accepts(verify), false);
  });

  for (const [id, jose] of [
    ['ML-KEM-768', 'HPKE-12-KE'],
    ['ML-KEM-1024', 'HPKE-13-KE'],
  ] as const) {
    const algorithm = KEM_ALGORITHMS.get(jose) ?? assert.fail(jose);

    test(`${id}: what it encapsulates to our PEM public key we decapsulate`, async () => {
      const key = id.toLowerCase();
      await world.add({ keyId: key, algorithm: id, purpose: 'encrypt', custody: 'wrapped' });
      await files({ pem: await pemOf(key) });
      await openssl('openssl pkeyutl -encap -pubin -inkey pem -secret secret -out ciphertext');
      const [secret, ek] = [await made('secret'), await made('ciphertext')];
      const header = { alg: jose, enc: 'A256GCM', ek: ek.toString('base64url') };
      const protectedSegment = buildJweHeader(header);
      const cek = randomBytes(32);
      const encryptedKey = wrapUnderSecret(algorithm, header.enc, secret, cek);
      const sealed = encryptContent({ cek, iv: randomBytes(12), aad: protectedSegment, plaintext: message });
      const jwe = buildCompactJwe({ protectedSegment, encryptedKey, ...sealed });
      const opened = await decrypt(world.ports, aCall(), { jwe, key, ...NO_AAD });
      assert.deepEqual(opened.value.plaintext, message);
    });

    test(`${id}: what we encrypt to a key of its own it decapsulates`, async () => {
      await openssl(`openssl genpkey -algorithm ${id} -out key; openssl pkey -in key -pubout -out pem`);
      const { pub } = createPublicKey(await made('pem')).export({ format: 'jwk' });
      const publicJwk = JSON.stringify({ kty: 'AKP', alg: jose, pub });
      const { value } = await encryptTo(world.ports, aCall(), { publicJwk, plaintext: message, ...NO_AAD });
      const [head = '', encryptedKey = ''] = value.jwe.split('.');
      const { ek, enc } = JSON.parse(Buffer.from(head, 'base64url').toString()) as { ek: string; enc: string };
      await files({ ciphertext: Buffer.from(ek, 'base64url') });
      await openssl('openssl pkeyutl -decap -inkey key -in ciphertext -secret secret');
      const secret = await made('secret');
      const cek = unwrapUnderSecret(algorithm, enc, secret, Buffer.from(encryptedKey, 'base64url'));
      assert.equal(cek?.length, 32);
    });
  }
});
