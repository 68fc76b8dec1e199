// The token process dies, hangs, loses its login: the agent stays up, calls are repeated where that does no harm, and
// the process comes back by itself.
import assert from 'node:assert/strict';
import { createHash, createPublicKey, type JsonWebKey, randomBytes, verify } from 'node:crypto';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { openToken, type Token } from '../../../agent/token/token.ts';
import { callOf, rejectsWith } from '../../contract/token.ts';
import { freeze } from '../../support/freeze.ts';
import { makePkcs11Shim, type Pkcs11Shim } from '../../support/pkcs11-shim.ts';
import { makeSoftHsm, type SoftHsm } from '../../support/softhsm.ts';
import { openSoftHsmToken, type RecordedEvent, recordTokenEvents, softHsmOptions } from '../../support/token.ts';

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

const label = (): string => `life:${randomBytes(8).toString('hex')}`;
const makeSigner = async (
  token: Token,
): Promise<{
  sign(tenant?: string, change?: object): Promise<Buffer>;
  tokenId: string;
  isGood(signature: Buffer): boolean;
}> => {
  const { tokenId, publicJwk } = await token.generate(
    { algorithm: 'EC-P256', purpose: 'sign', label: label() },
    callOf(),
  );
  const key = createPublicKey({ key: publicJwk as JsonWebKey, format: 'jwk' });
  const message = randomBytes(20);
  const digest = createHash('sha256').update(message).digest();
  return {
    tokenId,
    sign: (tenant = 'acme', change = {}) => token.sign(tokenId, 'ES256', digest, callOf(tenant, change)),
    isGood: (signature) => verify('sha256', message, { key, dsaEncoding: 'ieee-p1363' }, signature),
  };
};
const named = (seen: readonly RecordedEvent[], name: string): RecordedEvent[] =>
  seen.filter((row) => row.name === name);
const kill = (token: Token): void => void process.kill(token.pid() as number, 'SIGKILL');

test('killed under load it comes back, and every call is answered with a good signature', async () => {
  const recorded = recordTokenEvents();
  await using token = await openSoftHsmToken(hsm, {}, recorded.events);
  const signer = await makeSigner(token);
  const before = token.pid();
  const signing = Array.from({ length: 300 }, (_, index) => signer.sign(`tenant-${index % 5}`));
  await signing[20];
  kill(token);
  for (const signature of await Promise.all(signing)) assert.ok(signer.isGood(signature));
  assert.equal(token.restarts(), 1);
  assert.notEqual(token.pid(), before);
  assert.equal(token.health().healthy, true);
  const [exited] = named(recorded.seen, 'tokenExited');
  assert.ok(Number((exited as { event: { inFlight: number } }).event.inFlight) > 0, 'nothing was in flight');
});

test('a key generation that was in flight is not repeated', async () => {
  await using token = await openToken({ ...softHsmOptions(hsm, recordTokenEvents().events), library: shim.library });
  const name = label();
  const hanging = shim.addFault({ in: 'C_GenerateKeyPair', does: 'hang', stored: true });
  const making = rejectsWith(
    token.generate({ algorithm: 'EC-P256', purpose: 'sign', label: name }, callOf()),
    'HSM_UNAVAILABLE',
  );
  await token.random(16, callOf()); // an answer of another session: the generation has been sent
  kill(token);
  await making;
  hanging.withdraw();
  assert.equal(await token.find(name, callOf()), undefined);
});

test('a call that kills the process is tried twice and no more, and the next one is served', async () => {
  const recorded = recordTokenEvents();
  await using token = await openToken({ ...softHsmOptions(hsm, recorded.events), library: shim.library });
  const signer = await makeSigner(token);
  const crashing = shim.addFault({ in: 'C_Sign', does: 'abort', stored: true });
  await rejectsWith(signer.sign(), 'HSM_UNAVAILABLE');
  assert.equal(named(recorded.seen, 'tokenExited').length, 2);
  crashing.withdraw();
  assert.ok(signer.isGood(await signer.sign()));
});

test('a process that keeps dying is called a crash loop, with growing waits', async () => {
  const recorded = recordTokenEvents();
  await using token = await openSoftHsmToken(hsm, {}, recorded.events);
  for (let death = 0; death < 4; death += 1) {
    const ready = recorded.next('tokenReady');
    kill(token);
    await ready;
  }
  assert.equal(token.health().healthy, false);
  assert.match(token.health().detail, /crash loop/);
  assert.equal((await token.random(8, callOf())).length, 8);
  const waits = named(recorded.seen, 'tokenRestarting').map((row) => (row.event as { delayMs: number }).delayMs);
  assert.equal(waits.length, 4);
  assert.ok((waits[3] as number) > (waits[0] as number), String(waits));
});

