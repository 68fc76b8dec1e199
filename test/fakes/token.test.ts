// The fake token earns its trust here: the contract of every token, and its script of faults.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { WRAP_SCHEMES } from '../../proto/documents/wrap-schemes.ts';
import { callOf, POST_QUANTUM, rejectsWith, tokenContract } from '../contract/token.ts';
import { wrappingContract } from '../contract/token-wrapping.ts';
import { FakeToken } from './token.ts';

const without = ['RSA-3072', 'RSA-4096'];
tokenContract('fake', async () => ({ token: new FakeToken(), close: async () => undefined }), {
  without,
  lacks: POST_QUANTUM,
});
tokenContract(
  'fake of PKCS #11 3.2',
  async () => ({ token: new FakeToken({ postQuantum: true }), close: async () => undefined }),
  { without },
);

for (const { scheme } of WRAP_SCHEMES) {
  const token = new FakeToken();
  token.wrapScheme = scheme;
  wrappingContract(scheme, () => token);
}

test('a scripted error meets the nth call of its method and no other', async () => {
  const token = new FakeToken();
  token.fail({ method: 'random', nth: 2, code: 'HSM_BUSY' });
  await token.random(8, callOf());
  await token.find('nothing', callOf());
  await rejectsWith(token.random(8, callOf()), 'HSM_BUSY');
  await token.random(8, callOf());
  assert.equal(token.calls.get('random'), 3);
});

test('a scripted delay holds the call until its promise settles', async () => {
  const token = new FakeToken();
  const { promise, resolve } = Promise.withResolvers<void>();
  token.fail({ method: 'random', until: promise });
  let isDone = false;
  const waiting = token.random(8, callOf()).then(() => {
    isDone = true;
  });
  await token.random(8, callOf());
  assert.equal(isDone, false);
  resolve();
  await waiting;
});

test('a scripted alteration changes the answer', async () => {
  const token = new FakeToken();
  const { tokenId } = await token.generate({ algorithm: 'AES-256', purpose: 'encrypt', label: 'x' }, callOf());
  const input = { iv: randomBytes(12), aad: Buffer.alloc(0), data: randomBytes(32) };
  token.fail({ method: 'gcmEncrypt', alter: (answer) => answer.fill(0) });
  assert.ok((await token.gcmEncrypt(tokenId, input, callOf())).every((byte) => byte === 0));
});
