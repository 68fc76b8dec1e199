// The behaviour of a token that wraps key material, whatever its scheme: what it wraps comes back, and nothing else opens.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import type { TokenPort } from '../../agent/operations/ports/token.ts';
import { isMaterialLength, schemeOfKey, type WrapScheme, wrapScheme } from '../../proto/documents/wrap-schemes.ts';
import { callOf, rejectsWith } from './token.ts';

/** Lengths of the private bytes of docs/spec/wrapped-key.md, and others at the limits. */
const LENGTHS = [0, 1, 7, 8, 16, 32, 33, 64, 96, 128, 2305, 4096, 4097];

export const wrappingContract = (scheme: WrapScheme, token: () => TokenPort): void => {
  const make = async (): Promise<string> => {
    const { tokenId } = await token().generateWrappingKey(
      { label: `wraps-${randomBytes(4).toString('hex')}` },
      callOf(),
    );
    return tokenId;
  };
  const aad = Buffer.from('whose it is');

  test(`${scheme}: the CKA_ID of a new key says so, and the key is found by its label`, async () => {
    assert.equal(schemeOfKey(token().wrappingKeyId(callOf())), scheme);
    const label = `kek-${randomBytes(4).toString('hex')}`;
    const tokenId = token().wrappingKeyId(callOf());
    assert.deepEqual(await token().generateWrappingKey({ label, tokenId }, callOf()), { tokenId });
    assert.equal((await token().find(label, callOf()))?.tokenId, tokenId);
    await token().destroy(tokenId, callOf());
    assert.equal(await token().find(label, callOf()), undefined);
    await rejectsWith(token().wrap(tokenId, { aad, data: randomBytes(32) }, callOf()), 'HSM_UNAVAILABLE');
  });

  test(`${scheme}: what was wrapped comes back, and two wraps of it differ or are of a cipher without an iv`, async () => {
    const tokenId = await make();
    const { ivBytes, tagBytes } = wrapScheme(scheme);
    for (const bytes of LENGTHS) {
      const data = randomBytes(bytes);
      if (!isMaterialLength(scheme, bytes)) {
        await rejectsWith(token().wrap(tokenId, { aad, data }, callOf()), 'HSM_UNSUPPORTED');
        continue;
      }
      const sealed = await token().wrap(tokenId, { aad, data }, callOf());
      assert.ok(sealed.length >= ivBytes + bytes + tagBytes);
      assert.ok(bytes < 7 || !sealed.includes(data.subarray(0, 7)), 'what is wrapped can be read');
      assert.deepEqual(await token().unwrap(tokenId, { aad, data: sealed }, callOf()), data);
      const again = await token().wrap(tokenId, { aad, data }, callOf());
      assert.equal(again.equals(sealed), ivBytes === 0);
    }
  });

  test(`${scheme}: nothing else opens: other bytes, another length, other associated data, another key`, async () => {
    const [tokenId, other] = [await make(), await make()];
    const data = randomBytes(32);
    const sealed = await token().wrap(tokenId, { aad, data }, callOf());
    const refused = (input: { aad: Buffer; data: Buffer }, by = tokenId): Promise<void> =>
      rejectsWith(token().unwrap(by, input, callOf()), 'INVALID_CIPHERTEXT');
    for (let at = 0; at < sealed.length; at += 1) {
      const changed = Buffer.from(sealed);
      changed[at] = (changed[at] as number) ^ (1 << (at % 8));
      await refused({ aad, data: changed });
    }
    for (const bytes of [0, 1, 11, 12, 31, 32, sealed.length - 16, sealed.length - 8, sealed.length - 1]) {
      await refused({ aad, data: sealed.subarray(0, bytes) });
    }
    await refused({ aad, data: Buffer.concat([sealed, Buffer.alloc(16)]) });
    for (const another of [Buffer.alloc(0), Buffer.from('whose it i'), Buffer.concat([aad, Buffer.of(0)])]) {
      await refused({ aad: another, data: sealed });
    }
    await refused({ aad, data: sealed }, other);
    assert.deepEqual(
      await token().unwrap(tokenId, { aad, data: sealed }, callOf()),
      data,
      'the token is well after it',
    );
  });
};
