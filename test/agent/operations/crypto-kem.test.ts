// Keys of ML-KEM, hybrids, composites and X25519 through the use cases, with a fake token: every algorithm both ways, and
// that a composite opens by both halves or not at all, whichever half is wrong.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, test } from 'node:test';
import { AgentError, type Code } from '../../../agent/errors.ts';
import { decrypt } from '../../../agent/operations/decrypt.ts';
import { encrypt } from '../../../agent/operations/encrypt.ts';
import { encryptGeneral } from '../../../agent/operations/encrypt-general.ts';
import { encryptTo } from '../../../agent/operations/encrypt-to.ts';
import { getPublicKey } from '../../../agent/operations/get-public-key.ts';
import { reEncrypt } from '../../../agent/operations/re-encrypt.ts';
import { rewrap } from '../../../agent/operations/rewrap.ts';
import { ALGORITHMS, algorithm } from '../../../proto/documents/algorithms.ts';
import type { KeyVersionRecord } from '../../../proto/documents/key-record.ts';
import { PQ_KEMS, type PqKem } from '../../../proto/documents/pq-kems.ts';
import { FakeToken } from '../../fakes/token.ts';
import { aCall, CryptoWorld, NO_AAD } from './crypto-world.ts';

const plaintext = Buffer.from('Three Rings for the Elven-kings under the sky');

const setUp = (options: { readonly postQuantum?: boolean } = {}) => {
  const token = new FakeToken(options);
  return { token, world: new CryptoWorld(token) };
};
const sealed = async (world: CryptoWorld, key: string): Promise<string> =>
  (await encrypt(world.ports, aCall(), { key, plaintext, ...NO_AAD })).value.jwe;
const opened = async (world: CryptoWorld, jwe: string, key = ''): Promise<Buffer> =>
  (await decrypt(world.ports, aCall(), { jwe, key, ...NO_AAD })).value.plaintext;
const fails = (promise: Promise<unknown>, code: Code, about?: RegExp): Promise<void> =>
  assert.rejects(promise, (thrown: unknown) => {
    assert.ok(thrown instanceof AgentError, String(thrown));
    assert.equal(thrown.code, code, thrown.message);
    if (about !== undefined) assert.match(thrown.message, about);
    return true;
  });

const headerOf = (jwe: string): Record<string, unknown> =>
  JSON.parse(Buffer.from(jwe.split('.')[0] as string, 'base64url').toString());
const withHeader = (jwe: string, change: Record<string, unknown>): string => {
  const [, ...rest] = jwe.split('.');
  return [Buffer.from(JSON.stringify({ ...headerOf(jwe), ...change })).toString('base64url'), ...rest].join('.');
};

/** Ids of the table that a KEM or X25519 serves, each with a custody it can have. */
const CASES = ALGORITHMS.filter(({ id }) => PQ_KEMS.has(id) || id === 'X25519').flatMap(({ id, custody }) =>
  custody.map((held) => ({ id, held })),
);

