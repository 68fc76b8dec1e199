// Sessions come and go while the process stays: idle ones are ended and their threads' memory returned, and a thread that
// ends by itself costs no more than its own calls.
import assert from 'node:assert/strict';
import { createHash, createPublicKey, type JsonWebKey, randomBytes, verify } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { encodeFrame } from '../../../agent/token/protocol.ts';
import { openToken, type Token } from '../../../agent/token/token.ts';
import type { TokenLimits } from '../../../agent/token/token-options.ts';
import { callOf } from '../../contract/token.ts';
import { type Fault, makePkcs11Shim, type Pkcs11Shim } from '../../support/pkcs11-shim.ts';
import { makeSoftHsm, type SoftHsm } from '../../support/softhsm.ts';
import { captureChannels, recordTokenEvents, softHsmOptions } from '../../support/token.ts';

const NO_SUCH_KIND = 99;
const DIGEST = Buffer.alloc(32);

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

const openWith = async (sessions: number, limits: Partial<TokenLimits> = {}) => {
  const recorded = recordTokenEvents();
  const token = await openToken({ ...softHsmOptions(hsm, recorded.events), library: shim.library, sessions, limits });
  const what = { algorithm: 'EC-P256', purpose: 'sign', label: `sessions:${randomBytes(8).toString('hex')}` } as const;
  const { tokenId, publicJwk } = await token.generate(what, callOf());
  const key = createPublicKey({ key: publicJwk as JsonWebKey, format: 'jwk' });
  return {
    recorded,
    token,
    [Symbol.asyncDispose]: () => token.close(),
    sign: () => token.sign(tokenId, 'ES256', DIGEST, callOf()),
    signChecked: async (): Promise<void> => {
      const message = randomBytes(20);
      const digest = createHash('sha256').update(message).digest();
      const signature = await token.sign(tokenId, 'ES256', digest, callOf());
      assert.ok(verify('sha256', message, { key, dsaEncoding: 'ieee-p1363' }, signature));
    },
  };
};
type Opened = Awaited<ReturnType<typeof openWith>>;

const threads = (token: Token): number => readdirSync(`/proc/${token.pid()}/task`).length;

const sessionsAre = async ({ token, recorded }: Opened, count: number): Promise<void> => {
  while (token.info().sessions !== count) await recorded.next('tokenSessions');
};

/** Calls that hold up two sessions until the fault is withdrawn. */
const busyTwo = async (opened: Opened): Promise<{ hanging: Fault; waiting: Promise<unknown>[] }> => {
  const hanging = shim.addFault({ in: 'C_Sign', does: 'hang', stored: true });
  const waiting = Array.from({ length: 40 }, () => opened.sign());
  await sessionsAre(opened, 2);
  return { hanging, waiting };
};

test('a session beyond the first that is idle for long is ended with its thread, and comes back when needed', async () => {
  await using opened = await openWith(3, { idleSessionMs: 150 });
  for (let round = 0; round < 3; round += 1) {
    const { hanging, waiting } = await busyTwo(opened);
    const before = threads(opened.token);
    hanging.withdraw();
    await Promise.all(waiting);
    await sessionsAre(opened, 1);
    // The gauge falls when the worker is asked to leave; the next answer of the first says nothing of it, the thread does.
    while (threads(opened.token) >= before) await new Promise((resolve) => setImmediate(resolve));
    await opened.signChecked();
  }
  assert.equal(opened.token.restarts(), 0);
  assert.deepEqual(
    opened.recorded.seen.filter(({ name }) => name === 'tokenSessionFailed'),
    [],
  );
});

test('a session that is used goes on, and the first one always does', async () => {
  await using opened = await openWith(2, { idleSessionMs: 60_000 });
  const { hanging, waiting } = await busyTwo(opened);
  hanging.withdraw();
  await Promise.all(waiting);
  await opened.signChecked();
  assert.equal(opened.token.info().sessions, 2);
});

test('a thread that ends by itself costs its own calls only, and those are asked again', async (t) => {
  const sockets = captureChannels(t);
  await using opened = await openWith(3);
  const pid = opened.token.pid();
  const { hanging, waiting } = await busyTwo(opened);
  const failed = opened.recorded.next('tokenSessionFailed');
  sockets.get(1)?.write(encodeFrame(0, NO_SUCH_KIND, []));
  const more = Array.from({ length: 40 }, () => opened.signChecked());
  hanging.withdraw();
  assert.match((await failed).detail, /no request is of kind 99/);
  await Promise.all([...waiting, ...more]);
  assert.equal(opened.token.restarts(), 0);
  assert.equal(opened.token.pid(), pid);
  const outcomes = opened.recorded.seen.flatMap(({ name, event }) =>
    name === 'tokenCallFinished' ? [(event as { outcome: string }).outcome] : [],
  );
  assert.deepEqual(new Set(outcomes), new Set(['ok']));
  assert.equal(opened.token.health().healthy, true);
});

test('its channel is not used again; with none left the process is started anew', async (t) => {
  const sockets = captureChannels(t);
  await using opened = await openWith(2);
  const lost = opened.recorded.next('tokenSessionFailed');
  sockets.get(0)?.write(encodeFrame(0, NO_SUCH_KIND, []));
  await lost;
  await opened.signChecked();
  assert.equal(opened.token.restarts(), 0);
  assert.equal(opened.token.info().sessions, 1);
  const exited = opened.recorded.next('tokenExited');
  sockets.get(1)?.write(encodeFrame(0, NO_SUCH_KIND, []));
  assert.equal((await exited).expected, false);
  await opened.signChecked();
  assert.equal(opened.token.restarts(), 1);
});
