// AKP JWKs of KEMs and X25519 ones that a caller brings: what parses is one whole public key, and the thumbprint is over
// the members that make it.
import assert from 'node:assert/strict';
import { generateKeyPairSync, hash, randomBytes } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { parsePublicJwk } from '../../../agent/crypto/public-jwk.ts';
import { AgentError } from '../../../agent/errors.ts';
import { compositePublicJwk } from '../../../proto/documents/composite-keys.ts';
import type { PublicJwk } from '../../../proto/documents/key-record.ts';
import { ML_KEM, mlKemPublicBytes } from '../../../proto/documents/ml-kem.ts';
import { kemPublicBytes, PQ_KEMS, type PqKem, x25519PublicJwk } from '../../../proto/documents/pq-kems.ts';
import { akpJwk } from '../../../proto/documents/pq-signatures.ts';

const kem = (id: string): PqKem => PQ_KEMS.get(id) as PqKem;
const RSA_ALG = 'urn:mortise:jwe:ML-KEM-768-RSA2048+A256KW';
const rsaPair = (modulusLength: number, publicExponent = 65537): PublicJwk => {
  const { publicKey } = generateKeyPairSync('rsa', { modulusLength, publicExponent });
  const pqc = akpJwk('ML-KEM-768', mlKemPublicBytes(ML_KEM['ML-KEM-768'], randomBytes(64)));
  return compositePublicJwk(RSA_ALG, { pqc, classical: publicKey.export({ format: 'jwk' }) as PublicJwk });
};
const KEYS: readonly PublicJwk[] = [
  akpJwk('HPKE-12-KE', kemPublicBytes(kem('ML-KEM-768'), randomBytes(64))),
  akpJwk('HPKE-13-KE', kemPublicBytes(kem('ML-KEM-1024'), randomBytes(64))),
  akpJwk('HPKE-8-KE', kemPublicBytes(kem('ML-KEM-768-P256'), randomBytes(32))),
  akpJwk('HPKE-9-KE', kemPublicBytes(kem('ML-KEM-768-X25519'), randomBytes(32))),
  akpJwk('HPKE-10-KE', kemPublicBytes(kem('ML-KEM-1024-P384'), randomBytes(32))),
  rsaPair(2048),
];
const refused = (jwk: unknown): void =>
  assert.throws(
    () => parsePublicJwk(JSON.stringify(jwk)),
    (thrown: unknown) => thrown instanceof AgentError && thrown.code === 'INVALID_REQUEST',
  );

test('a public key of each KEM parses, its thumbprint over alg, kty and pub', () => {
  for (const { alg = '', kty = '', pub = '' } of KEYS) {
    const parsed = parsePublicJwk(JSON.stringify({ kid: 'x', pub, kty, alg }));
    assert.deepEqual(parsed.jwk, { alg, kty, pub });
    assert.equal(parsed.thumbprint, hash('sha256', JSON.stringify({ alg, kty, pub }), 'base64url'));
  }
  const x25519 = parsePublicJwk(JSON.stringify(x25519PublicJwk(randomBytes(32))));
  assert.deepEqual([x25519.algorithm, x25519.crv], ['X25519', 'X25519']);
});

test('a key under the name of another KEM, without a half, or with a private part is refused', () => {
  for (const [index, jwk] of KEYS.entries()) {
    const bytes = Buffer.from(jwk['pub'] ?? '', 'base64url');
    refused({ ...jwk, pub: bytes.subarray(0, bytes.length - 1).toString('base64url') });
    refused({ ...jwk, pub: Buffer.concat([bytes, Buffer.of(0)]).toString('base64url') });
    refused({ ...jwk, alg: KEYS[(index + 1) % KEYS.length]?.['alg'] });
    refused({ ...jwk, alg: 'HPKE-11-KE' });
    refused({ ...jwk, priv: 'AAAA' });
    refused({ ...jwk, pub: `${jwk['pub']}=` });
  }
});

test('a half that is a point off its curve, or an RSA key of another size or exponent, is refused', () => {
  for (const jwk of KEYS.slice(2).filter(({ alg }) => alg === 'HPKE-8-KE' || alg === 'HPKE-10-KE')) {
    const bytes = Buffer.from(jwk['pub'] ?? '', 'base64url');
    bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
    refused({ ...jwk, pub: bytes.toString('base64url') });
  }
  refused(rsaPair(1024));
  refused(rsaPair(2048, 3));
});

test('any change of a byte ends in a key or in the one refusal', () => {
  fc.assert(
    fc.property(fc.constantFrom(...KEYS), fc.nat(), fc.integer({ min: 1, max: 255 }), (jwk, at, by) => {
      const bytes = Buffer.from(jwk['pub'] ?? '', 'base64url');
      bytes[at % bytes.length] = (bytes[at % bytes.length] ?? 0) ^ by;
      try {
        parsePublicJwk(JSON.stringify({ ...jwk, pub: bytes.toString('base64url') }));
      } catch (thrown) {
        assert.ok(thrown instanceof AgentError && thrown.code === 'INVALID_REQUEST', String(thrown));
      }
    }),
    { numRuns: 300 },
  );
});
