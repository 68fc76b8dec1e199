// A host's share of the token's sessions, that of the login included: never exceeded, reached without a lost call, and left
// without a process where it is nothing.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, test } from 'node:test';
import { openToken, type Token } from '../../../agent/token/token.ts';
import type { TokenOptions } from '../../../agent/token/token-options.ts';
import { callOf } from '../../contract/token.ts';
import { makePkcs11Shim, type Pkcs11Shim } from '../../support/pkcs11-shim.ts';
import { makeSoftHsm, type SoftHsm } from '../../support/softhsm.ts';
import { recordTokenEvents, softHsmOptions } from '../../support/token.ts';

const DIGEST = Buffer.alloc(32, 0xee);
const SESSION_COUNT = 0xb1;

let hsm: SoftHsm;
before(async () => {
  hsm = await makeSoftHsm();
});
after(() => hsm.dispose());

const openWith = async (folder: string, options: Partial<TokenOptions> = {}) => {
  const shim = await makePkcs11Shim({ folder: `${hsm.folder}/${folder}`, real: hsm.library, pin: hsm.pin });
  const recorded = recordTokenEvents();
  const all = { ...softHsmOptions(hsm, recorded.events), library: shim.library, sessions: 4, ...options };
  const token = await openToken(all);
  const what = { algorithm: 'EC-P256', purpose: 'sign', label: `limit:${randomBytes(8).toString('hex')}` } as const;
  const { tokenId } = await token.generate(what, callOf());
  const sign = () => token.sign(tokenId, 'ES256', DIGEST, callOf());
  return { shim, recorded, token, sign, [Symbol.asyncDispose]: () => token.close() };
};
type Opened = Awaited<ReturnType<typeof openWith>>;

const sessionsAre = async ({ token, recorded }: Opened, count: number): Promise<void> => {
  while (token.info().sessions !== count) await recorded.next('tokenSessions');
};

/** Calls that keep sessions busy until the fault is withdrawn. */
const busy = (shim: Pkcs11Shim, { sign }: Opened) => {
  const fault = shim.addFault({ in: 'C_Sign', does: 'hang', stored: true });
  const calls = Array.from({ length: 80 }, () => sign());
  return {
    end: async (): Promise<void> => {
      fault.withdraw();
      assert.equal((await Promise.all(calls)).length, 80);
    },
  };
};

const works = async ({ sign }: Opened): Promise<void> => {
  assert.equal((await sign()).length, 64);
};

const isSettled = async (promise: Promise<unknown>): Promise<boolean> =>
  Promise.race([promise.then(() => true), new Promise<boolean>((resolve) => setImmediate(() => resolve(false)))]);

test('a smaller limit is reached once what is above it is idle, and no call is lost by it', async () => {
  await using opened = await openWith('smaller');
  const { shim, token } = opened;
  const load = busy(shim, opened);
  await sessionsAre(opened, 2);
  const limited = token.limitSessions(2);
  assert.equal(await isSettled(limited), false, 'two sessions beside that of the login are busy');
  await load.end();
  await limited;
  assert.equal(token.info().sessions, 1);
  // With two sessions, that of the login included, the module may refuse a third.
  shim.setRules({ maxSessions: { count: 2, ckr: SESSION_COUNT } });
  await Promise.all(Array.from({ length: 80 }, () => opened.sign()));
  assert.deepEqual(
    opened.recorded.seen.filter(({ name }) => name === 'tokenSessionFailed'),
    [],
    'none above the limit was asked for',
  );
});

test('a larger limit is opened on demand', async () => {
  await using opened = await openWith('larger', { sessionLimit: 2 });
  const { shim, token } = opened;
  const first = busy(shim, opened);
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(token.info().sessions, 1);
  await token.limitSessions(3);
  await sessionsAre(opened, 2);
  await first.end();
  await token.limitSessions(undefined);
  await works(opened);
});

test('without two sessions there is no token process; with them it is back', async () => {
  await using opened = await openWith('none');
  const { token, recorded } = opened;
  const under = Array.from({ length: 20 }, () => opened.sign());
  const outcomes = Promise.allSettled(under);
  await token.limitSessions(1);
  for (const outcome of await outcomes) {
    if (outcome.status === 'rejected') assert.equal(outcome.reason.code, 'HSM_UNAVAILABLE');
  }
  assert.equal(token.pid(), undefined);
  assert.equal(token.health().state, 'paused');
  await assert.rejects(opened.sign(), { code: 'HSM_UNAVAILABLE' });
  await token.limitSessions(0);
  await token.limitSessions(2);
  if (token.health().state !== 'ready') await recorded.next('tokenReady');
  await works(opened);
  assert.equal(recorded.seen.filter(({ name }) => name === 'tokenLoginRefused').length, 0);
});

test('a process that is paused closes for good', async () => {
  const opened = await openWith('closed');
  const token: Token = opened.token;
  await token.limitSessions(0);
  await token.close();
  assert.equal(token.health().state, 'closed');
});