test('a call that hangs in the library costs its process, is answered, and others are repeated', async () => {
  const recorded = recordTokenEvents();
  const limits = { operationMs: 1000 };
  await using token = await openToken({ ...softHsmOptions(hsm, recorded.events), library: shim.library, limits });
  const signer = await makeSigner(token);
  const hung = recorded.next('tokenHung');
  const hanging = shim.addFault({ in: 'C_Sign', does: 'hang', stored: true });
  const refused = rejectsWith(signer.sign(), 'HSM_UNAVAILABLE');
  const behind = Array.from({ length: 20 }, () => token.random(16, callOf()));
  await hung;
  await refused;
  hanging.withdraw();
  for (const bytes of await Promise.all(behind)) assert.equal(bytes.length, 16);
  assert.ok(signer.isGood(await signer.sign()));
  assert.equal(token.restarts(), 1);
});

test('a stopped process (SIGSTOP) is found out and replaced', async () => {
  await using token = await openSoftHsmToken(hsm, { limits: { operationMs: 2500 } });
  const signer = await makeSigner(token);
  const before = token.pid() as number;
  await freeze(before);
  // In flight it fails; where no session had taken it yet, the next process does it.
  const outcome = await signer.sign().catch((error: unknown) => error);
  if (Buffer.isBuffer(outcome)) assert.ok(signer.isGood(outcome));
  else assert.equal((outcome as { code?: unknown }).code, 'HSM_UNAVAILABLE', String(outcome));
  assert.ok(signer.isGood(await signer.sign()));
  assert.notEqual(token.pid(), before);
});

test('a caller is answered at its own deadline while the library hangs, and cannot have the process killed by it', async () => {
  const recorded = recordTokenEvents();
  await using token = await openToken({ ...softHsmOptions(hsm, recorded.events), library: shim.library });
  const signer = await makeSigner(token);
  const pid = token.pid();
  const hanging = shim.addFault({ in: 'C_Sign', does: 'hang', stored: true });
  const impatient = Array.from({ length: 50 }, () => signer.sign('acme', { deadline: Date.now() + 30 }));
  await Promise.all(impatient.map((call) => rejectsWith(call, 'DEADLINE_EXCEEDED')));
  const cancel = new AbortController();
  const cancelled = signer.sign('acme', { signal: cancel.signal });
  cancel.abort();
  await rejectsWith(cancelled, 'CANCELLED');
  hanging.withdraw();
  assert.ok(signer.isGood(await signer.sign()));
  assert.equal(token.pid(), pid);
  assert.equal(named(recorded.seen, 'tokenHung').length, 0);
});

/** The next signature fails by this value. */
const failOnce = (ckr: number): void => {
  shim.addFault({ in: 'C_Sign', does: { return: ckr }, stored: true, times: 1 });
};

test('a lost login brings a new process, and the call is repeated there', async () => {
  await using token = await openToken({ ...softHsmOptions(hsm, recordTokenEvents().events), library: shim.library });
  const signer = await makeSigner(token);
  for (const [ckr, restarts] of [
    [0x101, 1], // CKR_USER_NOT_LOGGED_IN
    [0x30, 2], // CKR_DEVICE_ERROR
  ] as const) {
    failOnce(ckr);
    assert.ok(signer.isGood(await signer.sign()), `0x${ckr.toString(16)}`);
    assert.equal(token.restarts(), restarts);
  }
});

test('a lost session is replaced and the call repeated; a failed one is replaced for the next call', async () => {
  await using token = await openToken({ ...softHsmOptions(hsm, recordTokenEvents().events), library: shim.library });
  const signer = await makeSigner(token);
  await signer.sign();
  /** How often a signature was begun and a session closed, since it was last asked. */
  const counted = (): number[] => {
    const now = [shim.calls('C_SignInit'), shim.calls('C_CloseSession')];
    const grown = now.map((count, at) => count - (seen[at] ?? 0));
    seen = now;
    return grown;
  };
  let seen: number[] = [];
  counted();
  failOnce(0xb3); // CKR_SESSION_HANDLE_INVALID
  assert.ok(signer.isGood(await signer.sign()));
  assert.deepEqual(counted(), [2, 1]);
  failOnce(0x5); // CKR_GENERAL_ERROR
  await rejectsWith(signer.sign(), 'HSM_UNAVAILABLE');
  assert.ok(signer.isGood(await signer.sign()));
  assert.deepEqual(counted(), [2, 1]);
  failOnce(0x82); // CKR_OBJECT_HANDLE_INVALID: looked up again on the same session
  assert.ok(signer.isGood(await signer.sign()));
  assert.deepEqual(counted(), [2, 0]);
  assert.equal(token.restarts(), 0);
});

