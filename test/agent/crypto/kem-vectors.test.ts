// ML-KEM, the hybrid KEMs and the composites against published vectors and against noble: the small set of this
// repository, and the whole sets where they stand beside the checkout. A file without a case fails.
import assert from 'node:assert/strict';
import {
  constants,
  createDecipheriv,
  createECDH,
  createPrivateKey,
  decapsulate,
  encapsulate,
  hkdfSync,
  type JsonWebKey,
  privateDecrypt,
  randomBytes,
} from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { ml_kem768, ml_kem1024 } from '@noble/post-quantum/ml-kem.js';
import { aesKeyUnwrap } from '../../../agent/crypto/aes-key-wrap.ts';
import { KEM_ALGORITHMS } from '../../../agent/crypto/kem-algorithms.ts';
import { combine, decapsulateWith, parseKemPublicKey, pqcWithSeed } from '../../../agent/crypto/pq-kem.ts';
import { x25519 } from '../../../agent/crypto/x25519.ts';
import { decrypt } from '../../../agent/operations/decrypt.ts';
import { ML_KEM, mlKemPrivateKey, mlKemPublicBytes, mlKemPublicKey } from '../../../proto/documents/ml-kem.ts';
import { PQ_KEMS, type PqKem } from '../../../proto/documents/pq-kems.ts';
import { FakeToken } from '../../fakes/token.ts';
import { aCall, CryptoWorld } from '../operations/crypto-world.ts';

const OWN = join(import.meta.dirname, '../../vectors/kem');
const SHARED = join(import.meta.dirname, '../../../../shared/vectors');
const hex = (text: string): Buffer => Buffer.from(text, 'hex');
const base64 = (text: string): Buffer => Buffer.from(text, 'base64');
const base64url = (text: string): Buffer => Buffer.from(text, 'base64url');

const load = <T>(path: string, select: (file: never) => readonly T[]): readonly T[] => {
  const cases = select(JSON.parse(readFileSync(path, 'utf8')) as never);
  assert.ok(cases.length > 0, `${path} holds no case`);
  return cases;
};
const shared = (file: string) => ({
  path: join(SHARED, file),
  skip: existsSync(join(SHARED, file)) ? false : `no ${file} beside the checkout`,
});
const same = <T>(file: readonly T[]): readonly T[] => file;

interface HpkeCase {
  alg: string;
  jwk: { alg: string; pub: string; priv: string };
  flattened?: { aad: string };
  compact: string;
}

const PLAINTEXT = /^You can trust us to stick with you through thick and thin/;

/** Through the use case, with the vector's private key as a wrapped one. */
const openCase = async ({ alg, jwk, flattened, compact }: HpkeCase): Promise<void> => {
  const algorithm = KEM_ALGORITHMS.get(alg);
  if (algorithm === undefined) assert.fail(alg);
  const world = new CryptoWorld(new FakeToken());
  const named = { keyId: 'vector', algorithm: algorithm.kem.id, purpose: 'encrypt', jose: alg } as const;
  const key = await world.add({ ...named, custody: 'wrapped', seed: base64url(jwk.priv) });
  assert.deepEqual(key.versions[0]?.publicJwk, { kty: 'AKP', alg: jwk.alg, pub: jwk.pub });
  const open = async (jwe: string, associatedData: Buffer) =>
    (await decrypt(world.ports, aCall(), { jwe, key: 'vector', associatedData })).value.plaintext.toString();
  assert.match(await open(compact, Buffer.alloc(0)), PLAINTEXT);
  if (flattened === undefined) return;
  assert.match(await open(JSON.stringify(flattened), base64url(flattened.aad)), PLAINTEXT);
  await assert.rejects(open(JSON.stringify(flattened), Buffer.from('other')), { code: 'INVALID_CIPHERTEXT' });
};

interface LampsCase {
  tcId: string;
  ek: string;
  dk: string;
  c: string;
  k: string;
}

const openLampsRsa = async ({ tcId, ek, dk, c, k }: LampsCase): Promise<boolean> => {
  const [, set, bits] = /^id-MLKEM(768|1024)-RSA([0-9]{4})-SHA3-256$/.exec(tcId) ?? [];
  const kem = PQ_KEMS.get(`ML-KEM-${set}-RSA${bits}`);
  if (kem === undefined) return false;
  const publicKey = parseKemPublicKey(kem, base64(ek));
  if (publicKey === undefined) assert.fail(`${tcId}: no public key`);
  const [pqcSeed, rsa] = [base64(dk).subarray(0, 64), base64(dk).subarray(64)];
  const key = createPrivateKey({ key: rsa, format: 'der', type: 'pkcs1' });
  const classical = (ciphertext: Buffer) =>
    privateDecrypt({ key, padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: 'sha256' }, ciphertext);
  const own = { pqc: pqcWithSeed(kem, pqcSeed), classical, classicalPublic: publicKey.classical };
  assert.deepEqual(await decapsulateWith(kem, base64(c), own), base64(k), tcId);
  return true;
};

