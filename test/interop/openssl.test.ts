// The OpenSSL command line, another build than the one inside Node, reads our PEM public keys and raw signatures, makes
// signatures that we verify, and encrypts a CEK that our RSA key in SoftHSM unwraps.
import assert from 'node:assert/strict';
import { createPublicKey, generateKeyPairSync, hash, type KeyObject, randomBytes } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { encryptContent } from '../../agent/crypto/content-encryption.ts';
import { buildCompactJwe, buildJweHeader } from '../../agent/crypto/jwe.ts';
import { SIGNATURE_ALGORITHMS, type SignatureAlgorithm } from '../../agent/crypto/signature-algorithms.ts';
import { decrypt } from '../../agent/operations/decrypt.ts';
import { getPublicKey } from '../../agent/operations/get-public-key.ts';
import { sign } from '../../agent/operations/sign.ts';
import { verifyWith } from '../../agent/operations/verify-with.ts';
import { aCall, NO_AAD } from '../agent/operations/crypto-world.ts';
import { type HsmWorld, openHsmWorld, recipientOf, signerOf } from './hsm-world.ts';
import { outputOf, requireProgram, runTool } from './run-tool.ts';

const OPENSSL = '/usr/bin/openssl';
const message = randomBytes(500);

/** DER of an unsigned INTEGER. */
const derInteger = (bytes: Buffer): Buffer => {
  const first = bytes.findIndex((byte) => byte !== 0);
  const short = bytes.subarray(first);
  const value = (short[0] as number) & 0x80 ? Buffer.concat([Buffer.alloc(1), short]) : short;
  return Buffer.concat([Buffer.of(2, value.length), value]);
};

/** r || s as the ECDSA-Sig-Value of X.509, which OpenSSL speaks. */
const toDer = (signature: Buffer): Buffer => {
  const half = signature.length / 2;
  const body = Buffer.concat([derInteger(signature.subarray(0, half)), derInteger(signature.subarray(half))]);
  return Buffer.concat([body.length > 127 ? Buffer.of(0x30, 0x81, body.length) : Buffer.of(0x30, body.length), body]);
};

const fromDer = (der: Buffer, bytes: number): Buffer => {
  const readInteger = (at: number): [value: Buffer, next: number] => {
    const end = at + 2 + (der[at + 1] as number);
    return [der.subarray(at + 2, end), end];
  };
  const [r, next] = readInteger(der[1] === 0x81 ? 3 : 2);
  const [s] = readInteger(next);
  const fixed = (value: Buffer): Buffer =>
    value.length >= bytes
      ? value.subarray(value.length - bytes)
      : Buffer.concat([Buffer.alloc(bytes - value.length), value]);
  return Buffer.concat([fixed(r), fixed(s)]);
};

const FIELD_BYTES: Readonly<Record<string, number>> = { ES256: 32, ES384: 48, ES512: 66 };
const PSS = ['-sigopt', 'rsa_padding_mode:pss', '-sigopt', 'rsa_pss_saltlen:digest'];

const argumentsOf = ({ scheme, digest }: SignatureAlgorithm): string[] => [
  'dgst',
  `-${digest}`,
  ...(scheme === 'pss' ? PSS : []),
];

const isVerified = async (row: SignatureAlgorithm, pem: string, signature: Buffer, data: Buffer): Promise<boolean> => {
  const files = { pem, signature: row.scheme === 'ecdsa' ? toDer(signature) : signature, data };
  const args =
    row.scheme === 'ed25519'
      ? ['pkeyutl', '-verify', '-rawin', '-pubin', '-inkey', 'pem', '-sigfile', 'signature', '-in', 'data']
      : [...argumentsOf(row), '-verify', 'pem', '-signature', 'signature', 'data'];
  return (await runTool(OPENSSL, args, files)).exitCode === 0;
};

const signed = async (row: SignatureAlgorithm, privateKey: KeyObject): Promise<Buffer> => {
  const files = { pem: privateKey.export({ type: 'pkcs8', format: 'pem' }), data: message };
  const args =
    row.scheme === 'ed25519'
      ? ['pkeyutl', '-sign', '-rawin', '-inkey', 'pem', '-in', 'data', '-out', 'signature']
      : [...argumentsOf(row), '-sign', 'pem', '-out', 'signature', 'data'];
  const signature = await outputOf(runTool(OPENSSL, args, files, 'signature'));
  return row.scheme === 'ecdsa' ? fromDer(signature, FIELD_BYTES[row.jose] as number) : signature;
};

