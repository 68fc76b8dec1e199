// Sessions side by side: objects are made while others are used, and a slow key generation holds nobody up.
import assert from 'node:assert/strict';
import { createECDH, createHash, createPublicKey, type JsonWebKey, randomBytes, verify } from 'node:crypto';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { openToken, type Token } from '../../../agent/token/token.ts';
import { callOf, rejectsWith } from '../../contract/token.ts';
import { makePkcs11Shim, type Pkcs11Shim } from '../../support/pkcs11-shim.ts';
import { makeSoftHsm, type SoftHsm } from '../../support/softhsm.ts';
import { openSoftHsmToken, recordTokenEvents, softHsmOptions } from '../../support/token.ts';

let hsm: SoftHsm;
let shim: Pkcs11Shim;
before(async () => {
  hsm = await makeSoftHsm();
  shim = await makePkcs11Shim({ folder: join(hsm.folder, 'shim'), real: hsm.library });
});
after(async () => {
  shim?.close();
  await hsm?.dispose();
});

const label = (): string => `concurrency:${randomBytes(8).toString('hex')}`;
const makeKey = (token: Token, purpose: 'sign' | 'encrypt'): ReturnType<Token['generate']> =>
  token.generate({ algorithm: 'EC-P256', purpose, label: label() }, callOf());

test('keys are made, agreed on, used and destroyed at once for some hundred rounds without a failure', async () => {
  const recorded = recordTokenEvents();
  await using token = await openSoftHsmToken(hsm, { sessions: 4 }, recorded.events);
  const signer = await makeKey(token, 'sign');
  const agreeing = await makeKey(token, 'encrypt');
  const theirs = Buffer.concat([
    Buffer.of(4),
    Buffer.from(agreeing.publicJwk?.['x'] ?? '', 'base64url'),
    Buffer.from(agreeing.publicJwk?.['y'] ?? '', 'base64url'),
  ]);
  const publicKey = createPublicKey({ key: signer.publicJwk as JsonWebKey, format: 'jwk' });
  const makeUseDestroy = async (tenant: string): Promise<void> => {
    const { tokenId } = await token.generate(
      { algorithm: 'AES-256', purpose: 'encrypt', label: label() },
      callOf(tenant),
    );
    const input = { iv: randomBytes(12), aad: Buffer.alloc(0), data: randomBytes(32) };
    const sealed = await token.gcmEncrypt(tokenId, input, callOf(tenant));
    assert.ok((await token.gcmDecrypt(tokenId, { ...input, data: sealed }, callOf(tenant))).equals(input.data));
    await token.destroy(tokenId, callOf(tenant));
    await rejectsWith(token.gcmEncrypt(tokenId, input, callOf(tenant)), 'HSM_UNAVAILABLE');
  };
  const derive = async (): Promise<void> => {
    const ours = createECDH('prime256v1');
    const secret = await token.ecdh(agreeing.tokenId, ours.generateKeys(), callOf('deriver'));
    assert.ok(secret.equals(ours.computeSecret(theirs)));
  };
  const sign = async (): Promise<void> => {
    const message = randomBytes(30);
    const digest = createHash('sha256').update(message).digest();
    const signature = await token.sign(signer.tokenId, 'ES256', digest, callOf('signer'));
    assert.ok(verify('sha256', message, { key: publicKey, dsaEncoding: 'ieee-p1363' }, signature));
  };
  for (let round = 0; round < 10; round += 1) {
    await Promise.all(
      Array.from({ length: 5 }, (_, index) => [
        makeUseDestroy(`maker-${index % 3}`),
        token.find('nobody', callOf('searcher')),
        derive(),
        derive(),
        derive(),
        sign(),
      ]).flat(),
    );
  }
  assert.equal(token.restarts(), 0);
  const outcomes = recorded.seen.flatMap(({ name, event }) =>
    name === 'tokenCallFinished' ? [(event as { outcome: string }).outcome] : [],
  );
  assert.equal(outcomes.filter((outcome) => outcome !== 'ok').length, 50, 'only the uses of destroyed keys may fail');
});

test('signatures of others finish while a key is being generated, and generations wait for each other', async () => {
  await using token = await openToken({ ...softHsmOptions(hsm, recordTokenEvents().events), library: shim.library });
  const { tokenId } = await makeKey(token, 'sign');
  const hanging = shim.addFault({ in: 'C_GenerateKeyPair', does: 'hang', stored: true });
  const done: string[] = [];
  const generations = Array.from({ length: 5 }, () => makeKey(token, 'sign').then(() => void done.push('generation')));
  const signatures = Array.from({ length: 200 }, (_, index) =>
    token
      .sign(tokenId, 'ES256', randomBytes(32), callOf(`tenant-${index % 3}`))
      .then(() => void done.push('signature')),
  );
  await Promise.all(signatures);
  assert.deepEqual(new Set(done), new Set(['signature']));
  hanging.withdraw();
  await Promise.all(generations);
  assert.equal(done.length, 205);
});

test('with a single session a key generation gets its turn under a constant load of signatures', async () => {
  await using token = await openSoftHsmToken(hsm, { sessions: 1 });
  const { tokenId } = await makeKey(token, 'sign');
  let made = false;
  const load = Array.from({ length: 24 }, async () => {
    for (let count = 0; !made && count < 5000; count += 1)
      await token.sign(tokenId, 'ES256', randomBytes(32), callOf());
  });
  await makeKey(token, 'sign');
  made = true;
  await Promise.all(load);
});

