// Software verification at its edges: encodings that are nearly right, numbers out of range, keys of another kind.
import assert from 'node:assert/strict';
import {
  constants,
  createHash,
  generateKeyPairSync,
  hash,
  type KeyObject,
  privateEncrypt,
  randomBytes,
  sign,
} from 'node:crypto';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { AAD_PARAMETER, associatedDataMembers, matchesAssociatedData } from '../../../agent/crypto/associated-data.ts';
import { SIGNATURE_ALGORITHMS, type SignatureAlgorithm } from '../../../agent/crypto/signature-algorithms.ts';
import { verifySignature } from '../../../agent/crypto/software-verify.ts';
import { freshContentKey } from '../../../agent/operations/jose/content-key.ts';
import { sealJwe } from '../../../agent/operations/jose/seal-jwe.ts';
import type { Ports } from '../../../agent/operations/perform.ts';

const rowOf = (jose: string): SignatureAlgorithm => SIGNATURE_ALGORITHMS.get(jose) as SignatureAlgorithm;
const message = Buffer.from('message');

describe('RSASSA-PSS over a digest', () => {
  // 2041 bits: the encoding is then one byte shorter than the modulus.
  const pairs = [2048, 2041].map((modulusLength) => generateKeyPairSync('rsa', { modulusLength }));
  const digest = hash('sha256', message, 'buffer');
  const HASH = 32;

  interface Encoding {
    salt?: Buffer;
    separator?: number;
    padding?: number;
    trailer?: number;
    top?: number;
    digest?: Buffer;
  }

  /** EMSA-PSS-ENCODE with one part wrong. */
  const encode = (bits: number, change: Encoding): Buffer => {
    const length = Math.ceil(bits / 8);
    const salt = change.salt ?? randomBytes(HASH);
    const check = hash('sha256', Buffer.concat([Buffer.alloc(8), change.digest ?? digest, salt]), 'buffer');
    const zeros = Buffer.alloc(length - HASH - salt.length - 2, change.padding ?? 0);
    const block = Buffer.concat([zeros, Buffer.of(change.separator ?? 1), salt]);
    for (let at = 0, counter = 0; at < block.length; counter += 1) {
      const mask = createHash('sha256')
        .update(check)
        .update(Buffer.of(0, 0, 0, counter))
        .digest();
      for (const byte of mask) {
        if (at < block.length) block[at] = (block[at] as number) ^ byte;
        at += 1;
      }
    }
    block[0] = ((block[0] as number) & (0xff >> (8 * length - bits))) | (change.top ?? 0);
    return Buffer.concat([block, check, Buffer.of(change.trailer ?? 0xbc)]);
  };

  const signed = (key: KeyObject, change: Encoding = {}): Buffer => {
    const bits = key.asymmetricKeyDetails?.modulusLength ?? 0;
    const encoded = encode(bits - 1, change);
    const padded = Buffer.concat([Buffer.alloc(Math.ceil(bits / 8) - encoded.length), encoded]);
    return privateEncrypt({ key, padding: constants.RSA_NO_PADDING }, padded);
  };

  for (const { privateKey, publicKey } of pairs) {
    const bits = privateKey.asymmetricKeyDetails?.modulusLength;

    test(`${bits} bits: accepts the right encoding, as over the message`, () => {
      const signature = signed(privateKey);
      assert.ok(verifySignature(rowOf('PS256'), publicKey, { digest }, signature));
      assert.ok(verifySignature(rowOf('PS256'), publicKey, { message }, signature));
    });

    test(`${bits} bits: refuses what differs in one part, as over the message`, () => {
      const wrong: Encoding[] = [
        { trailer: 0xcc },
        { separator: 2 },
        { separator: 0 },
        { padding: 1 },
        { salt: Buffer.alloc(0) },
        { salt: randomBytes(HASH - 1) },
        { salt: randomBytes(HASH + 1) },
        { digest: randomBytes(HASH) },
        ...(bits === 2048 ? [{ top: 0x80 }] : []),
      ];
      for (const change of wrong) {
        let signature: Buffer;
        try {
          signature = signed(privateKey, change);
        } catch {
          continue; // the changed top bit can take the number over the modulus
        }
        assert.equal(verifySignature(rowOf('PS256'), publicKey, { digest }, signature), false, JSON.stringify(change));
        assert.equal(verifySignature(rowOf('PS256'), publicKey, { message }, signature), false, JSON.stringify(change));
      }
    });
  }
});

describe('PKCS #1 v1.5 over a digest', () => {
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const digest = hash('sha256', message, 'buffer');
  const info = Buffer.concat([Buffer.from('3031300d060960864801650304020105000420', 'hex'), digest]);
  const signed = (block: Buffer): Buffer =>
    privateEncrypt({ key: privateKey, padding: constants.RSA_PKCS1_PADDING }, block);

  test('takes the exact DigestInfo and nothing near it', () => {
    assert.ok(verifySignature(rowOf('RS256'), publicKey, { digest }, signed(info)));
    const withoutNull = Buffer.concat([Buffer.from('302f300b0609608648016503040201', 'hex'), Buffer.of(4, 32), digest]);
    for (const block of [digest, Buffer.concat([info, Buffer.of(0)]), info.subarray(1), withoutNull]) {
      assert.equal(verifySignature(rowOf('RS256'), publicKey, { digest }, signed(block)), false);
    }
    assert.equal(
      verifySignature(rowOf('RS512'), publicKey, { digest: hash('sha512', message, 'buffer') }, signed(info)),
      false,
    );
  });
});