const EC_LABELS: Readonly<Record<string, { curve: string; bytes: number; label: string }>> = {
  'id-MLKEM768-ECDH-P256-SHA3-256': { curve: 'prime256v1', bytes: 32, label: 'MLKEM768-P256' },
  'id-MLKEM768-ECDH-P384-SHA3-256': { curve: 'secp384r1', bytes: 48, label: 'MLKEM768-P384' },
  'id-MLKEM1024-ECDH-P384-SHA3-256': { curve: 'secp384r1', bytes: 48, label: 'MLKEM1024-P384' },
  'id-MLKEM1024-ECDH-P521-SHA3-256': { curve: 'secp521r1', bytes: 66, label: 'MLKEM1024-P521' },
};

/** ECPrivateKey of RFC 5915: version 1, then the scalar as an octet string of the field's length. */
const ecScalar = (der: Buffer, bytes: number): Buffer => {
  const at = der.indexOf(Buffer.of(0x02, 0x01, 0x01, 0x04, bytes)) + 5;
  return der.subarray(at, at + bytes);
};

const openLampsEc = ({ tcId, ek, dk, c, k }: LampsCase): boolean => {
  const row = EC_LABELS[tcId];
  const { publicBytes, ciphertextBytes, id } = ML_KEM[tcId.includes('768') ? 'ML-KEM-768' : 'ML-KEM-1024'];
  const isX25519 = tcId === 'id-MLKEM768-X25519-SHA3-256';
  if (row === undefined && !isX25519) return false;
  const [seed, own] = [base64(dk).subarray(0, 64), base64(dk).subarray(64)];
  const [ciphertext, other] = [base64(c).subarray(0, ciphertextBytes), base64(c).subarray(ciphertextBytes)];
  let classical = x25519(own, other) ?? Buffer.alloc(0);
  if (row !== undefined) {
    const ecdh = createECDH(row.curve);
    ecdh.setPrivateKey(ecScalar(own, row.bytes));
    classical = ecdh.computeSecret(other);
  }
  const secret = combine(Buffer.from(row?.label ?? '\\.//^\\', 'ascii'), {
    pqc: decapsulate(mlKemPrivateKey(ML_KEM[id], seed), ciphertext),
    classical,
    classicalCiphertext: other,
    classicalPublic: base64(ek).subarray(publicBytes),
  });
  assert.deepEqual(secret, base64(k), tcId);
  return true;
};

interface CompositeCase {
  algorithm: string;
  jwk: { alg: string; pub: string };
  mlkemSeed: string;
  rsaPrivateJwk: JsonWebKey;
  combinedSecret: string;
  info: string;
  wrappingKey: string;
  cek: string;
  plaintext: string;
  compact: string;
}

/** Step by step as docs/spec/composite.md says, by node:crypto alone but for the combiner, which LAMPS vouches for. */
const openComposite = async (row: CompositeCase): Promise<void> => {
  const kem = PQ_KEMS.get(row.algorithm) as PqKem;
  const [protectedSegment = '', encryptedKey = '', iv = '', ciphertext = '', tag = ''] = row.compact.split('.');
  const header = JSON.parse(base64url(protectedSegment).toString()) as { alg: string; enc: string; ek: string };
  assert.equal(header.alg, row.jwk.alg);
  const key = createPrivateKey({ key: row.rsaPrivateJwk, format: 'jwk' });
  const secret = await decapsulateWith(kem, base64url(header.ek), {
    pqc: pqcWithSeed(kem, base64url(row.mlkemSeed)),
    classical: (data) => privateDecrypt({ key, padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: 'sha256' }, data),
    classicalPublic: base64url(row.jwk.pub).subarray(kem.pqc.publicBytes),
  });
  assert.deepEqual(secret, base64url(row.combinedSecret));
  assert.equal(base64url(row.info).toString('latin1'), `mortise-jwe\xff${header.alg}\xff${header.enc}`);
  const wrappingKey = Buffer.from(hkdfSync('sha256', secret, Buffer.alloc(0), base64url(row.info), 32));
  assert.deepEqual(wrappingKey, base64url(row.wrappingKey));
  const cek = aesKeyUnwrap(wrappingKey, base64url(encryptedKey));
  assert.deepEqual(cek, base64url(row.cek));
  const content = createDecipheriv('aes-256-gcm', cek as Buffer, base64url(iv));
  content.setAAD(Buffer.from(protectedSegment)).setAuthTag(base64url(tag));
  const plaintext = Buffer.concat([content.update(base64url(ciphertext)), content.final()]);
  assert.equal(plaintext.toString(), row.plaintext);
};

