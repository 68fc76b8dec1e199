// General JSON JWE, rewrapping, re-encryption, data keys and imports over a real SoftHSM, with the npm package jose on the
// other side of every JOSE text.
import assert from 'node:assert/strict';
import { createSecretKey, generateKeyPairSync, type JsonWebKey, randomBytes } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { compactDecrypt, compactVerify, GeneralEncrypt, generalDecrypt, importJWK } from 'jose';
import { decrypt } from '../../agent/operations/decrypt.ts';
import { decryptDataKey } from '../../agent/operations/decrypt-data-key.ts';
import { encrypt } from '../../agent/operations/encrypt.ts';
import { encryptGeneral } from '../../agent/operations/encrypt-general.ts';
import { generateDataKey } from '../../agent/operations/generate-data-key.ts';
import { reEncrypt } from '../../agent/operations/re-encrypt.ts';
import { reSign } from '../../agent/operations/re-sign.ts';
import { rewrap } from '../../agent/operations/rewrap.ts';
import { sign } from '../../agent/operations/sign.ts';
import { aCall, NO_AAD } from '../agent/operations/crypto-world.ts';
import { EC_CURVES, type HsmWorld, openHsmWorld, recipientOf, signerOf } from './hsm-world.ts';

const plaintext = randomBytes(300);
const AES = ['AES-128', 'AES-192', 'AES-256'] as const;
const ALL = [...AES, 'RSA-2048', ...Object.keys(EC_CURVES)];

describe('several recipients and moves over SoftHSM', () => {
  let hsm: HsmWorld;
  before(async () => {
    hsm = await openHsmWorld();
  });
  after(() => hsm?.[Symbol.asyncDispose]());

  const ports = () => hsm.world.ports;
  const secretOf = (algorithm: string) => createSecretKey(hsm.secrets.get(algorithm) as Buffer);
  const general = async (
    algorithms: readonly string[],
    more: readonly { publicJwk: string }[] = [],
  ): Promise<string> => {
    const recipients = [...algorithms.map((name) => ({ key: recipientOf(name) })), ...more];
    return (await encryptGeneral(ports(), aCall(), { recipients, plaintext, ...NO_AAD })).value.jwe;
  };
  const opened = async (jwe: string, key = ''): Promise<Buffer> =>
    (await decrypt(ports(), aCall(), { jwe, key, ...NO_AAD })).value.plaintext;

  test('a General JSON JWE opens for each key, here and in jose, and for an outsider', async () => {
    const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    const jwe = await general(ALL, [{ publicJwk: JSON.stringify(publicKey.export({ format: 'jwk' })) }]);
    for (const algorithm of ALL) assert.ok((await opened(jwe, recipientOf(algorithm))).equals(plaintext), algorithm);
    for (const key of [...AES.map(secretOf), privateKey]) {
      assert.ok(Buffer.from((await generalDecrypt(JSON.parse(jwe), key)).plaintext).equals(plaintext));
    }
  });

  test('a General JSON JWE of jose opens for each key', async () => {
    const making = new GeneralEncrypt(plaintext).setProtectedHeader({ enc: 'A256GCM' });
    for (const algorithm of ALL) {
      const { publicJwk, jose: alg } = hsm.world.version(recipientOf(algorithm));
      const key = publicJwk === undefined ? secretOf(algorithm) : await importJWK(publicJwk as JsonWebKey, alg);
      making.addRecipient(key).setUnprotectedHeader({ alg, kid: `acme/${recipientOf(algorithm)}/1` });
    }
    const jwe = JSON.stringify(await making.encrypt());
    for (const algorithm of ALL) assert.ok((await opened(jwe, recipientOf(algorithm))).equals(plaintext), algorithm);
  });

  for (const from of ALL) {
    test(`rewraps from ${from} to every kind of key, AES from AES and RSA inside the token`, async () => {
      const jwe = await general([from]);
      const add = ALL.filter((to) => to !== from).map((to) => ({ key: recipientOf(to) }));
      const input = { jwe, sourceKey: '', add, remove: [`acme/${recipientOf(from)}/1`] };
      const { value } = await rewrap(ports(), aCall(), input);
      assert.equal(value.insideToken, false);
      for (const to of AES.filter((name) => name !== from)) {
        const { plaintext: read } = await generalDecrypt(JSON.parse(value.jwe), secretOf(to));
        assert.ok(Buffer.from(read).equals(plaintext), to);
      }
      const inside = {
        jwe,
        sourceKey: '',
        add: [{ key: recipientOf(from === 'AES-256' ? 'AES-128' : 'AES-256') }],
        remove: [],
      };
      const moved = await rewrap(ports(), aCall(), inside);
      assert.equal(moved.value.insideToken, !from.startsWith('EC'));
      assert.ok((await opened(moved.value.jwe, inside.add[0]?.key)).equals(plaintext));
    });
  }

  test('what is re-encrypted, also as a data key, opens in jose', async () => {
    const input = { sourceKey: '', associatedData: Buffer.alloc(0), newAssociatedData: undefined };
    for (const from of ALL) {
      const { value } = await encrypt(ports(), aCall(), { key: recipientOf(from), plaintext, ...NO_AAD });
      const targetKey = recipientOf('AES-192');
      const moved = await reEncrypt(ports(), aCall(), { jwe: value.jwe, targetKey, ...input });
      assert.ok(
        Buffer.from((await compactDecrypt(moved.value.jwe, secretOf('AES-192'))).plaintext).equals(plaintext),
        from,
      );
    }
    const asked = { key: recipientOf('RSA-2048'), length: 64, wrappedOnly: false, ...NO_AAD };
    const made = await generateDataKey(ports(), aCall(), asked);
    const targetKey = recipientOf('AES-256');
    const moved = await reEncrypt(ports(), aCall(), { jwe: made.value.wrappedDataKey, targetKey, ...input });
    const { plaintext: read, protectedHeader } = await compactDecrypt(moved.value.jwe, secretOf('AES-256'));
    assert.ok(Buffer.from(read).equals(made.value.dataKey));
    assert.equal(protectedHeader.typ, 'mortise-data-key+jwe');
    const unwrapped = { wrappedDataKey: moved.value.jwe, key: '', ...NO_AAD };
    assert.ok((await decryptDataKey(ports(), aCall(), unwrapped)).value.dataKey.equals(made.value.dataKey));
  });

  test('what is re-signed verifies in jose', async () => {
    const names = ['RS256', 'PS512', 'ES256', 'ES384', 'ES512', 'Ed25519'];
    for (const [index, from] of names.entries()) {
      const to = names[(index + 1) % names.length] as string;
      const input = { key: signerOf(from), input: { message: plaintext }, form: 'compact', type: '' } as const;
      const made = await sign(ports(), aCall(), input);
      assert.ok('jws' in made.value);
      const moving = { jws: made.value.jws, message: undefined, sourceKey: '', targetKey: signerOf(to) };
      const { value } = await reSign(ports(), aCall(), moving);
      const key = await importJWK(hsm.world.version(signerOf(to)).publicJwk as JsonWebKey, to);
      assert.ok(Buffer.from((await compactVerify(value.jws, key)).payload).equals(plaintext), to);
    }
  });
});
