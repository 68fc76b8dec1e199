// The part of the token contract that is about post-quantum keys and composites of which the token holds both halves.
// Every result is checked against node:crypto.
import assert from 'node:assert/strict';
import {
  constants,
  createECDH,
  createHash,
  createPublicKey,
  encapsulate,
  type JsonWebKey,
  type KeyObject,
  publicEncrypt,
  randomBytes,
  verify,
} from 'node:crypto';
import { test } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import type { Code } from '../../agent/errors.ts';
import type { TokenCall, TokenPort } from '../../agent/operations/ports/token.ts';
import type { AlgorithmRow, Purpose } from '../../proto/documents/algorithms.ts';
import { compositePublicJwk } from '../../proto/documents/composite-keys.ts';
import type { PublicJwk } from '../../proto/documents/key-record.ts';
import { PQ_KEMS } from '../../proto/documents/pq-kems.ts';
import { PQ_SIGNATURES } from '../../proto/documents/pq-signatures.ts';

export interface PostQuantumContract {
  token(): TokenPort;
  callOf(): TokenCall;
  rejectsWith(promise: Promise<unknown>, code: Code): Promise<void>;
  /** What the implementation holds. */
  readonly held: readonly AlgorithmRow[];
}

const keyOf = (jwk: PublicJwk): KeyObject => createPublicKey({ key: jwk as JsonWebKey, format: 'jwk' });
const akp = (alg: string, pub: Buffer): KeyObject => keyOf({ kty: 'AKP', alg, pub: pub.toString('base64url') });
const publicBytes = (jwk: PublicJwk | undefined): Buffer => Buffer.from(jwk?.['pub'] ?? '', 'base64url');
const flipped = (data: Buffer, at: number): Buffer => {
  const copy = Buffer.from(data);
  copy[at] = (copy[at] as number) ^ 0x01;
  return copy;
};

