// The module that imposes vendors' rules and breaks on demand (test/hsm/shim), seen through a token process: each order
// does what its protocol says, or the tests that rely on it would prove nothing.
import assert from 'node:assert/strict';
import { createPublicKey, type JsonWebKey, randomBytes, verify } from 'node:crypto';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { TokenStartError } from '../../../agent/token/start-error.ts';
import { openToken, type Token } from '../../../agent/token/token.ts';
import { callOf, rejectsWith } from '../../contract/token.ts';
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

const open = (rules: ShimRules = {}): Promise<Token> => {
  shim.setRules(rules);
  return openToken({ ...softHsmOptions(hsm, recordTokenEvents().events), library: shim.library });
};
const makeKey = (token: Token) =>
  token.generate({ algorithm: 'Ed25519', purpose: 'sign', label: randomBytes(8).toString('hex') }, callOf());
const refusedStart = (start: Promise<Token>, reason: string) =>
  assert.rejects(start, (error: TokenStartError) => {
    assert.equal(error.reason, reason, error.message);
    return true;
  });

test('names itself as it is told, and lacks what is hidden', async () => {
  await using token = await open({
    manufacturer: 'Some Vendor',
    tokenModel: 'Model 7',
    firmware: '7.8',
    hide: [0x1057],
  });
  assert.equal(token.info().model, 'Model 7');
  assert.equal(token.info().firmware, '7.8');
  assert.equal(token.canHold('Ed25519', 'sign').ok, false);
  assert.equal(token.canHold('EC-P256', 'sign').ok, true);
});

test('a fault meets stored keys alone, as often as it is told, and is counted', async () => {
  await using token = await open();
  const fault = shim.addFault({ in: 'C_Sign', does: { return: 0x70 }, stored: true, skip: 1, times: 2 });
  const { tokenId, publicJwk } = await makeKey(token);
  const sign = (): Promise<Buffer> => token.sign(tokenId, 'Ed25519', Buffer.from('data'), callOf());
  const good = async (): Promise<void> => {
    const key = createPublicKey({ key: publicJwk as JsonWebKey, format: 'jwk' });
    assert.ok(verify(null, Buffer.from('data'), key, await sign()));
  };
  await good();
  await rejectsWith(sign(), 'HSM_UNSUPPORTED');
  await rejectsWith(sign(), 'HSM_UNSUPPORTED');
  await good();
  assert.equal(fault.fired(), 2);
  fault.withdraw();
});

test('a fault for stored keys meets C_UnwrapKey by the key that unwraps, not by the object that it makes', async () => {
  shim.setRules({ hide: [0x1087, 0x1085] }); // CKM_AES_GCM, CKM_AES_CBC_PAD: what is left is AES-KWP
  const options = { ...softHsmOptions(hsm, recordTokenEvents().events), library: shim.library };
  await using token = await openToken(options);
  const { tokenId } = await token.generateWrappingKey({ label: 'kek' }, callOf());
  const [aad, data] = [Buffer.from('aad'), randomBytes(64)];
  const sealed = await token.wrap(tokenId, { aad, data }, callOf());
  const fault = shim.addFault({ in: 'C_UnwrapKey', does: { return: 0x70 }, stored: true, times: 1 });
  await rejectsWith(token.unwrap(tokenId, { aad, data: sealed }, callOf()), 'HSM_UNSUPPORTED');
  assert.deepEqual(await token.unwrap(tokenId, { aad, data: sealed }, callOf()), data);
  assert.equal(fault.fired(), 1);
  fault.withdraw();
});

test('a corrupted signature is another one', async () => {
  await using token = await open();
  const { tokenId } = await makeKey(token);
  const sign = (): Promise<Buffer> => token.sign(tokenId, 'Ed25519', Buffer.from('data'), callOf());
  const right = await sign();
  const fault = shim.addFault({ in: 'C_Sign', does: 'corrupt', stored: true, times: 1 });
  const wrong = await sign();
  fault.withdraw();
  assert.notDeepEqual(wrong, right); // Ed25519 is deterministic
  assert.deepEqual(await sign(), right);
});

test('a crash in a call ends the process, and the next one serves', async () => {
  await using token = await open();
  const { tokenId } = await makeKey(token);
  for (const does of ['segv', 'abort'] as const) {
    const restarts = token.restarts();
    const fault = shim.addFault({ in: 'C_Sign', does, stored: true, times: 1 });
    assert.equal((await token.sign(tokenId, 'Ed25519', Buffer.from('data'), callOf())).length, 64);
    assert.equal(token.restarts(), restarts + 1, does);
    fault.withdraw();
  }
});

test('PIN forms: refused without a colon, what follows it is the real one; another PIN after it was changed', async () => {
  const before = shim.refusedLogins();
  await refusedStart(open({ login: { form: 'colon' } }), 'pin-refused');
  assert.equal(shim.refusedLogins(), before + 1);
  shim.setRules({ login: { form: 'colon' } });
  const options = softHsmOptions(hsm, recordTokenEvents().events);
  const pin = async (): Promise<Buffer> => Buffer.from(`user:${hsm.pin}`);
  await using token = await openToken({ ...options, library: shim.library, pin });
  assert.equal((await token.random(8, callOf())).length, 8);
});

test('counts objects, sessions and lies about attributes as it is told', async () => {
  await using token = await open({ maxSessions: { count: 2 } });
  const { tokenId } = await makeKey(token);
  assert.equal((await token.sign(tokenId, 'Ed25519', Buffer.from('data'), callOf())).length, 64);
  shim.setRules({ maxObjects: { count: 0, ckr: 0x201 } });
  await rejectsWith(makeKey(token), 'HSM_BUSY');
  shim.setRules({ attributes: [{ type: 0x162, value: Buffer.of(1) }] });
  await rejectsWith(makeKey(token), 'HSM_UNSUPPORTED');
});
