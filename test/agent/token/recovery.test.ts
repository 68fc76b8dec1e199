// The token is away for a while: one process looks for it, without a PIN and at no cost to it, and serves when it is back.
// Through the shim of test/hsm/shim.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { openToken, type Token } from '../../../agent/token/token.ts';
import { callOf, rejectsWith } from '../../contract/token.ts';
import { makePkcs11Shim, type Pkcs11Shim } from '../../support/pkcs11-shim.ts';
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
  await hsm.dispose();
});

const BOUNDED = { timeout: 30_000 };

const setUp = async () => {
  const recorded = recordTokenEvents();
  let asked = 0;
  const options = softHsmOptions(hsm, recorded.events);
  const pin = (): Promise<Buffer> => {
    asked += 1;
    return options.pin();
  };
  const limits = { recoveryMs: 200 };
  const token = await openToken({ ...options, library: shim.library, pin, limits });
  const count = (name: string): number => recorded.seen.filter((row) => row.name === name).length;
  return { token, recorded, count, asked: () => asked };
};

/** Removes the token and makes it known: the first call is told so, and the process is replaced. */
const lose = async (token: Token, ckr: number): Promise<void> => {
  shim.removeToken(ckr);
  await rejectsWith(token.random(16, callOf()), 'HSM_UNAVAILABLE');
};

const failures = async (recorded: ReturnType<typeof recordTokenEvents>, times: number): Promise<void> => {
  for (let seen = 0; seen < times; seen += 1) await recorded.next('tokenStartFailed');
};

for (const [name, ckr] of [
  ['CKR_DEVICE_REMOVED', 0x32],
  ['CKR_TOKEN_NOT_PRESENT', 0xe0],
] as const) {
  test(`away by ${name}: one process looks for it, and is given the PIN when it is back`, BOUNDED, async () => {
    const { token, recorded, count, asked } = await setUp();
    await using _ = token;
    const [logins, processes] = [shim.calls('C_Login'), count('tokenStarted')];
    const missed = failures(recorded, 3);
    await lose(token, ckr);
    await missed;
    await rejectsWith(token.random(16, callOf()), 'HSM_UNAVAILABLE');
    assert.equal(token.health().healthy, false);
    assert.deepEqual([asked(), shim.calls('C_Login') - logins], [1, 0], 'the PIN was asked for in vain');
    const ready = recorded.next('tokenReady');
    shim.returnToken();
    await ready;
    assert.equal((await token.random(16, callOf())).length, 16);
    assert.equal(asked(), 2);
    assert.equal(shim.calls('C_Login') - logins, 1);
    assert.equal(count('tokenStarted') - processes, 1, 'it took more than one process');
  });
}

test(
  'a process that has looked five times in vain is replaced, as the library may have to be loaded anew',
  BOUNDED,
  async () => {
    const { token, recorded, count } = await setUp();
    await using _ = token;
    const processes = count('tokenStarted');
    const missed = failures(recorded, 7);
    await lose(token, 0xe0);
    await missed;
    assert.equal(count('tokenStarted') - processes, 2);
    const ready = recorded.next('tokenReady');
    shim.returnToken();
    await ready;
    assert.equal((await token.random(16, callOf())).length, 16);
  },
);

test('a session that cannot be opened is no reason to ask for the PIN', BOUNDED, async () => {
  const { token, recorded, asked } = await setUp();
  await using _ = token;
  const fault = shim.addFault({ in: 'C_OpenSession', does: { return: 0xb1 } });
  const missed = failures(recorded, 2);
  process.kill(token.pid() as number, 'SIGKILL');
  await missed;
  assert.equal(asked(), 1);
  const ready = recorded.next('tokenReady');
  fault.withdraw();
  await ready;
  assert.equal(asked(), 2);
});

test(
  'a token that is lost in its self-test is tested again, and not believed to lack what it could not show',
  BOUNDED,
  async () => {
    const { token, recorded } = await setUp();
    await using _ = token;
    const abilities = token.abilities();
    const fault = shim.addFault({ in: 'C_Sign', does: 'lose-session', times: 1 });
    const [missed, ready] = [recorded.next('tokenStartFailed'), recorded.next('tokenReady')];
    process.kill(token.pid() as number, 'SIGKILL');
    assert.match((await missed).detail, /lost in its self-test/);
    await ready;
    fault.withdraw();
    assert.deepEqual(token.abilities(), abilities);
  },
);

test(
  'a user who is said to be logged in already and is not makes no token ready, and locks nothing out',
  BOUNDED,
  async () => {
    const { token, recorded } = await setUp();
    await using _ = token;
    const abilities = token.abilities();
    const fault = shim.addFault({ in: 'C_Login', does: { return: 0x100 }, times: 1 });
    const [missed, ready] = [recorded.next('tokenStartFailed'), recorded.next('tokenReady')];
    process.kill(token.pid() as number, 'SIGKILL');
    assert.match((await missed).detail, /logged in already/);
    await ready;
    fault.withdraw();
    assert.deepEqual(token.abilities(), abilities);
  },
);

test(
  'a library that forgot its client in a time without calls is initialised anew, and the call served',
  BOUNDED,
  async () => {
    const { token, recorded, count } = await setUp();
    await using _ = token;
    await token.random(16, callOf());
    shim.setRules({ idleMs: 100 });
    await sleep(150);
    const processes = count('tokenStarted');
    const noticed = recorded.next('tokenRestarting').then(() => shim.setRules({})); // a busy machine is silent for longer
    assert.equal((await token.random(16, callOf())).length, 16);
    await noticed;
    assert.equal(count('tokenStarted') - processes, 1);
  },
);

test('closing while a process looks for its token ends it', BOUNDED, async () => {
  const { token, recorded, count } = await setUp();
  const missed = failures(recorded, 2);
  await lose(token, 0xe0);
  await missed;
  await token.close();
  shim.returnToken();
  assert.equal(count('tokenExited'), count('tokenStarted'), 'a process was left');
});
