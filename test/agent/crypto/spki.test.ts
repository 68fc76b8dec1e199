// PEM of public keys: published composites byte for byte, the way there and back for every algorithm that has one, and
// whatever else a caller brings.
import assert from 'node:assert/strict';
import { createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { COMPOSITE_SIGNATURES } from '../../../agent/crypto/composite-signature.ts';
import { parsePublicJwk } from '../../../agent/crypto/public-jwk.ts';
import { jwkOfPem, publicPem } from '../../../agent/crypto/spki.ts';
import { AgentError } from '../../../agent/errors.ts';
import { ALGORITHMS, algorithm } from '../../../proto/documents/algorithms.ts';
import type { PublicJwk } from '../../../proto/documents/key-record.ts';
import { akpJwk } from '../../../proto/documents/pq-signatures.ts';

const VECTORS = join(import.meta.dirname, '../../vectors/post-quantum/composite-lamps.json');
const SHARED = join(import.meta.dirname, '../../../../shared/vectors/lamps-composite/kem-testvectors.json');
const base64 = (text: string): Buffer => Buffer.from(text, 'base64');
const pemOf = (der: Buffer): string =>
  `-----BEGIN PUBLIC KEY-----\n${(der.toString('base64').match(/.{1,64}/g) ?? []).join('\n')}\n-----END PUBLIC KEY-----\n`;
const derOf = (pem: string): Buffer => base64(pem.replaceAll(/-----[A-Z ]+-----|\n/g, ''));
const joseOf = (id: string): string =>
  (algorithm(id)?.jose.sign ?? algorithm(id)?.jose.encrypt)?.[0] ?? assert.fail(id);

interface SignatureVector {
  readonly tcId: string;
  readonly pk: string;
  readonly spkiPrefix: string;
}
const { tests: published } = JSON.parse(readFileSync(VECTORS, 'utf8')) as { tests: readonly SignatureVector[] };
const lampsPems = [...COMPOSITE_SIGNATURES.values()].map(({ id, label }) => {
  const { pk, spkiPrefix } = published.find(({ tcId }) => tcId === `id-${label.slice(8)}`) ?? assert.fail(label);
  return { id, pem: pemOf(Buffer.concat([Buffer.from(spkiPrefix, 'hex'), base64(pk)])) };
});

describe('composite signatures', () => {
  for (const { id, pem } of lampsPems) {
    test(`${id}: the PEM of the published key is read, and written again byte for byte`, () => {
      const { algorithm: read, jwk, alg } = parsePublicJwk(pem);
      assert.deepEqual([read, alg, jwk['alg']], [id, joseOf(id), joseOf(id)]);
      assert.equal(publicPem(id, joseOf(id), jwk), pem);
    });
  }
});

/** Certificates of the draft have the public key in them as we write it. */
test('composite KEMs: as in the certificates of the draft', { skip: !existsSync(SHARED) && `no ${SHARED}` }, () => {
  const { tests } = JSON.parse(readFileSync(SHARED, 'utf8')) as {
    tests: readonly { tcId: string; ek: string; x5c: string }[];
  };
  const names = {
    'ML-KEM-768-RSA2048': 'id-MLKEM768-RSA2048-SHA3-256',
    'ML-KEM-768-RSA3072': 'id-MLKEM768-RSA3072-SHA3-256',
    'ML-KEM-768-RSA4096': 'id-MLKEM768-RSA4096-SHA3-256',
    'ML-KEM-768-X25519': 'id-MLKEM768-X25519-SHA3-256',
    'ML-KEM-768-P256': 'id-MLKEM768-ECDH-P256-SHA3-256',
    'ML-KEM-1024-RSA3072': 'id-MLKEM1024-RSA3072-SHA3-256',
    'ML-KEM-1024-P384': 'id-MLKEM1024-ECDH-P384-SHA3-256',
    'ML-KEM-768': 'id-alg-ml-kem-768',
    'ML-KEM-1024': 'id-alg-ml-kem-1024',
  };
  for (const [id, name] of Object.entries(names)) {
    const { ek, x5c } = tests.find(({ tcId }) => tcId === name) ?? assert.fail(name);
    const jwk = akpJwk(joseOf(id), base64(ek));
    const pem = publicPem(id, joseOf(id), jwk) ?? assert.fail(id);
    assert.ok(base64(x5c).includes(derOf(pem)), id);
    assert.equal(parsePublicJwk(pem).jwk['pub'], jwk['pub']);
    assert.equal(parsePublicJwk(pem).algorithm, id);
  }
});

const made = (): readonly (readonly [id: string, key: KeyObject])[] => [
  ['RSA-2048', generateKeyPairSync('rsa', { modulusLength: 2048 }).publicKey],
  ['EC-P256', generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey],
  ['EC-P521', generateKeyPairSync('ec', { namedCurve: 'P-521' }).publicKey],
  ['Ed25519', generateKeyPairSync('ed25519').publicKey],
  ['X25519', generateKeyPairSync('x25519').publicKey],
  ['ML-DSA-44', generateKeyPairSync('ml-dsa-44').publicKey],
  ['ML-DSA-87', generateKeyPairSync('ml-dsa-87').publicKey],
  ['ML-KEM-768', generateKeyPairSync('ml-kem-768').publicKey],
  ['SLH-DSA-SHA2-128f', generateKeyPairSync('slh-dsa-sha2-128f').publicKey],
];

test('keys of one algorithm: what OpenSSL writes is read, and written again byte for byte', () => {
  for (const [id, key] of made()) {
    const pem = key.export({ type: 'spki', format: 'pem' }).toString();
    const parsed = parsePublicJwk(pem);
    assert.equal(parsed.algorithm, id);
    assert.equal(publicPem(id, joseOf(id), parsed.jwk), pem, id);
    assert.equal(parsePublicJwk(pem.replaceAll('\n', '\r\n')).thumbprint, parsed.thumbprint);
  }
});

test('algorithms without an object identifier have no PEM: FN-DSA, and pairs that LAMPS has not', () => {
  for (const id of ['FN-DSA-512', 'FN-DSA-1024', 'ML-KEM-1024-RSA2048', 'ML-KEM-1024-RSA4096']) {
    assert.equal(publicPem(id, joseOf(id), akpJwk(joseOf(id), Buffer.alloc(2000))), undefined, id);
  }
  const composites = ALGORITHMS.filter(({ components }) => components !== undefined);
  const without = composites.filter(
    ({ id }) => publicPem(id, joseOf(id), akpJwk(joseOf(id), Buffer.alloc(2000))) === undefined,
  );
  assert.deepEqual(
    without.map(({ id }) => id),
    ['ML-KEM-1024-RSA2048', 'ML-KEM-1024-RSA4096'],
  );
});

describe('what is no public key in PEM is refused', () => {
  const refused = (text: string): void =>
    assert.throws(
      () => parsePublicJwk(text),
      (thrown) => thrown instanceof AgentError && ['INVALID_REQUEST', 'ALGORITHM_FORBIDDEN'].includes(thrown.code),
    );
  const composite = lampsPems.find(({ id }) => id === 'ML-DSA-65-ES256')?.pem ?? assert.fail();

  test('private keys, certificates, other labels and garbage', () => {
    const { privateKey } = generateKeyPairSync('ed25519');
    refused(privateKey.export({ type: 'pkcs8', format: 'pem' }).toString());
    refused(composite.replaceAll('PUBLIC KEY', 'CERTIFICATE'));
    refused('-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n');
    refused(`${composite}${composite}`);
    refused(composite.replace('\n', '\nAAAA'));
    refused(`-----BEGIN PUBLIC KEY-----\n${'A'.repeat(12_000)}\n-----END PUBLIC KEY-----\n`);
  });

  test('RSA below 2048 bits, and a key with more behind it', () => {
    const small = generateKeyPairSync('rsa', { modulusLength: 1024 }).publicKey;
    refused(small.export({ type: 'spki', format: 'pem' }).toString());
    for (const [, key] of made()) {
      const der = key.export({ type: 'spki', format: 'der' });
      refused(pemOf(Buffer.concat([der, Buffer.of(0)])));
    }
    refused(pemOf(Buffer.concat([derOf(composite), Buffer.of(0)])));
  });

  test('a composite under the identifier of another, or its point in another form', () => {
    const der = derOf(composite);
    const other = Buffer.from(der);
    other.writeUInt8(48, 15); // ML-DSA-65 with Ed25519
    refused(pemOf(other));
    const point = Buffer.from(der);
    point.writeUInt8(3, 21 + 1952);
    refused(pemOf(point));
  });

  test('whatever is changed in a PEM, nothing but a key with that PEM or a refusal comes out', () => {
    const pems = [
      ...lampsPems.map(({ pem }) => pem),
      ...made().map(([, key]) => key.export({ type: 'spki', format: 'pem' }).toString()),
    ];
    const change = fc.record({
      pem: fc.constantFrom(...pems),
      at: fc.nat(4000),
      to: fc.nat(255),
      cut: fc.integer({ min: -4, max: 4 }),
      inText: fc.boolean(),
    });
    fc.assert(
      fc.property(change, ({ pem, at, to, cut, inText }) => {
        const edited = (bytes: Buffer): Buffer => {
          const copy = Buffer.concat([
            bytes.subarray(0, bytes.length + Math.min(cut, 0)),
            Buffer.alloc(Math.max(cut, 0)),
          ]);
          copy[at % copy.length] = to;
          return copy;
        };
        const text = inText ? edited(Buffer.from(pem)).toString('latin1') : pemOf(edited(derOf(pem)));
        let parsed: { readonly algorithm: string; readonly jwk: PublicJwk };
        try {
          parsed = parsePublicJwk(text);
        } catch (thrown) {
          assert.ok(thrown instanceof AgentError, String(thrown));
          assert.ok(['INVALID_REQUEST', 'ALGORITHM_FORBIDDEN'].includes(thrown.code), thrown.code);
          return;
        }
        const again = publicPem(parsed.algorithm, joseOf(parsed.algorithm), parsed.jwk) ?? assert.fail();
        assert.deepEqual(derOf(again), derOf(text.replaceAll('\r', '').trimEnd()));
      }),
      { numRuns: 1000 },
    );
    assert.equal(jwkOfPem('{}'), undefined);
  });
});

test('OpenSSL reads the PEM of ML-KEM and ML-DSA keys that the table has', () => {
  for (const [id, key] of made()) {
    const pem = publicPem(id, joseOf(id), parsePublicJwk(key.export({ type: 'spki', format: 'pem' }).toString()).jwk);
    assert.equal(createPublicKey(pem ?? assert.fail()).asymmetricKeyType, key.asymmetricKeyType);
  }
});