const pairFor = ({ crv }: SignatureAlgorithm): { privateKey: KeyObject; publicKey: KeyObject } => {
  if (crv === undefined) return generateKeyPairSync('rsa', { modulusLength: 2048 });
  return crv === 'Ed25519' ? generateKeyPairSync('ed25519') : generateKeyPairSync('ec', { namedCurve: crv });
};

describe('OpenSSL over SoftHSM', () => {
  let hsm: HsmWorld;
  before(async () => {
    await requireProgram(OPENSSL, 'openssl');
    hsm = await openHsmWorld();
  });
  after(() => hsm?.[Symbol.asyncDispose]());

  const pemOf = async (key: string): Promise<string> => {
    const { value } = await getPublicKey(hsm.world.ports, aCall(), { key, version: undefined, format: 'pem' });
    return value.publicKey;
  };

  for (const row of SIGNATURE_ALGORITHMS.values()) {
    test(`${row.jose}: verifies our raw signatures with our PEM public key, and not over other data`, async () => {
      const key = signerOf(row.jose);
      const pem = await pemOf(key);
      const inputs = [
        { message },
        ...(row.digest === undefined ? [] : [{ digest: hash(row.digest, message, 'buffer') }]),
      ];
      for (const input of inputs) {
        const { value } = await sign(hsm.world.ports, aCall(), { key, input, form: 'raw', type: '' });
        assert.ok('signature' in value);
        assert.ok(await isVerified(row, pem, value.signature, message));
        assert.ok(!(await isVerified(row, pem, value.signature, message.subarray(1))));
      }
    });

    test(`${row.jose}: we verify its signatures, over the message and over its digest`, async () => {
      const { privateKey, publicKey } = pairFor(row);
      const raw = await signed(row, privateKey);
      const publicJwk = JSON.stringify({ ...publicKey.export({ format: 'jwk' }), alg: row.jose });
      const check = async (input: { message: Buffer } | { digest: Buffer }) =>
        (await verifyWith(hsm.world.ports, aCall(), { publicJwk, signature: { raw }, input })).value.valid;
      assert.ok(await check({ message }));
      assert.ok(!(await check({ message: message.subarray(1) })));
      if (row.digest !== undefined) {
        assert.ok(await check({ digest: hash(row.digest, message, 'buffer') }));
        assert.ok(!(await check({ digest: hash(row.digest, message.subarray(1), 'buffer') })));
      }
    });
  }

  test('RSA-OAEP-256: a CEK that it encrypts for our PEM public key opens a JWE', async () => {
    const key = recipientOf('RSA-2048');
    const cek = randomBytes(32);
    const oaep = ['rsa_padding_mode:oaep', 'rsa_oaep_md:sha256', 'rsa_mgf1_md:sha256'];
    const args = ['pkeyutl', '-encrypt', '-pubin', '-inkey', 'pem', '-in', 'cek', '-out', 'encrypted'];
    const options = oaep.flatMap((option) => ['-pkeyopt', option]);
    const files = { pem: await pemOf(key), cek };
    const encryptedKey = await outputOf(runTool(OPENSSL, [...args, ...options], files, 'encrypted'));
    const protectedSegment = buildJweHeader({ alg: 'RSA-OAEP-256', enc: 'A256GCM' });
    const sealed = encryptContent({ cek, iv: randomBytes(12), aad: protectedSegment, plaintext: message });
    const jwe = buildCompactJwe({ protectedSegment, encryptedKey, ...sealed });
    const { value } = await decrypt(hsm.world.ports, aCall(), { jwe, key, ...NO_AAD });
    assert.ok(value.plaintext.equals(message));
  });

  test('the PEM public keys of encryption keys are what the token says they are', async () => {
    for (const algorithm of ['RSA-2048', 'EC-P256', 'EC-P384', 'EC-P521']) {
      const pem = await pemOf(recipientOf(algorithm));
      await outputOf(runTool(OPENSSL, ['pkey', '-pubin', '-pubcheck', '-in', 'pem', '-noout'], { pem }));
      const { publicJwk } = hsm.world.version(recipientOf(algorithm));
      assert.ok(createPublicKey(pem).equals(createPublicKey({ key: { ...publicJwk }, format: 'jwk' })));
    }
  });
});
