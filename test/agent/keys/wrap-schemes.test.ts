// Keys wrapped by each scheme, whole use cases over a token in software: what a blob is bound to, and what becomes of blobs
// when the token's scheme changes.
import assert from 'node:assert/strict';
import { createPrivateKey, createPublicKey, sign, verify } from 'node:crypto';
import { describe, type TestContext, test } from 'node:test';
import type { TokenCall } from '../../../agent/operations/ports/token.ts';
import type { KeyRecord, KeyVersionRecord } from '../../../proto/documents/key-record.ts';
import { WRAP_SCHEMES, type WrapScheme } from '../../../proto/documents/wrap-schemes.ts';
import { decodeWrappedKey, encodeWrappedKey } from '../../../proto/documents/wrapped-key.ts';
import { FakeToken } from '../../fakes/token.ts';
import { aRecord } from '../../support/key-records.ts';
import { openWorld, type World } from './world.ts';

const PKCS8 = Buffer.from('302e020100300506032b657004220420', 'hex'); // of an Ed25519 seed, RFC 8410 section 7
const data = Buffer.from('data');
const tokenCall = (tenant = 'acme'): TokenCall => ({
  tenant,
  deadline: Date.now() + 30_000,
  signal: new AbortController().signal,
});

const setUp = (t: TestContext): { readonly world: World; readonly token: FakeToken } => {
  const token = new FakeToken();
  return { world: openWorld(t, { token }), token };
};

const makeLoose = async (world: World, keyId: string, tenant = 'acme'): Promise<KeyRecord> => {
  const identity = { tenant, keyId, version: 1, algorithm: 'Ed25519' };
  const made = await world.keys.vault.generate(identity, tokenCall(tenant));
  const row = { version: 1, algorithm: 'Ed25519', jose: 'Ed25519', custody: 'wrapped', createdAt: world.now } as const;
  return aRecord({ tenant, keyId, purpose: 'sign', versions: [{ ...row, ...made, state: 'PRIMARY' }] });
};

const make = async (world: World, keyId: string, tenant = 'acme'): Promise<KeyRecord> => {
  const record = await makeLoose(world, keyId, tenant);
  await world.keys.catalog.insert(record);
  return record;
};

const versionOf = (record: KeyRecord): KeyVersionRecord => record.versions[0] as KeyVersionRecord;
const blobOf = (world: World, { tenant, keyId }: KeyRecord) =>
  decodeWrappedKey(versionOf(world.keys.catalog.get(tenant, keyId) as KeyRecord).wrapped as string);

/** Signs with what the blob holds and verifies with the public key of the record. */
const works = async (world: World, record: KeyRecord, version = versionOf(record)): Promise<boolean> => {
  const signature = await world.keys.vault.withSeed(record, version, tokenCall(record.tenant), (seed) =>
    sign(null, data, createPrivateKey({ key: Buffer.concat([PKCS8, seed]), format: 'der', type: 'pkcs8' })),
  );
  return verify(null, data, createPublicKey({ key: { ...version.publicJwk }, format: 'jwk' }), signature);
};

const refused = (world: World, record: KeyRecord, version: KeyVersionRecord): Promise<void> =>
  assert.rejects(works(world, record, version), {
    code: 'KEY_STATE',
    message: 'the wrapped key material cannot be opened',
  });

for (const { scheme } of WRAP_SCHEMES) {
  describe(`a blob by ${scheme}`, () => {
    test('signs for the public key it was made with, also after a restart, and names its scheme', async (t) => {
      const { world, token } = setUp(t);
      token.wrapScheme = scheme;
      const record = await make(world, 'a');
      assert.equal(blobOf(world, record).scheme, scheme);
      assert.equal(await works(world, record), true);
      await world.reopen('closed');
      assert.equal(await works(world, record), true);
    });

    test('is refused alike wherever it was moved to and whatever was changed in it', async (t) => {
      const { world, token } = setUp(t);
      token.wrapScheme = scheme;
      const record = await makeLoose(world, 'a'); // not in the catalogue, which would help out with the right blob
      await make(world, 'x', 'globex'); // so that globex has a KEK of the same version
      const version = versionOf(record);
      await refused(world, { ...record, tenant: 'globex' }, version);
      await refused(world, { ...record, keyId: 'other' }, version);
      await refused(world, record, { ...version, version: 2 });
      await refused(world, record, { ...version, algorithm: 'X25519' });
      const blob = decodeWrappedKey(version.wrapped as string);
      const changed = async (wrapped: string): Promise<void> => refused(world, record, { ...version, wrapped });
      for (const at of [0, blob.sealed.length >> 1, blob.sealed.length - 1]) {
        const sealed = Buffer.from(blob.sealed);
        sealed[at] = (sealed[at] as number) ^ 1;
        await changed(encodeWrappedKey({ ...blob, sealed }));
      }
      const relabelled = { ...version, wrapped: encodeWrappedKey({ ...blob, kekVersion: 2 }) };
      const metadata = { state: 'KEK_NOT_LIVE', kek: '2' };
      await assert.rejects(works(world, record, relabelled), { code: 'KEY_STATE', metadata });
      for (const bytes of [0, 1, 9, 40]) await changed((version.wrapped as string).slice(0, bytes));
      for (const { number } of WRAP_SCHEMES.filter((row) => row.scheme !== scheme)) {
        const bytes = Buffer.from(version.wrapped as string, 'base64url');
        bytes[4] = number;
        await changed(bytes.toString('base64url'));
      }
      assert.equal(await works(world, record), true);
    });
  });
}

const MOVES: readonly (readonly [WrapScheme, WrapScheme])[] = [
  ['aes-cbc-hmac', 'aes-gcm'],
  ['aes-gcm', 'aes-cbc-hmac'],
  ['aes-kw', 'aes-kwp'],
];
for (const [before, after] of MOVES) {
  test(`blobs go on opening when new KEKs are for another scheme, and rotation moves them: ${before} to ${after}`, async (t) => {
    const { world, token } = setUp(t);
    token.wrapScheme = before;
    const old = await make(world, 'old');
    token.wrapScheme = after;
    const fresh = await make(world, 'fresh');
    assert.deepEqual(
      [old, fresh].map((record) => blobOf(world, record).scheme),
      [before, before],
      'a KEK has one scheme',
    );
    const other = await make(world, 'other', 'globex');
    assert.equal(blobOf(world, other).scheme, after, 'another KEK');
    for (const record of [old, fresh, other]) assert.equal(await works(world, record), true);
    const { rewrapped } = await world.keys.vault.rotateKek('acme', tokenCall());
    assert.equal(rewrapped, 2);
    for (const record of [old, fresh]) {
      assert.deepEqual([blobOf(world, record).scheme, blobOf(world, record).kekVersion], [after, 2]);
      assert.equal(await works(world, world.keys.catalog.get('acme', record.keyId) as KeyRecord), true);
    }
  });
}
