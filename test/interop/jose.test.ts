// What Mortise makes with keys in a real SoftHSM other JOSE implementations read, and the other way round, for every
// key management and signature algorithm that both sides have.
import assert from 'node:assert/strict';
import { generateKeyPairSync, type JsonWebKey, randomBytes } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { GCM_KEY_WRAPS } from '../../agent/crypto/key-management.ts';
import { SIGNATURE_ALGORITHMS } from '../../agent/crypto/signature-algorithms.ts';
import { decrypt } from '../../agent/operations/decrypt.ts';
import { encrypt } from '../../agent/operations/encrypt.ts';
import { encryptTo } from '../../agent/operations/encrypt-to.ts';
import { sign } from '../../agent/operations/sign.ts';
import { verifyWith } from '../../agent/operations/verify-with.ts';
import { aCall, NO_AAD } from '../agent/operations/crypto-world.ts';
import { EC_CURVES, type HsmWorld, openHsmWorld, recipientOf, signerOf } from './hsm-world.ts';
import { IMPLEMENTATIONS, latchsetJose, npmJose, pythonJwcrypto } from './jose-implementations.ts';

const plaintext = randomBytes(300);

/** A key pair of the other side. */
const pairOf = (algorithm: string): { privateJwk: JsonWebKey; publicJwk: JsonWebKey } => {
  const { privateKey, publicKey } = algorithm.startsWith('RSA')
    ? generateKeyPairSync('rsa', { modulusLength: 2048 })
    : algorithm === 'Ed25519'
      ? generateKeyPairSync('ed25519')
      : generateKeyPairSync('ec', { namedCurve: algorithm.replace('EC-P', 'P-') });
  return { privateJwk: privateKey.export({ format: 'jwk' }), publicJwk: publicKey.export({ format: 'jwk' }) };
};

/** The algorithm id of a JWS algorithm's keys. */
const keyAlgorithmOf = (jose: string): string => {
  const crv = SIGNATURE_ALGORITHMS.get(jose)?.crv;
  return crv === undefined ? 'RSA-2048' : crv.replace('P-', 'EC-P');
};

describe('interop over SoftHSM', () => {
  let hsm: HsmWorld;
  before(async () => {
    hsm = await openHsmWorld();
  });
  after(() => hsm?.[Symbol.asyncDispose]());

  const ports = () => hsm.world.ports;
  const opened = async (jwe: string, key: string): Promise<Buffer> =>
    (await decrypt(ports(), aCall(), { jwe, key, ...NO_AAD })).value.plaintext;
  const octOf = (algorithm: string): JsonWebKey => ({
    kty: 'oct',
    k: (hsm.secrets.get(algorithm) as Buffer).toString('base64url'),
  });
  const algorithmsOf = (alg: string): string[] =>
    alg === 'RSA-OAEP-256'
      ? ['RSA-2048']
      : alg === 'ECDH-ES+A256KW'
        ? Object.keys(EC_CURVES)
        : [`AES-${alg.slice(1, 4)}`];

  for (const other of IMPLEMENTATIONS) {
    describe(other.name, () => {
      before(() => other.require());

      for (const alg of other.keyManagement) {
        for (const algorithm of algorithmsOf(alg)) {
          test(`${alg} with ${algorithm}: we read what it makes, under every content encryption`, async () => {
            const key = recipientOf(algorithm);
            const jwk = GCM_KEY_WRAPS.has(alg) ? octOf(algorithm) : (hsm.world.version(key).publicJwk as JsonWebKey);
            for (const enc of other.contentEncryption) {
              const jwe = await other.encrypt(jwk, alg, enc, plaintext);
              assert.ok((await opened(jwe, key)).equals(plaintext), enc);
            }
          });

          test(`${alg} with ${algorithm}: it reads what we make`, async () => {
            if (GCM_KEY_WRAPS.has(alg)) {
              const { value } = await encrypt(ports(), aCall(), { key: recipientOf(algorithm), plaintext, ...NO_AAD });
              assert.ok((await other.decrypt(octOf(algorithm), value.jwe)).equals(plaintext));
              return;
            }
            const { privateJwk, publicJwk } = pairOf(algorithm);
            const input = { publicJwk: JSON.stringify(publicJwk), plaintext, ...NO_AAD };
            const { value } = await encryptTo(ports(), aCall(), input);
            assert.ok((await other.decrypt(privateJwk, value.jwe)).equals(plaintext));
          });
        }
      }

      for (const alg of other.signatures) {
        const jose = alg === 'EdDSA' ? 'Ed25519' : alg;
        test(`${alg}: we verify what it signs`, async () => {
          const { privateJwk, publicJwk } = pairOf(keyAlgorithmOf(jose));
          const jws = await other.sign(privateJwk, alg, plaintext);
          const input = { publicJwk: JSON.stringify(publicJwk), signature: { jws }, input: undefined };
          const { value } = await verifyWith(ports(), aCall(), input);
          assert.ok(value.valid && value.payload?.equals(plaintext));
        });

        if (alg !== 'EdDSA') {
          test(`${alg}: it verifies what we sign, and refuses it changed`, async () => {
            const key = signerOf(jose);
            const jwk = hsm.world.version(key).publicJwk as JsonWebKey;
            const input = { key, input: { message: plaintext }, form: 'compact', type: '' } as const;
            const { value } = await sign(ports(), aCall(), input);
            assert.ok('jws' in value);
            assert.ok((await other.verify(jwk, value.jws)).equals(plaintext));
            const [header, , signature] = value.jws.split('.');
            await assert.rejects(other.verify(jwk, `${header}.AAAA.${signature}`));
          });
        }
      }
    });
  }

  test('a JWE with associated data is refused by libraries that honour crit and do not know the parameter', async () => {
    const input = { key: recipientOf('AES-256'), plaintext, associatedData: Buffer.from('x') };
    const { value } = await encrypt(ports(), aCall(), input);
    for (const other of [npmJose, pythonJwcrypto]) {
      await assert.rejects(other.decrypt(octOf('AES-256'), value.jwe), other.name);
    }
    // Debian's jose 11 does not look at crit (RFC 7516 section 4.1.13 has it refuse): docs/spec/formats.md warns of it.
    assert.ok((await latchsetJose.decrypt(octOf('AES-256'), value.jwe)).equals(plaintext));
  });
});
