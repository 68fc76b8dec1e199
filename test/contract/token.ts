// The behaviour of a TokenPort, as tests that run on any implementation. Every result is checked against node:crypto,
// so an implementation cannot pass by agreeing with itself.
import assert from 'node:assert/strict';
import {
  constants,
  createCipheriv,
  createECDH,
  createHash,
  createHmac,
  createPublicKey,
  createSecretKey,
  generateKeyPairSync,
  type JsonWebKey,
  type KeyObject,
  publicEncrypt,
  randomBytes,
  verify,
} from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import type { Code } from '../../agent/errors.ts';
import type { TokenCall, TokenPort } from '../../agent/operations/ports/token.ts';
import { ALGORITHMS, type Purpose } from '../../proto/documents/algorithms.ts';
import type { PublicJwk } from '../../proto/documents/key-record.ts';
import { postQuantumContract } from './token-post-quantum.ts';

/** What a token of PKCS #11 before 3.2 cannot hold, and so no composite with a half of it. */
export const POST_QUANTUM = ALGORITHMS.filter((row) => row.custody.includes('hsm') && row.id.startsWith('ML-')).map(
  (row) => row.id,
);

export interface TokenUnderTest {
  readonly token: TokenPort;
  close(): Promise<void>;
}

export interface TokenContractOptions {
  /** Slow algorithms to leave out; RSA-3072 and RSA-4096 take seconds on a small machine. */
  readonly without?: readonly string[];
  /** Names of algorithms that this implementation need not hold. All others must pass `canHold`. */
  readonly lacks?: readonly string[];
}

/** A call of a tenant with half a minute to live. */
export const callOf = (tenant = 'acme', change: Partial<TokenCall> = {}): TokenCall => ({
  tenant,
  deadline: Date.now() + 30_000,
  signal: new AbortController().signal,
  ...change,
});

/** Asserts that a promise rejects with an AgentError of this code. */
export const rejectsWith = async (promise: Promise<unknown>, code: Code): Promise<void> => {
  await assert.rejects(promise, (error: { name?: string; code?: string; message?: string }) => {
    assert.equal(error.name, 'AgentError', `not an AgentError: ${String(error)}`);
    assert.equal(error.code, code, error.message);
    return true;
  });
};

const FIELD_BYTES: Readonly<Record<string, number>> = { 'P-256': 32, 'P-384': 48, 'P-521': 66 };
const OPENSSL_CURVE: Readonly<Record<string, string>> = {
  'P-256': 'prime256v1',
  'P-384': 'secp384r1',
  'P-521': 'secp521r1',
};
const HASH_OF: Readonly<Record<string, string>> = { '256': 'sha256', '384': 'sha384', '512': 'sha512' };
const hashOf = (jose: string): string => HASH_OF[jose.slice(-3)] as string;
const publicKeyOf = (jwk: PublicJwk | undefined): KeyObject => {
  assert.ok(jwk, 'no public key was given');
  return createPublicKey({ key: jwk as JsonWebKey, format: 'jwk' });
};
const label = (): string => `contract:${randomBytes(8).toString('hex')}`;
const flipped = (data: Buffer, at: number): Buffer => {
  const copy = Buffer.from(data);
  copy[at] = (copy[at] as number) ^ 0x01;
  return copy;
};

/** Verifies with node:crypto what the token signed. */
const verified = (jose: string, message: Buffer, key: KeyObject, signature: Buffer): boolean => {
  if (jose === 'Ed25519' || jose.startsWith('ML-DSA-')) return verify(null, message, key, signature);
  if (jose.startsWith('ES')) return verify(hashOf(jose), message, { key, dsaEncoding: 'ieee-p1363' }, signature);
  if (jose.startsWith('RS')) return verify(hashOf(jose), message, key, signature);
  const saltLength = createHash(hashOf(jose)).digest().length;
  return verify(hashOf(jose), message, { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength }, signature);
};

