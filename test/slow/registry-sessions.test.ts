// Three real agents share a token that allows so many sessions over all of them, through a module that counts and refuses as
// an HSM does: under load, while hosts come, fall silent and go, and while the registry is gone, they never ask for more.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { MortiseClient } from '../../clients/typescript/index.ts';
import { type SessionBudget, SessionsServiceService } from '../../proto/gen/mortise/registry/v1/sessions.ts';
import { clientOf } from '../e2e/load.ts';
import type { RunningAgent } from '../support/agent.ts';
import { type Fleet, makeFleetOf } from '../support/fleet.ts';
import { makePkcs11Shim, type Pkcs11Shim } from '../support/pkcs11-shim.ts';
import { unary } from '../support/registry-client.ts';
import { RegistryProcess } from '../support/registry-process.ts';

const TOTAL = 14;
const RESERVE = 6; // two for each of three hosts that start
const LEASE_SECONDS = 3;
const WAIT_MS = 60_000; // with two cores for all of it
const SLOW_MS = 40; // so that the agent spreads its calls over all sessions that it may have
const AT_ONCE = 32;

let fleet: Fleet<RegistryProcess>;
let shim: Pkcs11Shim;
let token: { label: string; serial: string };
const agents = new Map<string, RunningAgent>();
const clients: MortiseClient[] = [];
const loads: Promise<void>[] = [];
const ending = new AbortController();

