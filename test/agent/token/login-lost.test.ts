// A token that drops the login without an error: to a session without login private objects do not exist, so what is not
// found may be there.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { Token } from '../../../agent/token/token.ts';
import { makePkcs11Shim, type Pkcs11Shim } from '../../support/pkcs11-shim.ts';
import { makeSoftHsm, type SoftHsm } from '../../support/softhsm.ts';
import { openSoftHsmToken } from '../../support/token.ts';

let hsm: SoftHsm;
let shim: Pkcs11Shim;
let token: Token;
before(async () => {
  hsm = await makeSoftHsm();
  shim = await makePkcs11Shim({ folder: join(hsm.folder, 'shim'), real: hsm.library, pin: hsm.pin });
  token = await openSoftHsmToken(hsm, { library: shim.library });
});
after(async () => {
  await token?.close();
  shim?.close();
  await hsm?.dispose();
});

const call = () => ({ tenant: 'acme', deadline: Date.now() + 20_000, signal: AbortSignal.timeout(20_000) });
const make = (label: string) => token.generate({ algorithm: 'HMAC-SHA256', purpose: 'mac', label }, call());

test('a key is found again after the token has lost every session and the login', async () => {
  const { tokenId } = await make('kept');
  const first = await token.mac(tokenId, 'HS256', Buffer.from('x'), call());
  const restarts = token.restarts();
  shim.loseSessions();
  assert.deepEqual(await token.mac(tokenId, 'HS256', Buffer.from('x'), call()), first);
  assert.equal(token.restarts(), restarts + 1, 'one new login');
});

test('a key is not taken for destroyed, nor for missing, by a session that has lost the login', async () => {
  const { tokenId } = await make('sought');
  shim.loseSessions();
  assert.equal((await token.find('sought', call()))?.tokenId, tokenId);
  shim.loseSessions();
  await token.destroy(tokenId, call()).catch(() => token.destroy(tokenId, call())); // what is not repeated by itself is asked again
  assert.equal(await token.find('sought', call()), undefined);
});

test('a key that is missing while the login stands costs no new login', async () => {
  const { tokenId } = await make('gone');
  await token.destroy(tokenId, call());
  const restarts = token.restarts();
  await assert.rejects(token.mac(tokenId, 'HS256', Buffer.from('x'), call()), { code: 'HSM_UNAVAILABLE' });
  assert.equal(await token.find('gone', call()), undefined);
  assert.equal(token.restarts(), restarts);
});
