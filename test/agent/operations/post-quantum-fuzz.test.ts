// JWE and JWS of post-quantum and composite keys, changed anywhere: nothing opens, nothing verifies, and what comes out is
// an answer or an error of the table. And whatever is signed, the token sees a digest's worth of it.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import fc from 'fast-check';
import { AgentError } from '../../../agent/errors.ts';
import { decrypt } from '../../../agent/operations/decrypt.ts';
import { encrypt } from '../../../agent/operations/encrypt.ts';
import { sign } from '../../../agent/operations/sign.ts';
import { verify } from '../../../agent/operations/verify.ts';
import { FakeToken } from '../../fakes/token.ts';
import { aCall, CryptoWorld, NO_AAD } from './crypto-world.ts';

const KEMS = ['ML-KEM-768', 'ML-KEM-768-P256', 'ML-KEM-768-X25519', 'ML-KEM-768-RSA2048'];
const SIGNERS = ['ML-DSA-44', 'SLH-DSA-SHA2-128f', 'ML-DSA-65-ES256', 'ML-DSA-44-Ed25519'];
const REFUSALS = ['INVALID_REQUEST', 'INVALID_CIPHERTEXT', 'PERMISSION_DENIED', 'KEY_UNKNOWN', 'ALGORITHM_FORBIDDEN'];
const plaintext = Buffer.from('plaintext');

const world = new CryptoWorld(new FakeToken());
const texts = new Map<string, string>();

before(async () => {
  for (const id of KEMS) {
    await world.add({ keyId: id.toLowerCase(), algorithm: id, purpose: 'encrypt' });
    const key = id.toLowerCase();
    texts.set(id, (await encrypt(world.ports, aCall(), { key, plaintext, ...NO_AAD })).value.jwe);
  }
  for (const id of SIGNERS) {
    await world.add({ keyId: id.toLowerCase(), algorithm: id, purpose: 'sign' });
    const input = { key: id.toLowerCase(), input: { message: plaintext }, form: 'compact', type: '' } as const;
    const { value } = await sign(world.ports, aCall(), input);
    texts.set(id, 'jws' in value ? value.jws : assert.fail());
  }
});
after(() => world.postQuantum.close());

interface Edit {
  readonly segment: number;
  readonly at: number;
  readonly by: number;
  readonly cut: number;
}
const edits = fc.record({
  segment: fc.nat(4),
  at: fc.nat(20_000),
  by: fc.integer({ min: 1, max: 255 }),
  cut: fc.oneof(fc.constant(0), fc.integer({ min: -40, max: 40 })),
});

/** Changes the bytes that a segment spells, or adds some or takes some away. */
const edited = (text: string, { segment, at, by, cut }: Edit): string => {
  const segments = text.split('.');
  const index = segment % segments.length;
  const bytes = Buffer.from(segments[index] as string, 'base64url');
  const kept = cut < 0 ? bytes.subarray(0, Math.max(0, bytes.length + cut)) : Buffer.concat([bytes, randomBytes(cut)]);
  const copy = Buffer.from(kept);
  if (copy.length > 0) copy.writeUInt8(copy.readUInt8(at % copy.length) ^ by, at % copy.length);
  segments[index] = copy.toString('base64url');
  return segments.join('.');
};

const codeOf = (thrown: unknown): string => {
  assert.ok(thrown instanceof AgentError, String(thrown));
  return thrown.code;
};

test('a changed JWE never opens', async () => {
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...KEMS), edits, async (id, edit) => {
      const jwe = edited(texts.get(id) as string, edit);
      fc.pre(jwe !== texts.get(id));
      const code = await decrypt(world.ports, aCall(), { jwe, key: '', ...NO_AAD }).then(() => 'it opened', codeOf);
      assert.ok(REFUSALS.includes(code), code);
    }),
    { numRuns: 400 },
  );
});

test('a changed JWS never verifies', async () => {
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...SIGNERS), edits, async (id, edit) => {
      const jws = edited(texts.get(id) as string, edit);
      fc.pre(jws !== texts.get(id));
      const asked = { key: '', version: 0, signature: { jws }, input: undefined };
      const outcome = await verify(world.ports, aCall(), asked).then(
        ({ value }) => (value.valid ? 'it verified' : 'SIGNATURE_INVALID'),
        codeOf,
      );
      assert.ok([...REFUSALS, 'SIGNATURE_INVALID'].includes(outcome), outcome);
    }),
    { numRuns: 400 },
  );
});

describe('a composite in the token', () => {
  for (const algorithm of ['ML-DSA-65-ES256', 'ML-DSA-65-Ed25519', 'ML-DSA-65-RSA3072-PSS']) {
    test(`${algorithm}: both halves see a digest's worth, however long the message`, async () => {
      const token = new FakeToken({ postQuantum: true });
      const own = new CryptoWorld(token);
      await own.add({ keyId: 'k', algorithm, purpose: 'sign', custody: 'hsm' });
      const lengths: number[] = [];
      const inToken = token.sign.bind(token);
      token.sign = (...given) => {
        lengths.push(given[2].length);
        return inToken(...given);
      };
      const message = randomBytes(1_500_000);
      const { value } = await sign(own.ports, aCall(), { key: 'k', input: { message }, form: 'compact', type: '' });
      assert.equal(lengths.length, 2);
      for (const length of lengths) assert.ok(length <= 150, `${length} bytes`);
      const asked = { key: '', version: 0, signature: { jws: 'jws' in value ? value.jws : '' }, input: undefined };
      assert.ok((await verify(own.ports, aCall(), asked)).value.valid);
    });
  }
});
