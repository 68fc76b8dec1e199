// Post-quantum keys of ours and two libraries that share no code with the agent: `hpke` (npm) encrypts to our public keys
// and opens what we make for its own, `jose` (npm) verifies our ML-DSA and signs for us. Split keys are in a real SoftHSM.
import assert from 'node:assert/strict';
import { createCipheriv, createDecipheriv, generateKeyPairSync, type JsonWebKey, randomBytes } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import {
  AEAD_AES_256_GCM,
  CipherSuite,
  KDF_SHAKE256,
  KEM_ML_KEM_768,
  KEM_ML_KEM_1024,
  KEM_MLKEM768_P256,
  KEM_MLKEM768_X25519,
  KEM_MLKEM1024_P384,
} from 'hpke';
import { CompactSign, compactVerify, importJWK } from 'jose';
import { AgentError } from '../../agent/errors.ts';
import { decrypt } from '../../agent/operations/decrypt.ts';
import { encryptTo } from '../../agent/operations/encrypt-to.ts';
import { sign } from '../../agent/operations/sign.ts';
import { verifyWith } from '../../agent/operations/verify-with.ts';
import type { Token } from '../../agent/token/token.ts';
import { aCall, CryptoWorld, NO_AAD } from '../agent/operations/crypto-world.ts';
import { makeSoftHsm, type SoftHsm } from '../support/softhsm.ts';
import { openSoftHsmToken } from '../support/token.ts';

const plaintext = randomBytes(300);
const url = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64url');
const bytesOf = (text: string | undefined): Buffer => Buffer.from(text ?? '', 'base64url');

let hsm: SoftHsm;
let token: Token;
let world: CryptoWorld;
before(async () => {
  hsm = await makeSoftHsm();
  token = await openSoftHsmToken(hsm);
  world = new CryptoWorld(token);
});
after(async () => {
  await world?.pool.close();
  await token?.close();
  await hsm?.dispose();
});

// ---- HPKE

const suiteOf = (kem: ConstructorParameters<typeof CipherSuite>[0]): CipherSuite =>
  new CipherSuite(kem, KDF_SHAKE256, AEAD_AES_256_GCM) as CipherSuite;

const SUITES = [
  { algorithm: 'ML-KEM-768', jose: 'HPKE-12', suite: suiteOf(KEM_ML_KEM_768 as never), custodies: ['wrapped'] },
  { algorithm: 'ML-KEM-1024', jose: 'HPKE-13', suite: suiteOf(KEM_ML_KEM_1024 as never), custodies: ['wrapped'] },
  { algorithm: 'ML-KEM-768-P256', jose: 'HPKE-8', suite: suiteOf(KEM_MLKEM768_P256), custodies: ['split', 'wrapped'] },
  { algorithm: 'ML-KEM-768-X25519', jose: 'HPKE-9', suite: suiteOf(KEM_MLKEM768_X25519), custodies: ['wrapped'] },
  {
    algorithm: 'ML-KEM-1024-P384',
    jose: 'HPKE-10',
    suite: suiteOf(KEM_MLKEM1024_P384),
    custodies: ['split', 'wrapped'],
  },
] as const;

/** `info` of key encryption, written out from draft-ietf-jose-hpke-encrypt section 6.1: recipient_extra_info is empty. */
const recipientInfo = (enc: string): Buffer => Buffer.from(`JOSE-HPKE rcpt\xff${enc}\xff`, 'latin1');

/** What another HPKE library makes for a public key in key encryption mode: it needs only the JWK. */
const sealedByHpke = async (suite: CipherSuite, publicKey: Buffer, alg: string): Promise<string> => {
  const [cek, iv, enc] = [randomBytes(32), randomBytes(12), 'A256GCM'];
  const recipient = await suite.DeserializePublicKey(publicKey);
  const { encapsulatedSecret, ciphertext } = await suite.Seal(recipient, cek, { info: recipientInfo(enc) });
  const header = url(Buffer.from(JSON.stringify({ alg, enc, ek: url(encapsulatedSecret) })));
  const cipher = createCipheriv('aes-256-gcm', cek, iv).setAAD(Buffer.from(header));
  const content = Buffer.concat([cipher.update(plaintext), cipher.final()]);
  return [header, url(ciphertext), url(iv), url(content), url(cipher.getAuthTag())].join('.');
};

/** Integrated encryption: HPKE seals the content itself, bound to the header. */
const sealedWhole = async (suite: CipherSuite, publicKey: Buffer, alg: string): Promise<string> => {
  const header = url(Buffer.from(JSON.stringify({ alg })));
  const recipient = await suite.DeserializePublicKey(publicKey);
  const { encapsulatedSecret, ciphertext } = await suite.Seal(recipient, plaintext, { aad: Buffer.from(header) });
  return [header, url(encapsulatedSecret), '', url(ciphertext), ''].join('.');
};