describe('encryption with keys of KEMs', () => {
  assert.ok(CASES.length >= 14);
  for (const { id, held } of CASES) {
    test(`${id}, ${held}: what Encrypt and EncryptTo make, Decrypt opens`, async () => {
      const { world } = setUp({ postQuantum: held === 'hsm' });
      await world.add({ keyId: 'k', algorithm: id, purpose: 'encrypt', custody: held });
      const jwe = await sealed(world, 'k');
      const [jose] = algorithm(id)?.jose.encrypt ?? [];
      assert.equal(headerOf(jwe)['alg'], jose);
      assert.deepEqual(await opened(world, jwe), plaintext);
      const question = world.questions.find(({ operation }) => operation === 'decrypt');
      assert.deepEqual([question?.algorithm, question?.jose, question?.custody], [id, jose, held]);
      const publicKey = await getPublicKey(world.ports, aCall(), { key: 'k', version: undefined, format: 'jwk' });
      const publicJwk = publicKey.value.publicKey;
      const to = await encryptTo(world.ports, aCall(), { publicJwk, plaintext, ...NO_AAD });
      assert.deepEqual(await opened(world, to.value.jwe), plaintext);
    });
  }

  test('the public key of a split key is the standard one: a half of each, in one AKP key', async () => {
    const { world } = setUp();
    for (const [id, jose, bytes] of [
      ['ML-KEM-768-P256', 'HPKE-8-KE', 1249],
      ['ML-KEM-1024-P384', 'HPKE-10-KE', 1665],
    ] as const) {
      const key = await world.add({ keyId: id.toLowerCase(), algorithm: id, purpose: 'encrypt', custody: 'split' });
      const { publicJwk, tokenId } = key.versions[0] as KeyVersionRecord;
      assert.equal(publicJwk?.['alg'], jose);
      assert.equal(Buffer.from(publicJwk?.['pub'] ?? '', 'base64url').length, bytes);
      assert.ok(tokenId);
    }
  });

  test('what EncryptTo makes for the PEM of a key, Decrypt opens; a pair that LAMPS has not has none', async () => {
    const { world } = setUp();
    const pem = async (algorithm: string): Promise<string> => {
      await world.add({ keyId: algorithm.toLowerCase(), algorithm, purpose: 'encrypt' });
      const asked = { key: algorithm.toLowerCase(), version: undefined, format: 'pem' } as const;
      return (await getPublicKey(world.ports, aCall(), asked)).value.publicKey;
    };
    for (const id of ['ML-KEM-768', 'ML-KEM-1024-P384', 'ML-KEM-768-X25519', 'ML-KEM-768-RSA2048']) {
      const publicJwk = await pem(id);
      assert.match(publicJwk, /^-----BEGIN PUBLIC KEY-----\n/);
      const { jwe } = (await encryptTo(world.ports, aCall(), { publicJwk, plaintext, ...NO_AAD })).value;
      assert.deepEqual(await opened(world, jwe, id.toLowerCase()), plaintext);
    }
    await fails(pem('ML-KEM-1024-RSA2048'), 'INVALID_REQUEST', /no PEM form/);
  });

  test('a key for integrated encryption is read with, and not written with', async () => {
    const { world } = setUp();
    await world.add({ keyId: 'k', algorithm: 'ML-KEM-768', purpose: 'encrypt', jose: 'HPKE-12' });
    await fails(sealed(world, 'k'), 'INVALID_REQUEST', /HPKE-12.*not written/);
    const { publicKey } = (await getPublicKey(world.ports, aCall(), { key: 'k', version: undefined, format: 'jwk' }))
      .value;
    const to = { publicJwk: publicKey, plaintext, ...NO_AAD };
    await fails(encryptTo(world.ports, aCall(), to), 'INVALID_REQUEST', /"alg" is not "HPKE-12-KE"/);
  });

  test('header parameters of another shape are refused before any key is asked', async () => {
    const { world } = setUp();
    await world.add({ keyId: 'k', algorithm: 'ML-KEM-768', purpose: 'encrypt' });
    const jwe = await sealed(world, 'k');
    const ek = headerOf(jwe)['ek'] as string;
    for (const [change, about] of [
      [{ ek: undefined }, /"ek" is not 1088 bytes/],
      [{ ek: ek.slice(4) }, /"ek" is not 1088 bytes/],
      [{ ek: 7 }, /"ek"/],
      [{ psk_id: 'AAAA' }, /psk_id/],
      [{ alg: 'HPKE-12' }, /"enc"/],
      [{ alg: 'HPKE-12', enc: undefined }, /no iv and no tag/],
      [{ alg: 'HPKE-13-KE' }, /"alg" is not "HPKE-12-KE"/],
    ] as const) {
      await fails(opened(world, withHeader(jwe, change)), 'INVALID_REQUEST', about);
    }
  });

  test('X25519: a sender’s key of small order is the one error of a wrong ciphertext', async () => {
    const { world } = setUp();
    await world.add({ keyId: 'k', algorithm: 'X25519', purpose: 'encrypt' });
    const jwe = await sealed(world, 'k');
    const epk = { kty: 'OKP', crv: 'X25519', x: Buffer.alloc(32).toString('base64url') };
    await fails(opened(world, withHeader(jwe, { epk })), 'INVALID_CIPHERTEXT');
    await fails(opened(world, withHeader(jwe, { epk: { ...epk, kty: 'EC' } })), 'INVALID_REQUEST', /OKP/);
  });
});