test('sessions are opened as calls wait for them, up to the size of the pool and no further', async () => {
  const recorded = recordTokenEvents();
  const options = { ...softHsmOptions(hsm, recorded.events), library: shim.library, sessions: 3 };
  await using token = await openToken(options);
  const { tokenId } = await makeKey(token, 'sign');
  assert.ok(token.info().sessions <= 2, `${token.info().sessions} sessions without load`);
  const hanging = shim.addFault({ in: 'C_Sign', does: 'hang', stored: true });
  const waiting = Array.from({ length: 100 }, () => token.sign(tokenId, 'ES256', randomBytes(32), callOf()));
  const sessions = (): number =>
    Math.max(0, ...recorded.seen.map((row) => (row.name === 'tokenSessions' ? Number(row.event) : 0)));
  await makeKey(token, 'sign'); // takes a session of its own beside the two that sign
  while (sessions() < 3) await recorded.next('tokenSessions');
  hanging.withdraw();
  await Promise.all(waiting);
  assert.equal(token.info().sessions, 3);
});

test('a token that allows fewer sessions than the pool is served with those there are', async () => {
  const recorded = recordTokenEvents();
  const options = { ...softHsmOptions(hsm, recorded.events), library: shim.library, sessions: 4 };
  await using token = await openToken(options);
  const { tokenId } = await makeKey(token, 'sign');
  const refusing = shim.addFault({ in: 'C_OpenSession', does: { return: 0xb1 } }); // CKR_SESSION_COUNT
  const failed = recorded.next('tokenSessionFailed');
  const load = Array.from({ length: 300 }, () => token.sign(tokenId, 'ES256', randomBytes(32), callOf()));
  assert.match((await failed).detail, /CKR_SESSION_COUNT/);
  await Promise.all(load);
  await makeKey(token, 'sign');
  refusing.withdraw();
  assert.equal(token.restarts(), 0);
  assert.equal(token.info().sessions, 1);
});

test('a CKA_ID that is taken is refused, and its key stays', async () => {
  await using token = await openSoftHsmToken(hsm);
  const { tokenId } = await makeKey(token, 'sign');
  const again = token.generate({ algorithm: 'EC-P256', purpose: 'sign', label: label(), tokenId }, callOf());
  await rejectsWith(again, 'INVALID_REQUEST');
  assert.equal((await token.sign(tokenId, 'ES256', randomBytes(32), callOf())).length, 64);
});

test('handles of a destroyed key are forgotten by every session', async () => {
  await using token = await openSoftHsmToken(hsm, { sessions: 4 });
  const { tokenId } = await makeKey(token, 'sign');
  const use = (): Promise<Buffer>[] =>
    Array.from({ length: 100 }, () => token.sign(tokenId, 'ES256', randomBytes(32), callOf()));
  await Promise.all(use());
  await token.destroy(tokenId, callOf());
  for (const row of await Promise.allSettled(use())) {
    assert.equal(row.status === 'rejected' && row.reason.code, 'HSM_UNAVAILABLE');
  }
});

test('a message as long as the protocol takes is signed, a longer one refused', async () => {
  await using token = await openSoftHsmToken(hsm);
  const { tokenId, publicJwk } = await token.generate(
    { algorithm: 'Ed25519', purpose: 'sign', label: label() },
    callOf(),
  );
  const message = randomBytes(1024 * 1024);
  const signature = await token.sign(tokenId, 'Ed25519', message, callOf());
  assert.ok(verify(null, message, createPublicKey({ key: publicJwk as JsonWebKey, format: 'jwk' }), signature));
  await rejectsWith(token.sign(tokenId, 'Ed25519', Buffer.alloc(1024 * 1024 + 1), callOf()), 'TOO_LARGE');
  assert.equal((await token.random(8, callOf())).length, 8);
  assert.equal(token.restarts(), 0);
});

test('arguments that are not what they should be are refused before they reach the token', async () => {
  await using token = await openSoftHsmToken(hsm);
  const input = { iv: randomBytes(12), aad: Buffer.alloc(0), data: Buffer.alloc(1) };
  for (const id of ['', 'xyz', 'AB', 'abc', '../x', 'ab'.repeat(256)]) {
    await rejectsWith((async () => token.gcmEncrypt(id, input, callOf()))(), 'INVALID_REQUEST');
  }
  await rejectsWith(
    (async () => token.gcmEncrypt('ab', { ...input, iv: randomBytes(16) }, callOf()))(),
    'INVALID_REQUEST',
  );
  await rejectsWith(token.find('', callOf()), 'INVALID_REQUEST');
  await rejectsWith(token.find('x'.repeat(513), callOf()), 'INVALID_REQUEST');
  await rejectsWith(token.gcmEncrypt('ab', input, callOf()), 'HSM_UNAVAILABLE'); // well-formed, but no such key
});

test('many calls under one signal draw no warning and are cancelled together', async () => {
  await using token = await openSoftHsmToken(hsm);
  const warnings: Error[] = [];
  const listen = (warning: Error): void => void warnings.push(warning);
  process.on('warning', listen);
  const cancel = new AbortController();
  const calls = Array.from({ length: 100 }, () => token.random(16, callOf('acme', { signal: cancel.signal })));
  const settled = Promise.allSettled(calls);
  cancel.abort();
  for (const row of await settled) assert.equal(row.status === 'rejected' && row.reason.code, 'CANCELLED');
  assert.equal((await token.random(16, callOf())).length, 16);
  process.off('warning', listen);
  assert.deepEqual(warnings, []);
});