export const tokenContract = (
  name: string,
  open: () => Promise<TokenUnderTest>,
  options: TokenContractOptions = {},
): void => {
  const rows = ALGORITHMS.filter(
    (row) => row.status !== 'forbidden' && row.custody.includes('hsm') && !options.without?.includes(row.id),
  );
  const held = rows.filter((row) => !options.lacks?.includes(row.id));
  const having = (purpose: Purpose, prefix: string): string[] =>
    held
      .filter((row) => row.components === undefined && row.jose[purpose] !== undefined && row.id.startsWith(prefix))
      .map((row) => row.id);

  describe(`token contract: ${name}`, () => {
    let under: TokenUnderTest;
    let token: TokenPort;
    before(async () => {
      under = await open();
      token = under.token;
    });
    after(() => under?.close());

    const make = (algorithm: string, purpose: Purpose): ReturnType<TokenPort['generate']> =>
      token.generate({ algorithm, purpose, label: label() }, callOf());

    postQuantumContract({ token: () => token, callOf, rejectsWith, held });

    test('says what it can hold, and why not', () => {
      for (const row of rows) {
        for (const purpose of Object.keys(row.jose) as Purpose[]) {
          const can = token.canHold(row.id, purpose);
          assert.equal(can.ok, !options.lacks?.includes(row.id), `${row.id} for ${purpose}: ${JSON.stringify(can)}`);
          if (!can.ok) assert.ok(can.why.length > 0);
        }
      }
    });

    test('holds no forbidden or unknown algorithm, and none for a purpose that it does not serve', async () => {
      for (const [id, purpose] of [
        ['RSA-1024', 'sign'],
        ['3DES', 'encrypt'],
        ['HMAC-SHA1', 'mac'],
        ['EC-P192', 'sign'],
        ['no-such-algorithm', 'sign'],
        ['AES-256', 'sign'],
        ['Ed25519', 'encrypt'],
        ['HMAC-SHA256', 'encrypt'],
      ] as const) {
        assert.equal(token.canHold(id, purpose).ok, false, `${id} for ${purpose}`);
        await assert.rejects(token.generate({ algorithm: id, purpose, label: label() }, callOf()), {
          name: 'AgentError',
          code: /^(HSM_UNSUPPORTED|ALGORITHM_FORBIDDEN)$/,
        });
      }
    });

    test('refuses to generate what it cannot hold', async () => {
      for (const id of options.lacks ?? []) {
        const purpose = Object.keys(rows.find((row) => row.id === id)?.jose ?? {})[0] as Purpose | undefined;
        if (purpose !== undefined) await rejectsWith(make(id, purpose), 'HSM_UNSUPPORTED');
      }
    });

    test('gives each key a CKA_ID of its own, and public keys only to key pairs', async () => {
      const seen = new Set<string>();
      for (const algorithm of having('encrypt', 'AES').concat(having('mac', 'HMAC'))) {
        const purpose = algorithm.startsWith('AES') ? 'encrypt' : 'mac';
        const { tokenId, publicJwk } = await make(algorithm, purpose);
        assert.match(tokenId, /^[0-9a-f]{32}$/);
        assert.equal(publicJwk, undefined);
        seen.add(tokenId);
      }
      assert.equal(seen.size, having('encrypt', 'AES').length + having('mac', 'HMAC').length);
    });

    test('gives a key the CKA_ID that was asked for', async () => {
      const tokenId = randomBytes(16).toString('hex');
      const what = { algorithm: 'AES-256', purpose: 'encrypt', label: `id:${tokenId}`, tokenId } as const;
      assert.equal((await token.generate(what, callOf())).tokenId, tokenId);
      assert.equal((await token.find(what.label, callOf()))?.tokenId, tokenId);
      await token.destroy(tokenId, callOf());
      assert.equal(await token.find(what.label, callOf()), undefined);
    });

    for (const algorithm of having('encrypt', 'AES')) {
      test(`${algorithm}: GCM decrypts what it encrypted and nothing else`, async () => {
        const { tokenId } = await make(algorithm, 'encrypt');
        const other = await make(algorithm, 'encrypt');
        for (const size of [0, 1, 16, 32, 255, 4096]) {
          const data = randomBytes(size);
          const iv = randomBytes(12);
          const aad = randomBytes(size % 40);
          const sealed = await token.gcmEncrypt(tokenId, { iv, aad, data }, callOf());
          assert.equal(sealed.length, size + 16);
          assert.ok((await token.gcmDecrypt(tokenId, { iv, aad, data: sealed }, callOf())).equals(data));
          const wrong: [string, { iv: Buffer; aad: Buffer; data: Buffer }][] = [
            [tokenId, { iv, aad, data: flipped(sealed, 0) }],
            [tokenId, { iv, aad, data: flipped(sealed, sealed.length - 1) }],
            [tokenId, { iv: flipped(iv, 3), aad, data: sealed }],
            [tokenId, { iv, aad: Buffer.concat([aad, Buffer.from('x')]), data: sealed }],
            [tokenId, { iv, aad, data: sealed.subarray(0, sealed.length - 1) }],
            [other.tokenId, { iv, aad, data: sealed }],
          ];
          for (const [id, input] of wrong)
            await rejectsWith(token.gcmDecrypt(id, input, callOf()), 'INVALID_CIPHERTEXT');
        }
        const short = { iv: randomBytes(12), aad: Buffer.alloc(0), data: randomBytes(15) };
        await rejectsWith(token.gcmDecrypt(tokenId, short, callOf()), 'INVALID_CIPHERTEXT');
      });
    }

    for (const algorithm of having('sign', '')) {
      test(`${algorithm}: node:crypto verifies its signatures, and not over other data`, async () => {
        const { tokenId, publicJwk } = await make(algorithm, 'sign');
        const key = publicKeyOf(publicJwk);
        const message = randomBytes(100);
        for (const jose of held.find((row) => row.id === algorithm)?.jose.sign ?? []) {
          const isWhole = jose === 'Ed25519' || jose.startsWith('ML-DSA-');
          const data = isWhole ? message : createHash(hashOf(jose)).update(message).digest();
          const signature = await token.sign(tokenId, jose, data, callOf());
          assert.ok(verified(jose, message, key, signature), jose);
          assert.ok(!verified(jose, flipped(message, 0), key, signature), jose);
        }
      });
    }

    test('a signing key signs only with the algorithms of its type', async () => {
      const ec = await make('EC-P256', 'sign');
      const digest = createHash('sha384').update('x').digest();
      await rejectsWith(token.sign(ec.tokenId, 'ES384', digest, callOf()), 'HSM_UNSUPPORTED');
      await rejectsWith(token.sign(ec.tokenId, 'PS256', digest.subarray(0, 32), callOf()), 'HSM_UNSUPPORTED');
      await rejectsWith(token.sign(ec.tokenId, 'RS1', digest.subarray(0, 20), callOf()), 'HSM_UNSUPPORTED');
      await rejectsWith(token.sign(ec.tokenId, 'none', digest, callOf()), 'HSM_UNSUPPORTED');
    });

    test('a digest of the wrong length is an invalid request', async () => {
      const ec = await make('EC-P256', 'sign');
      await rejectsWith(token.sign(ec.tokenId, 'ES256', randomBytes(31), callOf()), 'INVALID_REQUEST');
    });

    for (const algorithm of having('encrypt', 'RSA')) {
      test(`${algorithm}: OAEP decrypts what node:crypto encrypted and nothing else`, async () => {
        const { tokenId, publicJwk } = await make(algorithm, 'encrypt');
        const key = publicKeyOf(publicJwk);
        const bytes = Buffer.from(publicJwk?.['n'] ?? '', 'base64url').length;
        const seal = (data: Buffer, oaepHash = 'sha256'): Buffer => publicEncrypt({ key, oaepHash }, data);
        for (const size of [0, 1, 32, bytes - 66]) {
          const data = randomBytes(size);
          assert.ok((await token.oaepDecrypt(tokenId, seal(data), callOf())).equals(data), `${size} bytes`);
        }
        const sealed = seal(randomBytes(32));
        for (const wrong of [
          flipped(sealed, sealed.length - 1),
          sealed.subarray(1),
          Buffer.concat([sealed, Buffer.alloc(1)]),
          Buffer.alloc(bytes, 0xff),
          Buffer.alloc(bytes),
          Buffer.alloc(0),
          seal(randomBytes(32), 'sha1'),
        ]) {
          await rejectsWith(token.oaepDecrypt(tokenId, wrong, callOf()), 'INVALID_CIPHERTEXT');
        }
      });

      test(`${algorithm}: OAEP of a secret of known length answers what is wrong by random bytes`, async () => {
        const { tokenId, publicJwk } = await make(algorithm, 'encrypt');
        const key = publicKeyOf(publicJwk);
        const bytes = Buffer.from(publicJwk?.['n'] ?? '', 'base64url').length;
        const seal = (data: Buffer, oaepHash = 'sha256'): Buffer => publicEncrypt({ key, oaepHash }, data);
        const open = (ciphertext: Buffer) => token.oaepDecrypt(tokenId, ciphertext, callOf(), 32);
        const secret = randomBytes(32);
        assert.deepEqual(await open(seal(secret)), secret);
        const seen = new Set([secret.toString('hex')]);
        const wrong = [
          flipped(seal(secret), bytes - 1),
          Buffer.alloc(bytes, 0xff), // not below the modulus
          Buffer.alloc(bytes),
          seal(secret, 'sha1'),
          seal(randomBytes(31)),
          seal(Buffer.concat([secret, Buffer.alloc(1)])),
          seal(Buffer.alloc(0)),
        ];
        for (const ciphertext of [...wrong, ...wrong]) {
          const answer = await open(ciphertext);
          assert.equal(answer.length, 32);
          seen.add(answer.toString('hex'));
        }
        assert.equal(seen.size, 1 + 2 * wrong.length, 'no two answers are alike');
        for (const text of [seal(secret).subarray(1), Buffer.alloc(bytes + 1), Buffer.alloc(0)]) {
          await rejectsWith(open(text), 'INVALID_CIPHERTEXT'); // everybody sees the length
        }
      });
    }

    for (const algorithm of having('encrypt', 'EC')) {
      test(`${algorithm}: agrees on the secret that node:crypto computes, at full field length`, async () => {
        const { tokenId, publicJwk } = await make(algorithm, 'encrypt');
        const curve = publicJwk?.['crv'] ?? '';
        const size = FIELD_BYTES[curve] as number;
        const theirs = Buffer.concat([
          Buffer.of(4),
          Buffer.from(publicJwk?.['x'] ?? '', 'base64url'),
          Buffer.from(publicJwk?.['y'] ?? '', 'base64url'),
        ]);
        assert.equal(theirs.length, 1 + 2 * size);
        for (let round = 0; round < 10; round += 1) {
          const ours = createECDH(OPENSSL_CURVE[curve] as string);
          ours.generateKeys();
          const z = await token.ecdh(tokenId, ours.getPublicKey(), callOf());
          const expected = ours.computeSecret(theirs);
          const padded = Buffer.concat([Buffer.alloc(size - expected.length), expected]);
          assert.ok(z.equals(padded));
        }
        const off = flipped(theirs, theirs.length - 1); // not on the curve
        for (const wrong of [off, theirs.subarray(1), Buffer.alloc(theirs.length), Buffer.of(0), Buffer.alloc(0)]) {
          await rejectsWith(token.ecdh(tokenId, wrong, callOf()), 'INVALID_CIPHERTEXT');
        }
      });
    }

    for (const algorithm of having('mac', 'HMAC')) {
      test(`${algorithm}: the same MAC for the same data, another for other data or another key`, async () => {
        const [one, two] = [await make(algorithm, 'mac'), await make(algorithm, 'mac')];
        const jose = `HS${algorithm.slice(-3)}`;
        const data = randomBytes(100);
        const mac = await token.mac(one.tokenId, jose, data, callOf());
        assert.equal(mac.length, Number(algorithm.slice(-3)) / 8);
        assert.ok(mac.equals(await token.mac(one.tokenId, jose, data, callOf())));
        assert.ok(!mac.equals(await token.mac(one.tokenId, jose, flipped(data, 0), callOf())));
        assert.ok(!mac.equals(await token.mac(two.tokenId, jose, data, callOf())));
        const empty = await token.mac(one.tokenId, jose, Buffer.alloc(0), callOf());
        assert.equal(empty.length, mac.length);
        await rejectsWith(token.mac(one.tokenId, 'HS1', data, callOf()), 'HSM_UNSUPPORTED');
      });
    }

    test('a key serves its own purpose only', async () => {
      const aes = await make('AES-256', 'encrypt');
      const hmac = await make('HMAC-SHA256', 'mac');
      const ec = await make('EC-P256', 'encrypt');
      const input = { iv: randomBytes(12), aad: Buffer.alloc(0), data: randomBytes(32) };
      await rejectsWith(token.mac(aes.tokenId, 'HS256', input.data, callOf()), 'HSM_UNSUPPORTED');
      await rejectsWith(token.gcmEncrypt(hmac.tokenId, input, callOf()), 'HSM_UNSUPPORTED');
      await rejectsWith(token.sign(ec.tokenId, 'ES256', input.data, callOf()), 'HSM_UNSUPPORTED');
    });

    test('finds what it generated by its exact label', async () => {
      for (const [algorithm, purpose] of [
        ['AES-256', 'encrypt'],
        ['EC-P256', 'sign'],
      ] as const) {
        const name = label();
        assert.equal(await token.find(name, callOf()), undefined);
        const made = await token.generate({ algorithm, purpose, label: name }, callOf());
        const found = await token.find(name, callOf());
        assert.ok(isDeepStrictEqual(found, made), JSON.stringify([found, made]));
        assert.equal(await token.find(name.slice(0, -1), callOf()), undefined);
        assert.equal(await token.find(`${name}0`, callOf()), undefined);
      }
    });

    test('lists keys by how their labels begin, and says of each what it is', async () => {
      const name = label();
      const before = await token.list(name, callOf());
      assert.deepEqual(before, []);
      const wanted = [
        ['EC-P256', 'sign', 'a'],
        ['AES-256', 'encrypt', 'b'],
        ['HMAC-SHA256', 'mac', 'c'],
      ] as const;
      const made = new Map<string, string>();
      for (const [algorithm, purpose, end] of wanted) {
        const { tokenId } = await token.generate({ algorithm, purpose, label: `${name}:${end}` }, callOf());
        made.set(end, tokenId);
      }
      await token.generate({ algorithm: 'AES-256', purpose: 'encrypt', label: name.slice(0, -1) }, callOf());
      assert.deepEqual(await token.list(`${name}:`, callOf()), [...made.values()].sort());
      assert.deepEqual(await token.list(`${name}:b`, callOf()), [made.get('b')]);
      for (const [algorithm, purpose, end] of wanted) {
        const tokenId = made.get(end) as string;
        const { publicJwk, ...described } = await token.describe(tokenId, callOf());
        assert.deepEqual(described, { label: `${name}:${end}`, algorithms: [algorithm], purpose, isLocal: true });
        assert.deepEqual(publicJwk, (await token.find(`${name}:${end}`, callOf()))?.publicJwk);
      }
      const tokenId = randomBytes(16).toString('hex');
      const material = [randomBytes(32)];
      await token.create({ algorithm: 'AES-256', purpose: 'encrypt', label: `${name}:d`, tokenId, material }, callOf());
      assert.equal((await token.describe(tokenId, callOf())).isLocal, false, 'brought in from elsewhere');
      await rejectsWith(token.describe(randomBytes(16).toString('hex'), callOf()), 'HSM_UNAVAILABLE');
    });

    test('a destroyed key is gone, and destroying it again succeeds', async () => {
      const name = label();
      const { tokenId } = await token.generate({ algorithm: 'EC-P256', purpose: 'sign', label: name }, callOf());
      const digest = randomBytes(32);
      await token.sign(tokenId, 'ES256', digest, callOf());
      await token.destroy(tokenId, callOf());
      await rejectsWith(token.sign(tokenId, 'ES256', digest, callOf()), 'HSM_UNAVAILABLE');
      assert.equal(await token.find(name, callOf()), undefined);
      await token.destroy(tokenId, callOf());
    });

    test('random bytes come in the length asked for and do not repeat', async () => {
      for (const size of [1, 16, 32, 1024, 65_536]) assert.equal((await token.random(size, callOf())).length, size);
      const [one, two] = [await token.random(32, callOf()), await token.random(32, callOf())];
      assert.ok(!one.equals(two));
      await rejectsWith(token.random(0, callOf()), 'INVALID_REQUEST');
      await rejectsWith(token.random(1.5, callOf()), 'INVALID_REQUEST');
      await rejectsWith(token.random(2 ** 32, callOf()), 'INVALID_REQUEST');
    });

    test('a call past its deadline or cancelled is not done', async () => {
      const past = callOf('acme', { deadline: Date.now() - 1 });
      await rejectsWith(token.random(16, past), 'DEADLINE_EXCEEDED');
      await rejectsWith(token.random(16, callOf('acme', { signal: AbortSignal.abort() })), 'CANCELLED');
    });

    test('many calls of many tenants at once each get their own answer', async () => {
      const { tokenId, publicJwk } = await make('EC-P256', 'sign');
      const key = publicKeyOf(publicJwk);
      const messages = Array.from({ length: 200 }, () => randomBytes(40));
      const signatures = await Promise.all(
        messages.map((message, index) =>
          token.sign(tokenId, 'ES256', createHash('sha256').update(message).digest(), callOf(`tenant-${index % 7}`)),
        ),
      );
      messages.forEach((message, index) => {
        assert.ok(verified('ES256', message, key, signatures[index] as Buffer), `answer ${index}`);
      });
    });

    test('does not keep or change the buffers it is given', async () => {
      const { tokenId } = await make('AES-256', 'encrypt');
      const input = { iv: randomBytes(12), aad: randomBytes(5), data: randomBytes(64) };
      const before = { iv: Buffer.from(input.iv), aad: Buffer.from(input.aad), data: Buffer.from(input.data) };
      const sealing = token.gcmEncrypt(tokenId, input, callOf());
      const sealed = await sealing;
      assert.deepEqual(input, before);
      const kept = Buffer.from(sealed);
      input.data.fill(0);
      assert.ok(sealed.equals(kept));
      const opened = await token.gcmDecrypt(tokenId, { ...before, data: sealed }, callOf());
      assert.ok(opened.equals(before.data));
    });

    test('moves a key from AES-GCM or RSA-OAEP to another AES key, and gives out its wrap alone', async () => {
      const target = await make('AES-256', 'encrypt');
      const none = Buffer.alloc(0);
      const opened = (iv: Buffer, data: Buffer): Promise<Buffer> =>
        token.gcmDecrypt(target.tokenId, { iv, aad: none, data }, callOf());
      const aes = await make(having('encrypt', 'AES')[0] as string, 'encrypt');
      for (const bytes of [16, 32, 64]) {
        const cek = randomBytes(bytes);
        const [iv, newIv] = [randomBytes(12), randomBytes(12)];
        const data = await token.gcmEncrypt(aes.tokenId, { iv, aad: none, data: cek }, callOf());
        const to = { tokenId: target.tokenId, iv: newIv };
        const moved = await token.rewrap({ tokenId: aes.tokenId, iv, data }, to, bytes, callOf());
        assert.deepEqual(await opened(newIv, moved), cek);
        const asked = token.rewrap({ tokenId: aes.tokenId, iv, data }, to, bytes + 8, callOf());
        await rejectsWith(asked, 'INVALID_CIPHERTEXT');
        const changed = { tokenId: aes.tokenId, iv, data: flipped(data, 3) };
        await rejectsWith(token.rewrap(changed, to, bytes, callOf()), 'INVALID_CIPHERTEXT');
      }
      const rsa = await make('RSA-2048', 'encrypt');
      const cek = randomBytes(32);
      const oaep = { key: publicKeyOf(rsa.publicJwk), padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: 'sha256' };
      const data = publicEncrypt(oaep, cek);
      const to = { tokenId: target.tokenId, iv: randomBytes(12) };
      const moved = await token.rewrap({ tokenId: rsa.tokenId, data }, to, 32, callOf());
      assert.deepEqual(await opened(to.iv, moved), cek);
      const changed = { tokenId: rsa.tokenId, data: flipped(data, 9) };
      await rejectsWith(token.rewrap(changed, to, 32, callOf()), 'INVALID_CIPHERTEXT');
    });

    const create = (
      algorithm: string,
      purpose: Purpose,
      material: readonly Buffer[],
    ): ReturnType<TokenPort['create']> =>
      token.create(
        { algorithm, purpose, label: label(), tokenId: randomBytes(16).toString('hex'), material },
        callOf(),
      );
    const unsigned = (jwk: JsonWebKey, names: readonly string[]): Buffer[] =>
      names.map((name) => Buffer.from(jwk[name] as string, 'base64url'));

    test('takes secret keys that were made elsewhere', async () => {
      const value = randomBytes(32);
      const { tokenId } = await create('AES-256', 'encrypt', [value]);
      const input = { iv: randomBytes(12), aad: Buffer.from('a'), data: Buffer.from('data') };
      const sealed = await token.gcmEncrypt(tokenId, input, callOf());
      const cipher = createCipheriv('aes-256-gcm', createSecretKey(value), input.iv).setAAD(input.aad);
      assert.deepEqual(sealed, Buffer.concat([cipher.update(input.data), cipher.final(), cipher.getAuthTag()]));
      for (const bytes of [32, 64]) {
        const secret = randomBytes(bytes);
        const mac = await create('HMAC-SHA256', 'mac', [secret]);
        const expected = createHmac('sha256', createSecretKey(secret)).update('m').digest();
        assert.deepEqual(await token.mac(mac.tokenId, 'HS256', Buffer.from('m'), callOf()), expected);
      }
    });

    test('takes key pairs that were made elsewhere, and gives their public keys', async () => {
      const message = Buffer.from('message');
      for (const [algorithm, jose] of [
        ['EC-P256', 'ES256'],
        ['EC-P384', 'ES384'],
        ['EC-P521', 'ES512'],
        ['Ed25519', 'Ed25519'],
        ['RSA-2048', 'PS256'],
      ] as const) {
        if (!held.some((row) => row.id === algorithm)) continue;
        const { privateKey, publicKey } = algorithm.startsWith('RSA')
          ? generateKeyPairSync('rsa', { modulusLength: 2048 })
          : algorithm === 'Ed25519'
            ? generateKeyPairSync('ed25519')
            : generateKeyPairSync('ec', { namedCurve: algorithm.replace('EC-P', 'P-') });
        const jwk = privateKey.export({ format: 'jwk' });
        const [x, y] = unsigned(
          jwk,
          ['x', 'y'].filter((name) => name in jwk),
        );
        const material = algorithm.startsWith('RSA')
          ? unsigned(jwk, ['n', 'e', 'd', 'p', 'q', 'dp', 'dq', 'qi'])
          : [
              algorithm === 'Ed25519' ? (x as Buffer) : Buffer.concat([Buffer.of(4), x as Buffer, y as Buffer]),
              ...unsigned(jwk, ['d']),
            ];
        const made = await create(algorithm, 'sign', material);
        assert.deepEqual(publicKeyOf(made.publicJwk).export({ format: 'jwk' }), publicKey.export({ format: 'jwk' }));
        const data = jose === 'Ed25519' ? message : createHash(hashOf(jose)).update(message).digest();
        const signature = await token.sign(made.tokenId, jose, data, callOf());
        assert.ok(verified(jose, message, publicKey, signature), algorithm);
      }
    });

    test('refuses forbidden and unknown algorithms for material', async () => {
      await rejectsWith(create('RSA-1024', 'sign', [randomBytes(128)]), 'ALGORITHM_FORBIDDEN');
      await rejectsWith(create('AES-999', 'encrypt', [randomBytes(32)]), 'HSM_UNSUPPORTED');
    });
  });
};