/** Composites that are split, the classical half in the token. */
const SPLIT = CASES.filter(({ held }) => held === 'split').map(({ id }) => id);
const HALVES = ['ML-KEM-768-P256', 'ML-KEM-1024-P384', 'ML-KEM-768-RSA2048', 'ML-KEM-1024-RSA3072'];

const flip = (bytes: Buffer, at: number): Buffer => {
  const changed = Buffer.from(bytes);
  changed[at] = (changed[at] ?? 0) ^ 1;
  return changed;
};

describe('a composite opens by both halves or not at all', () => {
  assert.ok(HALVES.every((id) => SPLIT.includes(id)));
  for (const id of HALVES) {
    const kem = PQ_KEMS.get(id) as PqKem;
    const split = (jwe: string): [pqc: Buffer, classical: Buffer] => {
      const ek = Buffer.from(headerOf(jwe)['ek'] as string, 'base64url');
      return [ek.subarray(0, kem.pqc.ciphertextBytes), ek.subarray(kem.pqc.ciphertextBytes)];
    };
    const joined = (jwe: string, ...parts: Buffer[]): string =>
      withHeader(jwe, { ek: Buffer.concat(parts).toString('base64url') });
    const both = async () => {
      const { world, token } = setUp();
      await world.add({ keyId: 'k', algorithm: id, purpose: 'encrypt', custody: 'split' });
      await world.add({ keyId: 'other', algorithm: id, purpose: 'encrypt', custody: 'split' });
      return { world, token };
    };

    test(`${id}: a wrong half, the half of another message or key, swapped halves: one error`, async () => {
      const { world } = await both();
      const jwe = await sealed(world, 'k');
      const [[pqc, classical], [pqc2, classical2], [pqcOther, classicalOther]] = [
        split(jwe),
        split(await sealed(world, 'k')),
        split(await sealed(world, 'other')),
      ];
      const last = classical.length - 1;
      for (const wrong of [
        joined(jwe, flip(pqc, 3), classical),
        joined(jwe, pqc, flip(classical, last)),
        joined(jwe, pqc2, classical),
        joined(jwe, pqc, classical2),
        joined(jwe, pqcOther, classical),
        joined(jwe, pqc, classicalOther),
        joined(jwe, classical, pqc),
        joined(jwe, Buffer.alloc(pqc.length), classical),
        joined(jwe, pqc, Buffer.alloc(classical.length)),
      ]) {
        await fails(opened(world, wrong), 'INVALID_CIPHERTEXT', /^the ciphertext/i);
      }
      assert.deepEqual(await opened(world, jwe), plaintext);
    });

    test(`${id}: the right private half beside one of another key opens nothing`, async () => {
      const { world } = await both();
      const jwe = await sealed(world, 'k');
      const [mine, others] = [world.version('k'), world.version('other')];
      world.change('k', { versions: [{ ...mine, tokenId: others.tokenId as string }] });
      await fails(opened(world, jwe), 'INVALID_CIPHERTEXT');
      world.change('k', { versions: [mine] });
      world.seeds.set('k/1', randomBytes(64));
      await fails(opened(world, jwe), 'INVALID_CIPHERTEXT');
    });

    test(`${id}: a header that asks for one half alone, or less of the content, is refused`, async () => {
      const { world } = await both();
      const jwe = await sealed(world, 'k');
      const [pqc, classical] = split(jwe);
      const single = id.includes('768') ? 'HPKE-12-KE' : 'HPKE-13-KE';
      for (const alg of [single, 'RSA-OAEP-256', 'ECDH-ES+A256KW']) {
        await fails(opened(world, withHeader(jwe, { alg })), 'INVALID_REQUEST', /"alg" is not/);
      }
      for (const part of [pqc, classical]) await fails(opened(world, joined(jwe, part)), 'INVALID_REQUEST', /"ek"/);
      await fails(opened(world, withHeader(jwe, { enc: 'A128GCM' })), 'INVALID_CIPHERTEXT');
      await fails(opened(world, withHeader(jwe, { typ: 'x' })), 'INVALID_CIPHERTEXT');
    });

    test(`${id}: a token that refuses its half or garbles it is that error too, one that is busy is not`, async () => {
      const { world, token } = await both();
      const jwe = await sealed(world, 'k');
      const method = id.includes('RSA') ? 'oaepDecrypt' : 'ecdh';
      token.fail({ method, code: 'INVALID_CIPHERTEXT' });
      await fails(opened(world, jwe), 'INVALID_CIPHERTEXT');
      token.fail({ method, alter: (answer) => flip(answer, 0) });
      await fails(opened(world, jwe), 'INVALID_CIPHERTEXT');
      token.fail({ method, alter: (answer) => answer.subarray(1) });
      await fails(opened(world, jwe), 'INVALID_CIPHERTEXT');
      token.fail({ method, code: 'HSM_BUSY' });
      await fails(opened(world, jwe), 'HSM_BUSY');
      assert.deepEqual(await opened(world, jwe), plaintext);
    });
  }
});