export const postQuantumContract = ({ token, callOf, rejectsWith, held }: PostQuantumContract): void => {
  const make = (algorithm: string, purpose: Purpose, label = `contract:${randomBytes(8).toString('hex')}`) =>
    token().generate({ algorithm, purpose, label }, callOf());

  for (const { id } of held.filter((row) => PQ_SIGNATURES.has(row.id))) {
    test(`${id}: signs under a context, which is part of what is signed`, async () => {
      const { tokenId, publicJwk } = await make(id, 'sign');
      assert.equal(publicJwk?.['alg'], id);
      const key = keyOf(publicJwk as PublicJwk);
      const message = randomBytes(2000);
      for (const context of [Buffer.from('ctx'), randomBytes(255)]) {
        const signature = await token().sign(tokenId, id, message, callOf(), context);
        assert.equal(signature.length, PQ_SIGNATURES.get(id)?.signatureBytes);
        assert.ok(verify(null, message, { key, context } as never, signature));
        assert.ok(!verify(null, message, key, signature));
        assert.ok(!verify(null, flipped(message, 1), { key, context } as never, signature));
      }
      await rejectsWith(token().sign(tokenId, id, message, callOf(), randomBytes(256)), 'INVALID_REQUEST');
      const other = id === 'ML-DSA-44' ? 'ML-DSA-65' : 'ML-DSA-44';
      await rejectsWith(token().sign(tokenId, other, message, callOf()), 'HSM_UNSUPPORTED');
      await rejectsWith(token().sign(tokenId, 'ES256', randomBytes(32), callOf()), 'HSM_UNSUPPORTED');
    });
  }

  for (const { id } of held.filter((row) => PQ_KEMS.has(row.id) && row.components === undefined)) {
    test(`${id}: decapsulates what node:crypto encapsulated, rejects implicitly, and refuses other lengths`, async () => {
      const { tokenId, publicJwk } = await make(id, 'encrypt');
      const key = keyOf(publicJwk as PublicJwk);
      for (let round = 0; round < 5; round += 1) {
        const { sharedKey, ciphertext } = encapsulate(key);
        const sealed = Buffer.from(ciphertext);
        assert.deepEqual(await token().decapsulate(tokenId, sealed, callOf()), Buffer.from(sharedKey));
        const forged = await token().decapsulate(tokenId, flipped(sealed, 100), callOf());
        assert.equal(forged.length, 32);
        assert.notDeepEqual(forged, Buffer.from(sharedKey));
      }
      const { ciphertext } = encapsulate(key);
      for (const wrong of [Buffer.alloc(0), ciphertext.subarray(1), Buffer.concat([ciphertext, Buffer.of(0)])]) {
        await rejectsWith(token().decapsulate(tokenId, Buffer.from(wrong), callOf()), 'INVALID_CIPHERTEXT');
      }
      await rejectsWith(token().decapsulate(tokenId, Buffer.alloc(5000), callOf()), 'INVALID_CIPHERTEXT');
      await rejectsWith(token().sign(tokenId, 'ML-DSA-65', Buffer.alloc(8), callOf()), 'HSM_UNSUPPORTED');
    });

    test(`${id}: many decapsulations at once each get their own secret`, async () => {
      const { tokenId, publicJwk } = await make(id, 'encrypt');
      const key = keyOf(publicJwk as PublicJwk);
      const made = Array.from({ length: 40 }, () => encapsulate(key));
      const secrets = await Promise.all(
        made.map(({ ciphertext }) => token().decapsulate(tokenId, Buffer.from(ciphertext), callOf())),
      );
      assert.deepEqual(
        secrets,
        made.map(({ sharedKey }) => Buffer.from(sharedKey)),
      );
    });
  }

  const classicalSignature = (classical: string, pub: Buffer, point: number) => {
    if (classical === 'Ed25519') {
      const key = keyOf({ kty: 'OKP', crv: 'Ed25519', x: pub.toString('base64url') });
      return { jose: 'Ed25519', digest: (m: Buffer) => m, check: (m: Buffer, s: Buffer) => verify(null, m, key, s) };
    }
    const bits = classical === 'EC-P256' ? 256 : 384;
    const hash = `sha${bits}`;
    const [x, y] = [pub.subarray(0, point), pub.subarray(point)].map((part) => part.toString('base64url'));
    const key = keyOf({ kty: 'EC', crv: `P-${bits}`, x: x as string, y: y as string });
    return {
      jose: `ES${bits}`,
      digest: (m: Buffer) => createHash(hash).update(m).digest(),
      check: (m: Buffer, s: Buffer) => verify(hash, m, { key, dsaEncoding: 'ieee-p1363' }, s),
    };
  };

  for (const { id, components } of held.filter((row) => row.components !== undefined && row.jose.sign !== undefined)) {
    const { classical = '', pqc = '' } = components ?? {};
    if (classical.startsWith('RSA')) continue; // the same way, and RSA keys take seconds to make
    test(`${id}: both halves are made under one CKA_ID, and each signs with its own algorithm`, async () => {
      const label = `contract:${randomBytes(8).toString('hex')}`;
      const made = await make(id, 'sign', label);
      const { publicBytes: split = 0 } = PQ_SIGNATURES.get(pqc) ?? {};
      const pub = publicBytes(made.publicJwk);
      const message = randomBytes(100);
      const context = Buffer.from('label');
      const signature = await token().sign(made.tokenId, pqc, message, callOf(), context);
      assert.ok(verify(null, message, { key: akp(pqc, pub.subarray(0, split)), context } as never, signature));
      const half = classicalSignature(classical, pub.subarray(split), classical === 'EC-P384' ? 48 : 32);
      const other = await token().sign(made.tokenId, half.jose, half.digest(message), callOf());
      assert.ok(half.check(message, other));
      assert.ok(isDeepStrictEqual(await token().find(label, callOf()), made));
      await token().destroy(made.tokenId, callOf());
      assert.equal(await token().find(label, callOf()), undefined);
      for (const jose of [pqc, half.jose]) {
        const digest = half.digest(message).subarray(0, jose === 'ES384' ? 48 : 32);
        await rejectsWith(token().sign(made.tokenId, jose, digest, callOf()), 'HSM_UNAVAILABLE');
      }
    });
  }

  for (const { id, components } of held.filter(
    (row) => row.components !== undefined && row.jose.encrypt !== undefined,
  )) {
    const { classical = '', pqc = '' } = components ?? {};
    if (/RSA-[34]/.test(classical)) continue;
    test(`${id}: each half opens what is made for its part of the public key`, async () => {
      const made = await make(id, 'encrypt');
      const split = PQ_KEMS.get(id)?.pqc.publicBytes ?? 0;
      const pub = publicBytes(made.publicJwk);
      const { sharedKey, ciphertext } = encapsulate(akp(pqc, pub.subarray(0, split)));
      const secret = await token().decapsulate(made.tokenId, Buffer.from(ciphertext), callOf());
      assert.deepEqual(secret, Buffer.from(sharedKey));
      if (classical.startsWith('EC')) {
        const ours = createECDH(classical === 'EC-P256' ? 'prime256v1' : 'secp384r1');
        const point = ours.generateKeys();
        assert.deepEqual(await token().ecdh(made.tokenId, point, callOf()), ours.computeSecret(pub.subarray(split)));
        return;
      }
      const key = createPublicKey({ key: pub.subarray(split), format: 'der', type: 'pkcs1' });
      const data = randomBytes(32);
      const oaep = { key, padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: 'sha256' };
      assert.deepEqual(await token().oaepDecrypt(made.tokenId, publicEncrypt(oaep, data), callOf()), data);
    });
  }

  test('the public key of a composite is that of its halves, the post-quantum one first', async () => {
    const row = held.find(({ id }) => id === 'ML-KEM-768-P256');
    if (row === undefined) return;
    const { publicJwk } = await make(row.id, 'encrypt');
    const pub = publicBytes(publicJwk);
    const [pqc, point] = [pub.subarray(0, 1184), pub.subarray(1184)];
    const [x, y] = [point.subarray(1, 33), point.subarray(33)].map((part) => part.toString('base64url'));
    const joined = compositePublicJwk('ML-KEM-768', {
      pqc: { kty: 'AKP', alg: 'ML-KEM-768', pub: pqc.toString('base64url') },
      classical: { kty: 'EC', crv: 'P-256', x: x as string, y: y as string },
    });
    assert.ok(isDeepStrictEqual({ ...publicJwk }, { ...joined }));
  });
};