test('keys are found again in a new process', async () => {
  await using token = await openSoftHsmToken(hsm);
  const signer = await makeSigner(token);
  const ready = signer.sign();
  await ready;
  for (let round = 0; round < 3; round += 1) {
    kill(token);
    assert.ok(signer.isGood(await signer.sign()));
  }
});

test('a key whose attributes are not as asked is repaired, or destroyed where it cannot be', async () => {
  await using token = await openToken({ ...softHsmOptions(hsm, recordTokenEvents().events), library: shim.library });
  const weakened = (['C_GenerateKey', 'C_GenerateKeyPair'] as const).flatMap((name) => [
    { in: name, type: 0x103, value: Buffer.of(0) }, // CKA_SENSITIVE
    { in: name, type: 0x162, value: Buffer.of(1) }, // CKA_EXTRACTABLE
  ]);
  shim.setRules({ templates: weakened });
  for (const [algorithm, purpose] of [
    ['AES-256', 'encrypt'],
    ['EC-P256', 'sign'],
  ] as const) {
    const repaired = label();
    await token.generate({ algorithm, purpose, label: repaired }, callOf());
    assert.notEqual(await token.find(repaired, callOf()), undefined); // find refuses keys that can leave the token
    const stubborn = shim.addFault({ in: 'C_SetAttributeValue', does: { return: 0x10 } }); // CKR_ATTRIBUTE_READ_ONLY
    const refused = label();
    await rejectsWith(token.generate({ algorithm, purpose, label: refused }, callOf()), 'HSM_UNSUPPORTED');
    assert.equal(await token.find(refused, callOf()), undefined);
    stubborn.withdraw();
  }
  shim.setRules({});
});

const until = async (done: () => boolean, what: string): Promise<void> => {
  for (let waited = 0; !done(); waited += 5) {
    if (waited > 30_000) throw new Error(`waited 30 s for ${what}`);
    await sleep(5);
  }
};

test('closing answers what is in flight, logs out, finalises and leaves with code 0', async () => {
  const recorded = recordTokenEvents();
  const token = await openToken({ ...softHsmOptions(hsm, recorded.events), library: shim.library });
  const signer = await makeSigner(token);
  await signer.sign();
  const [logouts, closed] = [shim.calls('C_Logout'), shim.calls('C_CloseSession')];
  const finalizing = shim.addFault({ in: 'C_Finalize', does: 'hang' });
  const last = Array.from({ length: 100 }, () => signer.sign());
  const closing = token.close();
  await rejectsWith(signer.sign(), 'SHUTTING_DOWN');
  for (const signature of await Promise.all(last)) assert.ok(signer.isGood(signature));
  await until(() => finalizing.fired() > 0, 'C_Finalize');
  assert.equal(shim.calls('C_Logout'), logouts + 1);
  assert.ok(shim.calls('C_CloseSession') > closed);
  finalizing.withdraw();
  await closing;
  const [exited] = named(recorded.seen, 'tokenExited');
  assert.partialDeepStrictEqual(exited?.event as object, { code: 0, signal: null, expected: true, inFlight: 0 });
  await token.close();
  await rejectsWith(token.random(1, callOf()), 'SHUTTING_DOWN');
});

test('closing kills a process that does not end', async () => {
  const recorded = recordTokenEvents();
  const limits = { stopMs: 200 };
  const token = await openToken({ ...softHsmOptions(hsm, recorded.events), library: shim.library, limits });
  const signer = await makeSigner(token);
  const hanging = shim.addFault({ in: 'C_Sign', does: 'hang', stored: true });
  const refused = rejectsWith(signer.sign(), 'SHUTTING_DOWN');
  await token.close();
  await refused;
  hanging.withdraw();
  assert.partialDeepStrictEqual(named(recorded.seen, 'tokenExited')[0], { event: { signal: 'SIGKILL' } });
});

test('closing while it waits to start again ends at once', async () => {
  const recorded = recordTokenEvents();
  const token = await openSoftHsmToken(hsm, {}, recorded.events);
  const restarting = recorded.next('tokenRestarting');
  kill(token);
  await restarting;
  await token.close();
  assert.equal(token.health().state, 'closed');
});
