// Vendors' rules of who makes the iv of AES-GCM, imposed on SoftHSM: self-test finds out which it is, and what is
// encrypted under it opens, for the token and for node:crypto.
import assert from 'node:assert/strict';
import { createCipheriv, createDecipheriv, createSecretKey, randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { openToken, type Token } from '../../../agent/token/token.ts';
import { callOf } from '../../contract/token.ts';
import { makePkcs11Shim, type Pkcs11Shim, type ShimRules } from '../../support/pkcs11-shim.ts';
import { makeSoftHsm, type SoftHsm } from '../../support/softhsm.ts';
import { recordTokenEvents, softHsmOptions } from '../../support/token.ts';

let hsm: SoftHsm;
let shim: Pkcs11Shim;
before(async () => {
  hsm = await makeSoftHsm();
  shim = await makePkcs11Shim({ folder: join(hsm.folder, 'shim'), real: hsm.library, pin: hsm.pin });
});
after(async () => {
  shim?.close();
  await hsm?.dispose();
});

const open = (rules: ShimRules): Promise<Token> => {
  shim.setRules(rules);
  const pin = async (): Promise<Buffer> => Buffer.from(rules.login?.form === 'colon' ? `user:${hsm.pin}` : hsm.pin);
  return openToken({ ...softHsmOptions(hsm, recordTokenEvents().events), library: shim.library, pin });
};

const FIPS = { manufacturer: 'Thales' };
const rules: Readonly<Record<string, ShimRules>> = {
  'the caller': {},
  'the token, into zeroes': { manufacturer: 'Amazon', readOnly: 6, login: { form: 'colon' }, iv: { by: 'zeroed' } },
  'the token, into zeroes, of a module that no profile names': { manufacturer: 'Nobody', iv: { by: 'zeroed' } },
  'the token, after the tag': { ...FIPS, iv: { by: 'appended' } },
};
for (const [who, rule] of Object.entries(rules)) {
  test(`AES-GCM whose iv makes ${who}`, async () => {
    await using token = await open(rule);
    const value = randomBytes(32);
    const { tokenId } = await token.create(
      {
        algorithm: 'AES-256',
        purpose: 'encrypt',
        label: 'a key',
        tokenId: randomBytes(16).toString('hex'),
        material: [value],
      },
      callOf(),
    );
    const seen = new Set<string>();
    for (const data of [Buffer.from('some data'), Buffer.alloc(0)]) {
      const given = randomBytes(12);
      const [iv, aad] = [Buffer.from(given), Buffer.from('aad')];
      const sealed = await token.gcmEncrypt(tokenId, { iv, aad, data }, callOf());
      assert.equal(sealed.length, data.length + 16);
      assert.equal(iv.equals(given), who === 'the caller');
      seen.add(iv.toString('hex'));
      const open = createDecipheriv('aes-256-gcm', createSecretKey(value), iv).setAAD(aad);
      open.setAuthTag(sealed.subarray(-16));
      assert.deepEqual(Buffer.concat([open.update(sealed.subarray(0, -16)), open.final()]), data);
      assert.deepEqual(await token.gcmDecrypt(tokenId, { iv, aad, data: sealed }, callOf()), data);
      // What another host encrypted, under an iv that this token would not choose, opens too.
      const cipher = createCipheriv('aes-256-gcm', createSecretKey(value), given).setAAD(aad);
      const foreign = Buffer.concat([cipher.update(data), cipher.final(), cipher.getAuthTag()]);
      assert.deepEqual(await token.gcmDecrypt(tokenId, { iv: given, aad, data: foreign }, callOf()), data);
      const to = { tokenId, iv: Buffer.from(given) };
      if (data.length === 0) continue;
      const bare = Buffer.alloc(0);
      const source = { tokenId, iv: randomBytes(12) };
      const wrapped = await token.gcmEncrypt(tokenId, { iv: source.iv, aad: bare, data: value }, callOf());
      const moved = await token.rewrap({ ...source, data: wrapped }, to, 32, callOf());
      assert.deepEqual(await token.gcmDecrypt(tokenId, { iv: to.iv, aad: bare, data: moved }, callOf()), value);
    }
    assert.equal(seen.size, 2);
  });
}

test('ivs of 128 bits are no AES-GCM of JOSE: the keys are refused, and why is said', async () => {
  await using token = await open({ ...FIPS, iv: { by: 'appended', bytes: 16 } });
  const can = token.canHold('AES-256', 'encrypt');
  assert.equal(can.ok, false);
  assert.match(can.ok ? '' : can.why, /iv appended/);
  assert.equal(token.canHold('EC-P256', 'sign').ok, true);
});