describe('published vectors of KEMs', () => {
  test('JWE by HPKE, integrated and with a content key: those of this repository', async () => {
    for (const row of load<HpkeCase>(join(OWN, 'hpke-jwe.json'), same)) await openCase(row);
  });

  const hpke = shared('hpke-jwe/jose-vectors.json');
  test('JWE by HPKE: every case of the draft', { skip: hpke.skip }, async () => {
    const cases = load<HpkeCase>(hpke.path, same);
    const algs = [...KEM_ALGORITHMS.values()].flatMap(({ jose, form }) => (form === 'key-wrap' ? [] : [jose]));
    assert.deepEqual(new Set(cases.map(({ alg }) => alg)), new Set(algs));
    for (const row of cases) await openCase(row);
  });

  test('composite ML-KEM of LAMPS with RSA: that of this repository', async () => {
    for (const row of load<LampsCase>(join(OWN, 'lamps.json'), same)) assert.ok(await openLampsRsa(row));
  });

  const lamps = shared('lamps-composite/kem-testvectors.json');
  test('composite ML-KEM of LAMPS: RSA, NIST curves and X25519', { skip: lamps.skip }, async () => {
    const cases = load<LampsCase>(lamps.path, ({ tests }: { tests: readonly LampsCase[] }) => tests);
    const done: string[] = [];
    for (const row of cases) if ((await openLampsRsa(row)) || openLampsEc(row)) done.push(row.tcId);
    assert.equal(done.length, 9, done.join(' '));
  });

  test('JWE of RSA pairs, step by step: ours', async () => {
    for (const row of load<CompositeCase>(join(OWN, 'composite-jwe.json'), same)) await openComposite(row);
  });
});

describe('ML-KEM', () => {
  for (const [id, noble] of [
    ['ML-KEM-768', ml_kem768],
    ['ML-KEM-1024', ml_kem1024],
  ] as const) {
    test(`${id}: OpenSSL and noble make the same key of a seed and open each other's ciphertexts`, () => {
      for (let round = 0; round < 3; round += 1) {
        const seed = randomBytes(64);
        const theirs = noble.keygen(seed);
        const ours = mlKemPublicBytes(ML_KEM[id], seed);
        assert.deepEqual(ours, Buffer.from(theirs.publicKey));
        const toThem = encapsulate(mlKemPublicKey(ML_KEM[id], ours));
        const opened = noble.decapsulate(toThem.ciphertext, theirs.secretKey);
        assert.deepEqual(Buffer.from(opened), toThem.sharedKey);
        const toUs = noble.encapsulate(theirs.publicKey);
        const key = mlKemPrivateKey(ML_KEM[id], seed);
        assert.deepEqual(decapsulate(key, toUs.cipherText), Buffer.from(toUs.sharedSecret));
        // Implicit rejection: the same secret that nobody knows.
        toUs.cipherText[7] = (toUs.cipherText[7] ?? 0) ^ 1;
        const rejected = Buffer.from(noble.decapsulate(toUs.cipherText, theirs.secretKey));
        assert.deepEqual(decapsulate(key, toUs.cipherText), rejected);
      }
    });
  }

  interface WycheproofCase {
    tcId: number;
    seed: string;
    ek: string;
    c?: string;
    K?: string;
    result: string;
  }
  const flat = ({ testGroups }: { testGroups: readonly { tests: readonly WycheproofCase[] }[] }) =>
    testGroups.flatMap(({ tests }) => tests);

  for (const file of ['wycheproof/mlkem_768_test.json', 'wycheproof/mlkem_768_keygen_seed_test.json']) {
    const source = shared(file);
    test(`Wycheproof: ${file}`, { skip: source.skip }, () => {
      const kem = ML_KEM['ML-KEM-768'];
      let valid = 0;
      for (const { tcId, seed, ek, c, K, result } of load<WycheproofCase>(source.path, flat)) {
        const check = (): void => {
          assert.deepEqual(mlKemPublicBytes(kem, hex(seed)), hex(ek), `case ${tcId}`);
          if (c !== undefined) assert.deepEqual(decapsulate(mlKemPrivateKey(kem, hex(seed)), hex(c)), hex(K ?? ''));
        };
        if (result === 'valid') {
          valid += 1;
          check();
        } else assert.throws(check, `case ${tcId}`);
      }
      assert.ok(valid >= 100, `${valid} valid cases`);
    });
  }

  test('a public key with a number from the modulus on is refused, and one of another length', () => {
    for (const id of ['ML-KEM-768', 'ML-KEM-1024'] as const) {
      const kem = PQ_KEMS.get(id) as PqKem;
      const good = mlKemPublicBytes(ML_KEM[id], randomBytes(64));
      assert.ok(parseKemPublicKey(kem, good));
      assert.equal(parseKemPublicKey(kem, good.subarray(1)), undefined);
      assert.equal(parseKemPublicKey(kem, Buffer.concat([good, Buffer.alloc(1)])), undefined);
      const large = Buffer.from(good);
      large.fill(0xff, 0, 3);
      assert.equal(parseKemPublicKey(kem, large), undefined);
    }
  });
});