const until = async (what: string, holds: () => Promise<boolean> | boolean): Promise<void> => {
  const end = Date.now() + WAIT_MS;
  while (!(await holds())) {
    if (Date.now() > end) throw new Error(`never came about: ${what}; ${shim.openSessions()} sessions are open`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
};

/** Signs all the time on this host; refusals are for other tests. */
const load = async (client: MortiseClient): Promise<void> => {
  const one = async (): Promise<void> => {
    while (!ending.signal.aborted) await client.sign('signer', { message: Buffer.from('m') }).catch(() => undefined);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, one));
};

const start = async (host: string): Promise<RunningAgent> => {
  const agent = await fleet.agent(host, { env: { PKCS11_LIBRARY_PATH: shim.library } });
  agents.set(host, agent);
  const client = clientOf(agent, 'acme', { retry: false });
  clients.push(client);
  return agent;
};

const begin = (at: number): void => {
  loads.push(load(clients[at] as MortiseClient));
};

const budget = async (): Promise<SessionBudget> => {
  const { budgets } = await unary(fleet.registry.admin, SessionsServiceService.listBudgets, {});
  assert.ok(budgets[0] !== undefined);
  return budgets[0];
};

/** Resolves when the hosts have these shares and hold no more. */
const sharesAre = (wanted: Readonly<Record<string, number>>): Promise<void> =>
  until(`shares of ${JSON.stringify(wanted)}`, async () => {
    const { shares } = await budget();
    return Object.entries(wanted).every(([host, share]) =>
      shares.some((row) => row.host === host && row.share === share && row.held === share),
    );
  });

before(async () => {
  fleet = await makeFleetOf({ tenants: ['acme'], makeRegistry: (anchor) => RegistryProcess.make(anchor) });
  const folder = join(fleet.token.folder, 'shim');
  shim = await makePkcs11Shim({ folder, real: fleet.token.library, rules: { allSessions: { count: TOTAL } } });
});
after(async () => {
  ending.abort();
  await Promise.all(loads);
  for (const client of clients) client.close();
  await fleet?.[Symbol.asyncDispose]();
  shim?.close();
});

test('1: a host has the whole budget, and opens it on demand', async () => {
  const agent = await start('host-a');
  const [client] = clients as [MortiseClient];
  await client.keys.create({ keyId: 'signer', purpose: 'sign', algorithm: 'EC-P256' });
  const status = await clientOf(agent, 'acme', { retry: false }).status();
  const { label = '', serial = '' } = status.token ?? {};
  token = { label, serial };
  const request = { token, total: TOTAL, reserve: RESERVE, leaseSeconds: LEASE_SECONDS };
  await unary(fleet.registry.admin, SessionsServiceService.setBudget, request);
  await sharesAre({ 'host-a': TOTAL - RESERVE });
  shim.addFault({ in: 'C_Sign', does: { delayMs: SLOW_MS } });
  begin(0);
  await until('all of the share open', () => shim.openSessions() === TOTAL - RESERVE);
});

test('2: shares shrink as hosts join, and grow again when one is killed and its lease is over', async () => {
  await start('host-b');
  begin(1);
  await sharesAre({ 'host-a': 4, 'host-b': 4 });
  await start('host-c');
  begin(2);
  await until('a share of two at least for each', async () => {
    const { shares } = await budget();
    const sum = shares.reduce((all, { held }) => all + held, 0);
    return shares.length === 3 && shares.every(({ share, held }) => share >= 2 && held === share) && sum === 8;
  });
  await agents.get('host-b')?.end('SIGKILL');
  // What it falls back to stays its own; the others divide the rest.
  await sharesAre({ 'host-a': 3, 'host-c': 3 });
  assert.equal((await budget()).shares.find(({ host }) => host === 'host-b')?.state, 'lapsed');
  const forget = { token, host: 'host-b' };
  await unary(fleet.registry.admin, SessionsServiceService.forgetShare, forget);
  await sharesAre({ 'host-a': 4, 'host-c': 4 });
  await until('all of the shares open', () => shim.openSessions() === 8);
});

test('3: once their leases are over hosts go on with the fallback, and take up their shares when the registry is back', async () => {
  const since = ['host-a', 'host-c'].map((host) => agents.get(host)?.logs.length ?? 0);
  await fleet.registry.stop();
  await until('the fallback', () => shim.openSessions() === 4);
  for (const [at, host] of ['host-a', 'host-c'].entries()) {
    const agent = agents.get(host) as RunningAgent;
    await agent.logged(({ msg }) => msg.startsWith('the lease of sessions is over'), since[at] ?? 0);
    const { tokens } = await clientOf(agent, 'acme', { retry: false }).status();
    assert.match(tokens[0]?.detail ?? '', /the lease of sessions is over, 2 are kept/);
    assert.equal(tokens[0]?.healthy, true);
  }
  await (clients[0] as MortiseClient).sign('signer', { message: Buffer.from('m') });
  await fleet.registry.start();
  await sharesAre({ 'host-a': 4, 'host-c': 4 });
  await until('all of the shares open', () => shim.openSessions() === 8);
});

test('4: with a budget too small for all the last host is without a token, says so, and works again with a larger one', async () => {
  const set = (total: number) => {
    const request = { token, total, reserve: 0, leaseSeconds: LEASE_SECONDS };
    return unary(fleet.registry.admin, SessionsServiceService.setBudget, request);
  };
  await set(3);
  await sharesAre({ 'host-a': 3, 'host-c': 0 });
  const last = agents.get('host-c') as RunningAgent;
  const told = /no sessions for this host: the registry's budget of 3 for 2 hosts is too small/;
  await until('that the last host says why it is without', async () => {
    const { tokens } = await clientOf(last, 'acme', { retry: false }).status();
    return tokens[0]?.healthy === false && told.test(tokens[0].detail); // it may have asked before the other one was back
  });
  await until('nothing open on the last host', () => shim.openSessions() <= 3);
  await set(8);
  await sharesAre({ 'host-a': 4, 'host-c': 4 });
  await until('the last host signs', async () => {
    const signed = (clients[2] as MortiseClient).sign('signer', { message: Buffer.from('m') });
    return signed.then(() => true).catch(() => false);
  });
});

test('5: a host that is stopped says so, and never were more sessions open than the module allows, nor asked for', async () => {
  await agents.get('host-c')?.end('SIGTERM');
  assert.equal((await budget()).shares.find(({ host }) => host === 'host-c')?.state, 'leaving');
  assert.ok(shim.mostSessions() <= TOTAL, `${shim.mostSessions()} of ${TOTAL}`);
  for (const [host, { logs }] of agents) {
    const refused = logs.filter(({ msg }) => msg === 'token session failed' || msg === 'token cannot be reached');
    assert.deepEqual(refused, [], host);
  }
});