describe('ECDSA over a digest', () => {
  const ORDERS: Readonly<Record<string, bigint>> = {
    ES256: 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n,
    ES512:
      0x01fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffa51868783bf2f966b7fcc0148f709a5d03bb5c9b8899c47aebb6fb71e91386409n,
  };
  const curveOf = { ES256: 'P-256', ES384: 'P-384', ES512: 'P-521' } as const;

  test('agrees with OpenSSL on any message, for every curve', () => {
    for (const [jose, namedCurve] of Object.entries(curveOf)) {
      const row = rowOf(jose);
      const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve });
      fc.assert(
        fc.property(fc.uint8Array(), fc.nat(), (bytes, at) => {
          const data = Buffer.from(bytes);
          const digest = hash(row.digest as string, data, 'buffer');
          const signature = sign(row.digest, data, { key: privateKey, dsaEncoding: 'ieee-p1363' });
          assert.ok(verifySignature(row, publicKey, { digest }, signature));
          const place = at % signature.length;
          signature[place] = (signature[place] as number) ^ (1 << (at % 8));
          assert.ok(!verifySignature(row, publicKey, { digest }, signature));
        }),
        { numRuns: 30 },
      );
    }
  });

  test('a digest of zeros and of ones is no special case', () => {
    for (const digest of [Buffer.alloc(32), Buffer.alloc(32, 255)]) {
      const { publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
      assert.equal(verifySignature(rowOf('ES256'), publicKey, { digest }, randomBytes(64)), false);
    }
  });

  test('r and s of zero or beyond the order are refused', () => {
    for (const [jose, order] of Object.entries(ORDERS)) {
      const row = rowOf(jose);
      const namedCurve = curveOf[jose as keyof typeof curveOf];
      const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve });
      const digest = hash(row.digest as string, message, 'buffer');
      const signature = sign(row.digest, message, { key: privateKey, dsaEncoding: 'ieee-p1363' });
      const half = signature.length / 2;
      const fixed = (value: bigint): Buffer => Buffer.from(value.toString(16).padStart(half * 2, '0'), 'hex');
      const [r, s] = [signature.subarray(0, half), signature.subarray(half)];
      const beyond = fixed(order + BigInt(`0x${s.toString('hex')}`)); // the same s modulo the order
      const wrong = [
        [Buffer.alloc(half), s],
        [r, Buffer.alloc(half)],
        [fixed(order), s],
        [r, fixed(order)],
        [r, beyond.subarray(beyond.length - half)],
      ] as const;
      for (const parts of wrong) {
        assert.equal(verifySignature(row, publicKey, { digest }, Buffer.concat(parts)), false, jose);
        assert.equal(verifySignature(row, publicKey, { message }, Buffer.concat(parts)), false, jose);
      }
    }
  });
});

test('an algorithm verifies only with keys of its own kind', () => {
  const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const p384 = generateKeyPairSync('ec', { namedCurve: 'P-384' });
  // Without the check OpenSSL would pick its default digest for a key that is not Ed25519.
  const pkcs1 = sign('sha256', message, rsa.privateKey);
  assert.equal(verifySignature(rowOf('Ed25519'), rsa.publicKey, { message }, pkcs1), false);
  const sha256WithP384 = sign('sha256', message, { key: p384.privateKey, dsaEncoding: 'ieee-p1363' });
  assert.equal(verifySignature(rowOf('ES256'), p384.publicKey, { message }, sha256WithP384), false);
  assert.equal(verifySignature(rowOf('PS256'), p384.publicKey, { message }, sha256WithP384), false);
});

test('a digest of another length verifies nothing', () => {
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const signature = sign('sha512', message, privateKey);
  const digest = hash('sha512', message, 'buffer');
  assert.ok(verifySignature(rowOf('RS512'), publicKey, { digest }, signature));
  assert.equal(verifySignature(rowOf('RS256'), publicKey, { digest }, signature), false);
  assert.equal(verifySignature(rowOf('Ed25519'), publicKey, { digest }, signature), false);
});

test('associated data counts only under crit', () => {
  const data = Buffer.from('x');
  const members = associatedDataMembers(data);
  const header = { alg: 'dir', kid: undefined, members };
  assert.ok(matchesAssociatedData({ ...header, critical: new Set([AAD_PARAMETER]) }, data));
  assert.ok(!matchesAssociatedData({ ...header, critical: new Set() }, data));
  assert.ok(matchesAssociatedData({ ...header, members: {}, critical: new Set() }, Buffer.alloc(0)));
});

test('the CEK is wiped after a message, also when wrapping it fails', async () => {
  const ceks: Buffer[] = [];
  const input = { alg: 'RSA-OAEP-256', kid: 'k', plaintext: message, associatedData: Buffer.alloc(0) };
  const random = { take: async (length: number) => randomBytes(length), fresh: async () => Buffer.alloc(0) };
  const ports = { random } as unknown as Ports;
  const wrap = (cek: Buffer) => {
    ceks.push(cek);
    assert.ok(cek.some((byte) => byte !== 0));
    return { encryptedKey: Buffer.from(cek), members: {} };
  };
  sealJwe(await freshContentKey(ports, wrap), input);
  const failing = (cek: Buffer) => {
    wrap(cek);
    throw new Error('no');
  };
  await assert.rejects(freshContentKey(ports, failing), /no/);
  assert.equal(ceks.length, 2);
  assert.ok(ceks.every((cek) => cek.every((byte) => byte === 0)));
});
