// What HSMs do to their clients, done to a token under load of two tenants while a third is on a token of its own. The bars
// of every fault: the agent stays the same process; callers are told to try again or are served; service is back by itself;
// each answer is in the audit trail once; the third tenant sees nothing. Through the shim's rules, not on hardware.
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { after, before, type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { FaultOptions } from '../support/pkcs11-shim.ts';
import { BEHIND_SHIM, RETRYABLE, startFaultStand } from './support/fault-stand.ts';

let stand: Awaited<ReturnType<typeof startFaultStand>>;
before(async () => {
  stand = await startFaultStand({ platform: { checkSignatures: true } });
});
after(async () => {
  await stand?.[Symbol.asyncDispose]();
});

let broken: string | undefined;
/** Of each fault, how long after its end both tenants had been served. */
const servedMs: number[] = [];

/** Runs a fault under load; then service has to be back, and nobody may have been told anything but to try again. */
const under = async (t: TestContext, act: () => Promise<void> | void): Promise<void> => {
  if (broken !== undefined) throw new Error(`not tried: "${broken}" was not survived`);
  broken = t.name;
  const from = BEHIND_SHIM.map((tenant) => stand.answers[tenant].length);
  await stand.more(5);
  await act();
  const ms = await stand.untilServed();
  servedMs.push(ms);
  t.diagnostic(`served again after ${ms} ms`);
  await stand.more(10);
  broken = undefined;
  BEHIND_SHIM.forEach((tenant, at) => {
    const told = [...new Set(stand.answers[tenant].slice(from[at]).map(({ outcome }) => outcome))];
    assert.deepEqual(
      told.filter((code) => !RETRYABLE.has(code)),
      [],
      `${tenant} was told ${told}`,
    );
  });
};

/** Withdraws the fault when it has met, or where it has no end after a while. */
const faulty = async (fault: FaultOptions, whileMs = 0): Promise<void> => {
  const { fired, withdraw } = stand.shim.addFault(fault);
  for (let waited = 0; fired() < (fault.times ?? 1) && waited < 30_000; waited += 20) await sleep(20);
  assert.ok(fired() > 0, 'the fault met no call');
  await sleep(whileMs);
  withdraw();
};

test('sessions are lost one by one', (t) =>
  under(t, () => faulty({ in: '*', stored: true, does: 'lose-session', times: 10 })));

for (const ckr of [0xb3, 0xb0, 0x101]) {
  test(`every session is lost at once, and calls answer 0x${ckr.toString(16)}`, (t) =>
    under(t, () => stand.shim.loseSessions(ckr)));
}

for (const [name, ckr, awayMs] of [
  ['CKR_DEVICE_REMOVED', 0x32, 500],
  ['CKR_TOKEN_NOT_PRESENT', 0xe0, 4000],
  ['CKR_DEVICE_ERROR', 0x30, 2000],
] as const) {
  test(`the token is removed for ${awayMs} ms (${name}), and comes back`, (t) =>
    under(t, async () => {
      stand.shim.removeToken(ckr);
      await stand.more(5, 'HSM_UNAVAILABLE');
      await sleep(awayMs);
      stand.shim.returnToken();
    }));
}

test('the library has forgotten its client (CKR_CRYPTOKI_NOT_INITIALIZED)', (t) =>
  under(t, () => stand.shim.forgetClient()));

test('a call takes half of its budget', (t) =>
  under(t, () => faulty({ in: 'C_Sign', stored: true, times: 3, does: { delayMs: 500 } })));

for (const [name, fault] of [
  ['takes six times its budget', { in: 'C_Sign', does: { delayMs: 6000 } }],
  ['never comes back', { in: 'C_Decrypt', does: 'hang' }],
] as const) {
  test(`a call ${name}`, (t) =>
    under(t, async () => {
      const from = stand.agent.logs.length;
      const { withdraw } = stand.shim.addFault({ ...fault, stored: true, times: 1 });
      await stand.logged('token process hangs and is killed', from);
      await stand.logged('token is ready', from);
      withdraw();
    }));
}

test('no call comes back for five seconds', (t) =>
  under(t, () => faulty({ in: '*', stored: true, does: 'hang' }, 5000)));

for (const does of ['segv', 'abort'] as const) {
  for (const name of ['C_Sign', 'C_Encrypt', 'C_FindObjects'] as const) {
    test(`the library ends by ${does} inside ${name}`, (t) =>
      under(t, () => {
        const met = faulty({ in: name, times: 1, does, ...(name !== 'C_FindObjects' && { stored: true }) });
        if (name === 'C_FindObjects') stand.killToken(); // a session looks for each key once
        return met;
      }));
  }
}

test('the library crashes in every call for three seconds', (t) =>
  under(t, () => faulty({ in: '*', stored: true, does: 'segv' }, 3000)));

test('signatures of the token are wrong: none leaves, as policy has them checked', (t) =>
  under(t, async () => {
    const fault = stand.shim.addFault({ in: 'C_Sign', stored: true, does: 'corrupt', times: 40 });
    const told = new Set<string>();
    while (fault.fired() < 40) {
      const outcome = await stand.once('acme', 'sign', async (client, correlationId) => {
        const { jws } = await client.sign('signer', { message: Buffer.from('right or not at all') }, { correlationId });
        assert.equal((await stand.patient.acme.verify({ jws })).valid, true, 'a wrong signature has left');
      });
      told.add(outcome);
    }
    fault.withdraw();
    assert.ok(told.has('HSM_UNAVAILABLE'));
    assert.ok(stand.agent.logs.some(({ msg }) => msg.startsWith('token gave a wrong result')));
  }));

test('a login takes three seconds', (t) =>
  under(t, async () => {
    const from = stand.agent.logs.length;
    const { withdraw } = stand.shim.addFault({ in: 'C_Login', does: { delayMs: 3000 } });
    stand.killToken();
    await stand.logged('token is ready', from);
    withdraw();
  }));

test('sessions cannot be opened for two seconds', (t) =>
  under(t, async () => {
    const { withdraw } = stand.shim.addFault({ in: 'C_OpenSession', does: { return: 0xb1 } });
    stand.killToken();
    await sleep(2000);
    withdraw();
  }));

test('the token allows fewer sessions than the pool has', (t) =>
  under(t, async () => {
    stand.shim.setRules({ maxSessions: { count: 2 } });
    stand.killToken();
    await stand.more(20);
    stand.shim.setRules({});
  }));

test('half of the objects are missing for three seconds, as while an HA group synchronises', (t) =>
  under(t, async () => {
    stand.shim.hideHalf(true);
    await sleep(3000);
    stand.shim.hideHalf(false);
  }));

test('the PIN was rotated: it is refused once, and the new one taken up by itself', (t) =>
  under(t, async () => {
    const [from, refused] = [stand.agent.logs.length, stand.shim.refusedLogins()];
    stand.shim.changePin('rotated-1');
    stand.killToken();
    await stand.agent.logged(({ msg }) => msg.startsWith('token refused the PIN'), from);
    await sleep(3000); // in which a wrong PIN would be tried again, were it tried
    assert.equal(stand.shim.refusedLogins(), refused + 1, 'one attempt with the old PIN');
    await writeFile(stand.hsm.pinFile, 'rotated-1\n', { mode: 0o600 });
    await stand.logged('token is ready', from);
    assert.equal(stand.shim.refusedLogins(), refused + 1);
  }));

test('in the end: every answer is in the trail once, the logs verify, and the other tenant saw nothing', async (t) => {
  await stand.settle();
  const sorted = servedMs.toSorted((a, b) => a - b);
  const median = sorted[sorted.length >> 1];
  t.diagnostic(
    `both tenants were served again after ${median} ms in the median of ${sorted.length} faults, ${sorted.at(-1)} ms at most`,
  );
});