describe('moving to post-quantum keys', () => {
  for (const to of ['ML-KEM-768', 'ML-KEM-1024', 'ML-KEM-768-P256', 'ML-KEM-768-RSA2048', 'ML-KEM-768-X25519']) {
    for (const from of ['RSA-2048', 'EC-P256'] as const) {
      test(`ReEncrypt from ${from} to ${to} of the same key`, async () => {
        const { world } = setUp();
        await world.add({ keyId: 'k', algorithm: from, purpose: 'encrypt' });
        const old = await sealed(world, 'k');
        const [jose = ''] = algorithm(to)?.jose.encrypt ?? [];
        await world.rotate('k', { algorithm: to, jose });
        const moved = await reEncrypt(world.ports, aCall(), {
          jwe: old,
          sourceKey: '',
          targetKey: '',
          newAssociatedData: undefined,
          ...NO_AAD,
        });
        assert.deepEqual(moved.value.sourceKeyUsed, { keyId: 'k', version: 1 });
        assert.ok(!('plaintext' in moved.value));
        assert.deepEqual([headerOf(moved.value.jwe)['alg'], headerOf(moved.value.jwe)['kid']], [jose, 'acme/k/2']);
        assert.deepEqual(await opened(world, moved.value.jwe), plaintext);
        assert.deepEqual(await opened(world, old), plaintext);
      });
    }
  }

  const general = (world: CryptoWorld, ...keys: string[]) =>
    encryptGeneral(world.ports, aCall(), { recipients: keys.map((key) => ({ key })), plaintext, ...NO_AAD });

  test('several recipients: AES beside ML-KEM, but no RSA or EC key, neither at first nor by Rewrap', async () => {
    const { world } = setUp();
    for (const [keyId, id] of [
      ['aes', 'AES-256'],
      ['rsa', 'RSA-2048'],
      ['ec', 'EC-P256'],
      ['pq', 'ML-KEM-768'],
      ['both', 'ML-KEM-768-RSA2048'],
    ] as const) {
      await world.add({ keyId, algorithm: id, purpose: 'encrypt' });
    }
    const { jwe } = (await general(world, 'aes', 'pq', 'both')).value;
    for (const key of ['aes', 'pq', 'both']) assert.deepEqual(await opened(world, jwe, key), plaintext);
    const uses = world.uses;
    await fails(general(world, 'rsa', 'pq'), 'INVALID_REQUEST', /RSA-OAEP-256 beside HPKE-12-KE/);
    await fails(general(world, 'both', 'ec'), 'INVALID_REQUEST', /ECDH-ES\+A256KW beside urn:mortise/);
    assert.equal(world.uses, uses);
    const add = (text: string, key: string, remove: string[] = []) =>
      rewrap(world.ports, aCall(), { jwe: text, sourceKey: '', add: [{ key }], remove });
    await fails(add(jwe, 'rsa'), 'INVALID_REQUEST', /beside/);
    const classical = (await general(world, 'rsa', 'aes')).value.jwe;
    await fails(add(classical, 'pq'), 'INVALID_REQUEST', /beside/);
    const moved = await add(classical, 'pq', ['acme/rsa/1']);
    assert.deepEqual(await opened(world, moved.value.jwe, 'pq'), plaintext);
    const back = await rewrap(world.ports, aCall(), {
      jwe: moved.value.jwe,
      sourceKey: 'pq',
      add: [{ key: 'both' }],
      remove: ['acme/aes/1'],
    });
    assert.deepEqual(await opened(world, back.value.jwe, 'both'), plaintext);
  });
});
