// Session budgets: hosts together never have more than the total, whoever comes, goes, falls silent or loses an answer.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Clock } from '../../../agent/clock.ts';
import { SessionBudgets } from '../../../registry/sessions/budgets.ts';
import { divided, MARGIN_MS } from '../../../registry/sessions/division.ts';
import type { BudgetRow, SessionsStore, TokenName } from '../../../registry/sessions/store.ts';

const TOKEN: TokenName = { label: 'partition-1', serial: '4711' };
const LEASE_SECONDS = 60;
const LEASE_MS = LEASE_SECONDS * 1000;
const OTHERS_LEASE_MS = LEASE_MS + MARGIN_MS;

const inMemory = (): SessionsStore => {
  const rows = new Map<string, BudgetRow>();
  return {
    sessionBudget: async ({ label, serial }) => rows.get(`${label}/${serial}`),
    sessionBudgets: async () => [...rows.values()],
    changeSessionBudget: async ({ label, serial }, change) => {
      const row = change(rows.get(`${label}/${serial}`));
      rows.set(`${label}/${serial}`, row);
      return row;
    },
  };
};

class TestClock implements Clock {
  ms = 1_764_000_000_000;
  now(): number {
    return this.ms;
  }
}

const open = async (total: number, reserve = 2) => {
  const clock = new TestClock();
  const told: string[] = [];
  const budgets = new SessionBudgets({
    store: inMemory(),
    clock,
    events: { sessionsLeased: ({ outcome }) => void told.push(outcome), budgetSet: () => undefined },
  });
  await budgets.set('root', TOKEN, { total, reserve, leaseSeconds: LEASE_SECONDS });
  return { budgets, clock, told };
};

/** A host as the agent is one: it opens up to its share, closes before it says so, and falls back after its lease. */
class ModelHost {
  readonly name: string;
  readonly #budgets: SessionBudgets;
  readonly #clock: TestClock;
  readonly #wanted: number;
  /** Sessions that it lets itself open: what is open is never more. */
  limit: number;
  /** What it has open: a smaller share is reached by closing. */
  open: number;
  #grant = 0;
  #leaseEnd: number;

  constructor(name: string, parts: { budgets: SessionBudgets; clock: TestClock; wanted?: number }) {
    this.name = name;
    this.#budgets = parts.budgets;
    this.#clock = parts.clock;
    this.#wanted = parts.wanted ?? 64;
    this.limit = 2;
    this.open = 2;
    this.#leaseEnd = parts.clock.ms + LEASE_MS;
  }

