// FN-DSA, which is Falcon while FIPS 206 is unpublished: signatures by noble, off the event loop, and every place where an
// experimental algorithm must not be taken for an approved one.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { falcon512padded, falcon1024padded } from '@noble/post-quantum/falcon.js';
import fc from 'fast-check';
import { AgentError, type Code } from '../../../agent/errors.ts';
import { getPublicKey } from '../../../agent/operations/get-public-key.ts';
import { type SignInput, sign } from '../../../agent/operations/sign.ts';
import { type VerifyInput, verify } from '../../../agent/operations/verify.ts';
import { verifyWith } from '../../../agent/operations/verify-with.ts';
import { FN_DSA_SIGNATURES } from '../../../proto/documents/fn-dsa.ts';
import { FakeToken } from '../../fakes/token.ts';
import { aCall, CryptoWorld } from './crypto-world.ts';

const SCHEMES = [
  ['FN-DSA-512', falcon512padded],
  ['FN-DSA-1024', falcon1024padded],
] as const;
const message = Buffer.from('a falcon is not a standard yet');
const world = new CryptoWorld(new FakeToken());
const { ports } = world;
const keyOf = (id: string): string => id.toLowerCase();
const jwkOf = (id: string) => world.version(keyOf(id)).publicJwk ?? assert.fail();
const pubOf = (id: string) => Buffer.from(jwkOf(id)['pub'] ?? '', 'base64url');

before(async () => {
  for (const [algorithm] of SCHEMES) await world.add({ keyId: keyOf(algorithm), algorithm, purpose: 'sign' });
});
after(() => world.postQuantum.close());

const signWith = async (key: string, more: Partial<SignInput> = {}) =>
  (await sign(ports, aCall(), { key, input: { message }, form: 'compact', type: '', ...more })).value;
const check = async (more: Partial<VerifyInput>) =>
  (await verify(ports, aCall(), { key: '', version: 0, signature: undefined, input: undefined, ...more })).value;
const checkWith = async (jwk: object, signature: VerifyInput['signature'], input?: VerifyInput['input']) =>
  (await verifyWith(ports, aCall(), { publicJwk: JSON.stringify(jwk), signature, input })).value;
const fails = (promise: Promise<unknown>, code: Code, about: RegExp): Promise<void> =>
  assert.rejects(promise, (thrown: unknown) => {
    assert.ok(thrown instanceof AgentError, String(thrown));
    assert.equal(thrown.code, code, thrown.message);
    assert.match(thrown.message, about);
    return true;
  });

for (const [id, noble] of SCHEMES) {
  const row = FN_DSA_SIGNATURES.get(id) ?? assert.fail();
  test(`${id}: a JWS under a name of our own verifies by key, by JWK and in noble`, async () => {
    const made = await signWith(keyOf(id));
    assert.ok('jws' in made);
    const [header = '', payload, signature = ''] = made.jws.split('.');
    assert.equal(JSON.parse(Buffer.from(header, 'base64url').toString()).alg, row.jose);
    assert.ok(row.jose.startsWith('urn:mortise:'), 'not a name that a standard could give another meaning');
    const bytes = Buffer.from(signature, 'base64url');
    assert.equal(bytes.length, row.signatureBytes);
    assert.ok(noble.verify(bytes, Buffer.from(`${header}.${payload}`), pubOf(id)));
    assert.ok((await check({ signature: made })).valid);
    assert.ok((await checkWith(jwkOf(id), made)).valid);
    const other = [header, Buffer.from('other').toString('base64url'), signature].join('.');
    assert.deepEqual(await check({ signature: { jws: other } }), { valid: false });
    assert.equal(world.lastRecord.outcome, 'SIGNATURE_INVALID');
  });

  test(`${id}: a signature of noble verifies, one that is cut, longer or changed does not`, async () => {
    const { secretKey, publicKey } = noble.keygen(Buffer.alloc(48, 5));
    const jwk = { kty: 'AKP', alg: row.jose, pub: Buffer.from(publicKey).toString('base64url') };
    const raw = Buffer.from(noble.sign(message, secretKey));
    assert.ok((await checkWith(jwk, { raw }, { message })).valid);
    const changed = Buffer.from(raw);
    changed.writeUInt8(changed.readUInt8(60) ^ 1, 60);
    for (const wrong of [raw.subarray(1), Buffer.concat([raw, Buffer.of(0)]), changed, Buffer.alloc(raw.length)]) {
      assert.deepEqual(await checkWith(jwk, { raw: wrong }, { message }), { valid: false });
    }
    const short = { ...jwk, pub: jwk.pub.slice(4) };
    await fails(checkWith(short, { raw }, { message }), 'INVALID_REQUEST', /"pub" is not \d+ bytes/);
  });
}

test('it has no digest form, no context string and no PEM', async () => {
  const key = 'fn-dsa-512';
  const asked = { form: 'raw' as const };
  await fails(signWith(key, { ...asked, input: { digest: Buffer.alloc(32) } }), 'INVALID_REQUEST', /signs messages/);
  await fails(signWith(key, { ...asked, context: Buffer.of(1) }), 'INVALID_REQUEST', /has no context string/);
  const pem = getPublicKey(ports, aCall(), { key, version: undefined, format: 'pem' });
  await fails(pem, 'INVALID_REQUEST', /FN-DSA-512 has no PEM form; use jwk/);
});

test('whatever bytes come as signature or public key, the answer is a verdict', async () => {
  const { publicBytes, signatureBytes, jose } = FN_DSA_SIGNATURES.get('FN-DSA-512') ?? assert.fail();
  const own = pubOf('FN-DSA-512');
  const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });
  await fc.assert(
    fc.asyncProperty(bytes(signatureBytes), bytes(publicBytes), fc.boolean(), async (signature, pub, useOwn) => {
      signature[0] = 0x39; // the header byte of a padded signature, so that what is behind it is looked at
      const jwk = { kty: 'AKP', alg: jose, pub: (useOwn ? own : Buffer.from(pub)).toString('base64url') };
      assert.deepEqual(await checkWith(jwk, { raw: Buffer.from(signature) }, { message }), { valid: false });
    }),
    { numRuns: 60 },
  );
});