const openedByHpke = async (
  suite: CipherSuite,
  privateKey: CryptoKeyOf<typeof suite>,
  jwe: string,
): Promise<Buffer> => {
  const [header = '', encryptedKey, iv, content, tag] = jwe.split('.');
  const { ek, enc } = JSON.parse(bytesOf(header).toString()) as { ek: string; enc: string };
  const cek = await suite.Open(privateKey, bytesOf(ek), bytesOf(encryptedKey), { info: recipientInfo(enc) });
  assert.equal(enc, 'A256GCM');
  const decipher = createDecipheriv('aes-256-gcm', cek, bytesOf(iv)).setAAD(Buffer.from(header));
  decipher.setAuthTag(bytesOf(tag));
  return Buffer.concat([decipher.update(bytesOf(content)), decipher.final()]);
};
type CryptoKeyOf<Suite extends CipherSuite> = Parameters<Suite['Open']>[0];

const opened = async (jwe: string, key: string): Promise<Buffer> =>
  (await decrypt(world.ports, aCall(), { jwe, key, ...NO_AAD })).value.plaintext;

describe('hpke (npm)', () => {
  for (const { algorithm, jose, suite, custodies } of SUITES) {
    for (const custody of custodies) {
      test(`${algorithm}, ${custody}: we open what it seals to our public key, as ${jose}-KE and as ${jose}`, async () => {
        for (const [alg, seal] of [
          [`${jose}-KE`, sealedByHpke],
          [jose, sealedWhole],
        ] as const) {
          const keyId = `${alg.toLowerCase()}-${custody}`;
          await world.add({ keyId, algorithm, jose: alg, purpose: 'encrypt', custody });
          const jwe = await seal(suite, bytesOf(world.version(keyId).publicJwk?.['pub']), alg);
          assert.deepEqual(await opened(jwe, keyId), plaintext);
          const [header = '', key = '', ...rest] = jwe.split('.');
          const changed = bytesOf(key);
          changed[7] = (changed[7] ?? 0) ^ 1;
          await assert.rejects(
            opened([header, url(changed), ...rest].join('.'), keyId),
            (thrown) => thrown instanceof AgentError && thrown.code === 'INVALID_CIPHERTEXT',
          );
        }
      });
    }

    test(`${algorithm}: it opens what we encrypt to its public key`, async () => {
      const pair = await suite.GenerateKeyPair();
      const pub = url(await suite.SerializePublicKey(pair.publicKey));
      const publicJwk = JSON.stringify({ kty: 'AKP', alg: `${jose}-KE`, pub });
      const { value } = await encryptTo(world.ports, aCall(), { publicJwk, plaintext, ...NO_AAD });
      assert.deepEqual(await openedByHpke(suite, pair, value.jwe), plaintext);
    });
  }
});

// ---- ML-DSA in JWS

describe('ML-DSA with jose (npm)', () => {
  for (const alg of ['ML-DSA-44', 'ML-DSA-65', 'ML-DSA-87'] as const) {
    test(`${alg}: it verifies what we sign, and refuses it changed`, async () => {
      const keyId = alg.toLowerCase();
      await world.add({ keyId, algorithm: alg, purpose: 'sign' });
      const input = { key: keyId, input: { message: plaintext }, form: 'compact', type: '' } as const;
      const { value } = await sign(world.ports, aCall(), input);
      assert.ok('jws' in value);
      const key = await importJWK({ ...world.version(keyId).publicJwk } as never, alg);
      const { payload, protectedHeader } = await compactVerify(value.jws, key);
      assert.deepEqual([Buffer.from(payload), protectedHeader.alg], [plaintext, alg]);
      const [header, , signature] = value.jws.split('.');
      await assert.rejects(compactVerify(`${header}.AAAA.${signature}`, key));
    });

    test(`${alg}: we verify what it signs with a key of Node's, and find it changed`, async () => {
      const { privateKey, publicKey } = generateKeyPairSync(alg.toLowerCase() as 'ml-dsa-44');
      const jws = await new CompactSign(plaintext).setProtectedHeader({ alg }).sign(privateKey);
      const publicJwk = JSON.stringify(publicKey.export({ format: 'jwk' }) as JsonWebKey);
      const verified = async (text: string) =>
        (await verifyWith(world.ports, aCall(), { publicJwk, signature: { jws: text }, input: undefined })).value;
      const right = await verified(jws);
      assert.deepEqual([right.valid, right.payload], [true, plaintext]);
      const [header, , signature] = jws.split('.');
      assert.equal((await verified(`${header}.AAAA.${signature}`)).valid, false);
    });
  }
});