  get asked() {
    const { name: host, limit: held } = this;
    return { host, name: 'default', held, grant: this.#grant, wanted: this.#wanted, fallback: 2 };
  }

  /** `lost`: the answer does not come. */
  async ask({ lost = false } = {}): Promise<number> {
    this.lapse();
    const sentAt = this.#clock.ms;
    const lease = await this.#budgets.lease(TOKEN, this.asked);
    assert.ok(lease !== undefined);
    if (lost) return this.limit;
    this.#grant = lease.grant;
    this.#leaseEnd = sentAt + lease.leaseSeconds * 1000;
    this.limit = lease.share;
    this.open = lease.share;
    return lease.share;
  }

  lapse(): void {
    if (this.#clock.ms < this.#leaseEnd) return;
    this.limit = Math.min(this.limit, 2);
    this.open = Math.min(this.open, 2);
  }

  restart(): void {
    this.#grant = 0;
    this.limit = 2;
    this.open = 2;
  }
}

const settle = async (hosts: readonly ModelHost[]): Promise<number[]> => {
  for (let round = 0; round < 3; round += 1) for (const host of hosts) await host.ask();
  return hosts.map(({ limit }) => limit);
};

test('a share shrinks when hosts join, and what a host has not closed yet is given to nobody', async () => {
  const { budgets, clock, told } = await open(20);
  const [a, b] = ['a', 'b'].map((name) => new ModelHost(name, { budgets, clock })) as [ModelHost, ModelHost];
  await a.ask();
  assert.equal(await a.ask(), 18, 'all but the reserve');
  assert.equal(await b.ask(), 2, 'what it has anyway: the rest is still open on the first');
  assert.equal(await a.ask(), 9);
  assert.equal(await b.ask(), 2, 'the first has not said that it has closed the others');
  assert.equal(await a.ask(), 9);
  assert.equal(await b.ask(), 9);
  assert.ok(told.includes('grown') && told.includes('shrunk') && told.includes('kept'));
});

test('a host that leaves is divided among the others once it has had the time to close its sessions', async () => {
  const { budgets, clock } = await open(20);
  const [a, b] = ['a', 'b'].map((name) => new ModelHost(name, { budgets, clock })) as [ModelHost, ModelHost];
  assert.deepEqual(await settle([a, b]), [9, 9]);
  await budgets.leave(TOKEN, b.asked);
  assert.equal(await a.ask(), 9);
  assert.equal((await budgets.list())[0]?.shares.find(({ host }) => host === 'b')?.leaving, true);
  for (let passed = 0; passed < 2 * OTHERS_LEASE_MS; passed += LEASE_MS / 2) {
    clock.ms += LEASE_MS / 2;
    await a.ask();
  }
  assert.deepEqual(await settle([a]), [18]);
});

test('a silent host keeps its share until its lease is over, then what it falls back to, until it is forgotten', async () => {
  const { budgets, clock } = await open(20);
  const [a, b] = ['a', 'b'].map((name) => new ModelHost(name, { budgets, clock })) as [ModelHost, ModelHost];
  await settle([a, b]);
  clock.ms += LEASE_MS - 1;
  assert.deepEqual(await settle([a]), [9]);
  await assert.rejects(budgets.forget(TOKEN, 'b'), { code: 'INVALID_REQUEST' });
  clock.ms += MARGIN_MS + 1;
  assert.deepEqual(await settle([a]), [16]);
  const silent = (await budgets.list())[0]?.shares.find(({ host }) => host === 'b');
  assert.equal(silent?.held, 2);
  assert.equal(silent && budgets.stateOf(silent), 'lapsed');
  await budgets.forget(TOKEN, 'b');
  assert.deepEqual(await settle([a]), [18]);
  await assert.rejects(budgets.forget(TOKEN, 'b'), { code: 'HOST_UNKNOWN' });
});

test('where there are too few for all, those that were first have what it takes to work and the others nothing', async () => {
  const { budgets, clock, told } = await open(6, 0);
  const hosts = ['a', 'b', 'c', 'd'].map((name) => {
    clock.ms += 1;
    return new ModelHost(name, { budgets, clock });
  });
  for (const host of hosts) {
    clock.ms += 1;
    await host.ask();
  }
  assert.deepEqual(await settle(hosts), [2, 2, 2, 0]);
  assert.ok(told.includes('none'));
});

test('a host that wants less leaves the rest to the others', async () => {
  const { budgets, clock } = await open(32);
  const few = new ModelHost('few', { budgets, clock, wanted: 4 });
  const many = new ModelHost('many', { budgets, clock });
  assert.deepEqual(await settle([few, many]), [4, 26]);
});

test('one host does not fill the budget of a token with names', async () => {
  const { budgets, clock } = await open(1000);
  const host = new ModelHost('h-1', { budgets, clock });
  for (let at = 0; at < 64; at += 1) await budgets.lease(TOKEN, { ...host.asked, name: `n-${at}` });
  await assert.rejects(budgets.lease(TOKEN, { ...host.asked, name: 'n-64' }), { code: 'INVALID_REQUEST' });
  assert.ok(await budgets.lease(TOKEN, { ...host.asked, name: 'n-3' }), 'the names that it has go on');
  await new ModelHost('h-2', { budgets, clock }).ask();
});

test('a smaller total is reached as hosts ask, and without a budget nobody is limited', async () => {
  const { budgets, clock } = await open(20);
  const host = new ModelHost('a', { budgets, clock });
  await settle([host]);
  await budgets.set('root', TOKEN, { total: 8, reserve: 0, leaseSeconds: 0 });
  assert.deepEqual(await settle([host]), [8]);
  assert.equal(await budgets.set('root', TOKEN, { total: 0, reserve: 0, leaseSeconds: 0 }), undefined);
  assert.deepEqual(await budgets.list(), []);
  assert.equal(await budgets.lease(TOKEN, host.asked), undefined);
  for (const wrong of [
    { total: 200_000, reserve: 0, leaseSeconds: 0 },
    { total: 4, reserve: 5, leaseSeconds: 0 },
    { total: 4, reserve: 0, leaseSeconds: 1 },
  ]) {
    await assert.rejects(budgets.set('root', TOKEN, wrong), { code: 'INVALID_REQUEST' });
  }
});

test('shares are never more than there is, and nobody who is served has less than it takes to work', () => {
  const member = fc.record({ since: fc.nat(5), wanted: fc.integer({ min: 2, max: 40 }) });
  fc.assert(
    fc.property(fc.nat(200), fc.array(member, { minLength: 1, maxLength: 12 }), (available, rows) => {
      const members = rows.map((row, at) => ({ ...row, host: `h-${at}`, name: 'default' }));
      const shares = [...divided(available, members)];
      const sum = shares.reduce((all, [, share]) => all + share, 0);
      assert.ok(sum <= available);
      for (const [{ wanted }, share] of shares) assert.ok(share === 0 || (share >= 2 && share <= wanted));
      const most = members.reduce((all, { wanted }) => all + wanted, 0);
      const wasted = Math.min(available, most) - sum;
      assert.ok(wasted <= 0 || available < 2 * members.length, `${wasted} of ${available} are given to nobody`);
    }),
  );
});

test('whatever is lost, late, silent or started again, the hosts together never have more open than the total', async () => {
  const step = fc.record({
    at: fc.nat(4),
    does: fc.constantFrom('ask', 'ask', 'ask', 'lost', 'restart', 'wait', 'late'),
    ms: fc.nat(OTHERS_LEASE_MS),
  });
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 12, max: 60 }), fc.array(step, { maxLength: 80 }), async (total, steps) => {
      const { budgets, clock } = await open(total, 10);
      const hosts = Array.from({ length: 5 }, (_, at) => new ModelHost(`h-${at}`, { budgets, clock }));
      let question: ModelHost['asked'] | undefined;
      for (const { at, does, ms } of steps) {
        const host = hosts[at] as ModelHost;
        if (does === 'ask') await host.ask();
        else if (does === 'lost') await host.ask({ lost: true });
        else if (does === 'restart') host.restart();
        else if (does === 'wait') clock.ms += ms;
        else {
          // A question that was given up reaches the registry after later ones; nobody reads its answer.
          if (question !== undefined) await budgets.lease(TOKEN, question);
          question = host.asked;
        }
        for (const each of hosts) each.lapse();
        const sum = hosts.reduce((all, each) => all + each.open, 0);
        assert.ok(sum <= total, `${sum} of ${total} after ${does}`);
      }
    }),
    { numRuns: 200 },
  );
});
