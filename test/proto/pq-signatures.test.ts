// Sizes and encodings of post-quantum signature keys, held against what OpenSSL makes.
import assert from 'node:assert/strict';
import { createPublicKey, generateKeyPairSync, randomBytes, sign, verify } from 'node:crypto';
import { test } from 'node:test';
import { ALGORITHMS } from '../../proto/documents/algorithms.ts';
import { PQ_SIGNATURES, pqPrivateKey, pqPublicJwk } from '../../proto/documents/pq-signatures.ts';

const FAST = [...PQ_SIGNATURES.values()].filter(({ id }) => id.startsWith('ML-DSA') || id.endsWith('f'));

test('every ML-DSA and SLH-DSA row of the algorithm table has its sizes', () => {
  const ids = ALGORITHMS.filter((row) => row.components === undefined).map((row) => row.id);
  const wanted = ids.filter((id) => /^(ML|SLH)-DSA-/.test(id));
  assert.equal(wanted.length, 15);
  assert.deepEqual([...PQ_SIGNATURES.keys()], wanted);
});

test('the private key info of OpenSSL begins with our prefix and holds the private bytes', () => {
  for (const row of PQ_SIGNATURES.values()) {
    const key = pqPrivateKey(row, randomBytes(row.privateBytes));
    assert.equal(key.asymmetricKeyType, row.id.toLowerCase());
    if (row.family === 'ml-dsa') continue; // OpenSSL writes the expanded key beside the seed
    const der = key.export({ format: 'der', type: 'pkcs8' });
    assert.deepEqual(der.subarray(0, der.length - row.privateBytes), row.pkcs8, row.id);
  }
});

test('public JWKs are those that OpenSSL derives, and their keys verify what the private bytes sign', () => {
  assert.ok(FAST.length >= 9);
  for (const row of FAST) {
    const type = row.id.toLowerCase() as 'ml-dsa-44';
    const made = generateKeyPairSync(type);
    const der = made.privateKey.export({ format: 'der', type: 'pkcs8' });
    const at = row.family === 'ml-dsa' ? der.indexOf(Buffer.from([0x04, 0x20])) + 2 : der.length - row.privateBytes;
    const bytes = Buffer.from(der.subarray(at, at + row.privateBytes));
    const jwk = pqPublicJwk(row, bytes);
    assert.deepEqual(jwk, { ...made.publicKey.export({ format: 'jwk' }) }, row.id);
    assert.equal(Buffer.from(jwk['pub'] ?? '', 'base64url').length, row.publicBytes);
    const signature = sign(null, Buffer.from('hello'), pqPrivateKey(row, bytes));
    assert.equal(signature.length, row.signatureBytes, row.id);
    const key = createPublicKey({ key: { ...jwk }, format: 'jwk' });
    assert.ok(verify(null, Buffer.from('hello'), key, signature), row.id);
  }
});

test('private bytes of another length are refused', () => {
  for (const row of PQ_SIGNATURES.values()) {
    for (const length of [0, row.privateBytes - 1, row.privateBytes + 1]) {
      assert.throws(() => pqPrivateKey(row, Buffer.alloc(length)), RangeError, row.id);
    }
  }
});
