// A long campaign against the JOSE decoders: valid texts with edits, cuts, doublings and swaps, through the use cases.
// Nothing but an answer or an error of the table may come out, and a changed ciphertext never decrypts.
import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import fc from 'fast-check';
import { AgentError } from '../../agent/errors.ts';
import { decrypt } from '../../agent/operations/decrypt.ts';
import { encrypt } from '../../agent/operations/encrypt.ts';
import { encryptGeneral } from '../../agent/operations/encrypt-general.ts';
import { encryptTo } from '../../agent/operations/encrypt-to.ts';
import { rewrap } from '../../agent/operations/rewrap.ts';
import { sign } from '../../agent/operations/sign.ts';
import { verify } from '../../agent/operations/verify.ts';
import { aCall, CryptoWorld, NO_AAD } from '../agent/operations/crypto-world.ts';
import { FakeToken } from '../fakes/token.ts';

const RUNS = 20_000;
const plaintext = Buffer.from('plaintext');

/** One edit of a text: a place, how much goes, and what comes. */
const edit = fc.record({
  at: fc.nat(5000),
  gone: fc.nat(12),
  come: fc.oneof(fc.base64String({ maxLength: 12 }), fc.string({ maxLength: 6 }), fc.constantFrom('.', '=', '"', '\0')),
  isDecoded: fc.boolean(),
});
type Edit = { at: number; gone: number; come: string; isDecoded: boolean };

const spliced = (text: string, { at, gone, come }: Edit): string => {
  const place = at % (text.length + 1);
  return text.slice(0, place) + come + text.slice(place + gone);
};

/** Edits the text, or the JSON of its header. */
const edited = (text: string, edits: readonly Edit[]): string =>
  edits.reduce((old, one) => {
    const [header = '', ...rest] = old.split('.');
    if (!one.isDecoded) return spliced(old, one);
    const json = spliced(Buffer.from(header, 'base64url').toString('latin1'), one);
    return [Buffer.from(json, 'latin1').toString('base64url'), ...rest].join('.');
  }, text);

const settles = async <T>(act: Promise<T>): Promise<T | undefined> => {
  try {
    return await act;
  } catch (thrown) {
    assert.ok(thrown instanceof AgentError && thrown.code !== 'INTERNAL', String(thrown));
    return undefined;
  }
};

describe('long fuzz of the JOSE decoders', () => {
  const world = new CryptoWorld(new FakeToken());
  const { ports } = world;
  const texts: { jwe: string[]; jws: string[] } = { jwe: [], jws: [] };
  before(async () => {
    for (const algorithm of ['AES-256', 'RSA-2048', 'EC-P256', 'EC-P521']) {
      const key = algorithm.toLowerCase();
      await world.add({ keyId: key, algorithm, purpose: 'encrypt' });
      texts.jwe.push((await encrypt(ports, aCall(), { key, plaintext, ...NO_AAD })).value.jwe);
    }
    for (const [algorithm, key] of [
      ['RSA-2048', 's-rsa'],
      ['EC-P256', 's-ec'],
      ['Ed25519', 's-ed'],
    ] as const) {
      await world.add({ keyId: key, algorithm, purpose: 'sign' });
      const input = { key, input: { message: plaintext }, form: 'compact', type: '' } as const;
      const { value } = await sign(ports, aCall(), input);
      if ('jws' in value) texts.jws.push(value.jws);
    }
  });

  test('an edited JWE never decrypts', async () => {
    const property = fc.asyncProperty(
      fc.nat(3),
      fc.array(edit, { minLength: 1, maxLength: 3 }),
      async (which, edits) => {
        const jwe = texts.jwe[which] as string;
        const changed = edited(jwe, edits);
        const opened = await settles(decrypt(ports, aCall(), { jwe: changed, key: '', ...NO_AAD }));
        if (changed !== jwe) assert.equal(opened, undefined);
      },
    );
    await fc.assert(property, { numRuns: RUNS });
  });

  test('an edited General JSON JWE decrypts to its plaintext or not at all, and rewraps to one that does or not at all', async () => {
    const recipients = ['aes-256', 'rsa-2048', 'ec-p256'].map((key) => ({ key }));
    const { value } = await encryptGeneral(ports, aCall(), { recipients, plaintext, ...NO_AAD });
    // Recipients are not protected: an edit of one may leave another that opens.
    const property = fc.asyncProperty(
      fc.array(edit, { minLength: 1, maxLength: 3 }),
      fc.nat(2),
      async (edits, which) => {
        const changed = edits.reduce((text, one) => spliced(text, { ...one, at: one.at * 7 }), value.jwe);
        const { key } = recipients[which] as { key: string };
        const opened = await settles(decrypt(ports, aCall(), { jwe: changed, key, ...NO_AAD }));
        if (opened !== undefined) assert.ok(opened.value.plaintext.equals(plaintext));
        const moving = { jwe: changed, sourceKey: key, add: [{ key: 'ec-p521' }], remove: [] };
        const moved = await settles(rewrap(ports, aCall(), moving));
        if (moved === undefined) return;
        const again = { jwe: moved.value.jwe, key: 'ec-p521', ...NO_AAD };
        const reopened = await settles(decrypt(ports, aCall(), again));
        if (reopened !== undefined) assert.ok(reopened.value.plaintext.equals(plaintext));
      },
    );
    await fc.assert(property, { numRuns: RUNS / 4 });
  });

  test('an edited JWS never verifies', async () => {
    const property = fc.asyncProperty(
      fc.nat(2),
      fc.array(edit, { minLength: 1, maxLength: 3 }),
      async (which, edits) => {
        const jws = texts.jws[which] as string;
        const changed = edited(jws, edits);
        const input = { key: '', version: 0, signature: { jws: changed }, input: undefined };
        const checked = await settles(verify(ports, aCall(), input));
        if (changed !== jws) assert.ok(!checked?.value.valid);
      },
    );
    await fc.assert(property, { numRuns: RUNS });
  });

  test('an edited JWK encrypts to a checked key or not at all', async () => {
    const jwks = ['rsa-2048', 'ec-p256', 'ec-p521'].map((key) => JSON.stringify(world.version(key).publicJwk));
    const property = fc.asyncProperty(fc.nat(2), fc.array(edit, { maxLength: 2 }), async (which, edits) => {
      const publicJwk = edits.reduce(spliced, jwks[which] as string);
      const sealed = await settles(encryptTo(ports, aCall(), { publicJwk, plaintext, ...NO_AAD }));
      if (sealed !== undefined) assert.equal(sealed.value.jwe.split('.').length, 5);
    });
    await fc.assert(property, { numRuns: RUNS });
  });
});
