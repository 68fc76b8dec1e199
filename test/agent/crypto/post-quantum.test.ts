// ML-DSA and SLH-DSA: OpenSSL and noble check each other, published vectors check both, and secrets do not outlive a task.
import assert from 'node:assert/strict';
import { createPublicKey, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { calculateJwkThumbprint } from 'jose';
import { PostQuantum } from '../../../agent/crypto/post-quantum/post-quantum.ts';
import { performTask } from '../../../agent/crypto/post-quantum/tasks.ts';
import { parsePublicJwk } from '../../../agent/crypto/public-jwk.ts';
import { AgentError } from '../../../agent/errors.ts';
import { PQ_SIGNATURES } from '../../../proto/documents/pq-signatures.ts';
import { crossCheck, NOBLE } from '../../support/noble-signatures.ts';

const VECTORS = join(import.meta.dirname, '../../vectors/post-quantum');
const read = (file: string) => JSON.parse(readFileSync(join(VECTORS, file), 'utf8'));
const clock = { now: () => Date.now() };
const aCall = () => ({ tenant: 'acme', deadline: Date.now() + 60_000, signal: new AbortController().signal });
const message = Buffer.from('It is a dangerous business');

const postQuantum = new PostQuantum({ clock });
after(() => postQuantum.close());

// One of each kind; the others are in test/slow.
for (const id of [
  'ML-DSA-44',
  'ML-DSA-65',
  'ML-DSA-87',
  'SLH-DSA-SHA2-128s',
  'SLH-DSA-SHA2-192f',
  'SLH-DSA-SHAKE-128f',
]) {
  test(`${id}: OpenSSL and noble make the same key of a seed and verify each other's signatures`, () =>
    crossCheck(postQuantum, id));
}

test('every set has its implementation in noble', () => {
  assert.deepEqual([...NOBLE.keys()].sort(), [...PQ_SIGNATURES.keys()].sort());
});

describe('published ML-DSA vectors', () => {
  test('the JWS of RFC 9964 verify, and their kids are the thumbprints of their keys', async () => {
    const cases = read('ml-dsa-jose.json') as { jwk: Record<string, string>; jws: string }[];
    assert.equal(cases.length, 3);
    for (const { jwk, jws } of cases) {
      const { kty = '', alg = '', pub = '', kid } = jwk;
      const parsed = parsePublicJwk(JSON.stringify({ kty, alg, pub }));
      assert.equal(parsed.thumbprint, kid);
      assert.equal(await calculateJwkThumbprint({ kty, alg, pub }), kid);
      const [header, payload, signature = ''] = jws.split('.');
      const what = { algorithm: alg, key: parsed.key, signature: Buffer.from(signature, 'base64url') };
      assert.ok(await postQuantum.verify({ ...what, message: Buffer.from(`${header}.${payload}`) }), alg);
      assert.ok(!(await postQuantum.verify({ ...what, message: Buffer.from(`${header}.${payload}A`) })), alg);
      const seed = Buffer.from(jwk['priv'] ?? '', 'base64url');
      assert.equal((await postQuantum.derive(alg, seed, aCall())).publicJwk['pub'], pub);
    }
  });

  test('Wycheproof: what is valid verifies, what is not does not, contexts included', async () => {
    const { testGroups } = read('ml-dsa-65-verify.json') as {
      testGroups: { publicKey: string; tests: { msg: string; ctx?: string; sig: string; result: string }[] }[];
    };
    let [valid, invalid] = [0, 0];
    for (const { publicKey, tests } of testGroups) {
      const pub = Buffer.from(publicKey, 'hex');
      for (const { msg, ctx = '', sig, result } of tests) {
        const hex = (text: string) => Buffer.from(text, 'hex');
        const outcome = await (async () => {
          const key = createPublicKey({
            key: { kty: 'AKP', alg: 'ML-DSA-65', pub: pub.toString('base64url') },
            format: 'jwk',
          });
          return await postQuantum.verify({
            algorithm: 'ML-DSA-65',
            key,
            message: hex(msg),
            context: hex(ctx),
            signature: hex(sig),
          });
        })().catch(() => false); // OpenSSL refuses a public key of a wrong length
        assert.equal(outcome, result === 'valid');
        if (outcome) valid += 1;
        else invalid += 1;
      }
    }
    assert.ok(valid >= 5 && invalid >= 6, `${valid} valid, ${invalid} invalid`);
  });
});

describe('secrets of a task', () => {
  const bytesOf = (length: number) => Uint8Array.from(randomBytes(length));
  const none = new Uint8Array();

  test('are wiped when it is done', () => {
    const row = PQ_SIGNATURES.get('SLH-DSA-SHA2-128f');
    assert.ok(row);
    const seed = bytesOf(row.seedBytes);
    const material = performTask({ kind: 'derive', algorithm: row.id, seed });
    assert.ok(seed.every((byte) => byte === 0));
    assert.equal(material.length, row.privateBytes);
    const task = {
      kind: 'sign',
      algorithm: row.id,
      material,
      message: Uint8Array.from(message),
      context: none,
    } as const;
    assert.equal(performTask(task).length, row.signatureBytes);
    assert.ok(material.every((byte) => byte === 0));
  });

  test('are wiped when it fails', () => {
    const material = bytesOf(63);
    const task = { kind: 'sign', algorithm: 'SLH-DSA-SHA2-128f', material, message: none, context: none } as const;
    assert.throws(() => performTask(task), RangeError);
    assert.ok(material.every((byte) => byte === 0));
    for (const algorithm of ['SLH-DSA-SHA2-128f', 'ML-DSA-44', 'RS256']) {
      const seed = bytesOf(47);
      assert.throws(() => performTask({ kind: 'derive', algorithm, seed }), TypeError, algorithm);
      assert.ok(seed.every((byte) => byte === 0));
    }
  });

  test('an algorithm that is not post-quantum is not derived or signed with', async () => {
    await assert.rejects(
      postQuantum.derive('EC-P256', randomBytes(32), aCall()),
      (error) => error instanceof AgentError && error.code === 'HSM_UNSUPPORTED',
    );
    await assert.rejects(
      postQuantum.sign({ algorithm: 'ES256', message }, aCall(), (use) => use(randomBytes(32))),
      TypeError,
    );
  });
});
