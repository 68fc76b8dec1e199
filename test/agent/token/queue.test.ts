// Fairness between tenants, in the queue alone and before a real token.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { Costs } from '../../../agent/token/costs.ts';
import { FairQueue } from '../../../agent/token/queue.ts';
import { openToken } from '../../../agent/token/token.ts';
import { callOf, rejectsWith } from '../../contract/token.ts';
import { makePkcs11Shim } from '../../support/pkcs11-shim.ts';
import { makeSoftHsm } from '../../support/softhsm.ts';
import { openSoftHsmToken, recordTokenEvents, softHsmOptions } from '../../support/token.ts';

const drainOf = <T>(queue: FairQueue<T>, costOf: (item: T) => number = () => 1): T[] => {
  const out: T[] = [];
  for (let item = queue.shift(costOf); item !== undefined; item = queue.shift(costOf)) out.push(item);
  return out;
};

test('a late single call is served next, whatever another tenant has waiting', () => {
  const queue = new FairQueue<string>({ boundPerTenant: 1000 });
  for (let index = 0; index < 500; index += 1) queue.push('flood', `flood-${index}`);
  for (let index = 0; index < 10; index += 1) queue.shift(() => 1);
  queue.push('quiet', 'quiet');
  assert.ok([queue.shift(() => 1), queue.shift(() => 1)].includes('quiet'));
});

test('tenants get the same time, not the same number of calls', () => {
  const queue = new FairQueue<{ cost: number }>({ boundPerTenant: 1000 });
  for (let index = 0; index < 500; index += 1) {
    queue.push('a', { cost: 10 });
    queue.push('b', { cost: 1 });
  }
  const first = Array.from({ length: 220 }, () => queue.shift(({ cost }) => cost));
  const slow = first.filter((item) => item?.cost === 10).length;
  assert.ok(slow >= 18 && slow <= 22, `${slow} slow calls among 220`);
});

test('a tenant that was idle has saved nothing up', () => {
  const queue = new FairQueue<{ tenant: string }>({ boundPerTenant: 1000 });
  const push = (tenant: string): boolean => queue.push(tenant, { tenant });
  push('idle');
  for (let index = 0; index < 300; index += 1) push('busy');
  for (let index = 0; index < 200; index += 1) queue.shift(() => 1);
  for (let index = 0; index < 100; index += 1) push('idle');
  const next = Array.from({ length: 20 }, () => queue.shift(() => 1)?.tenant);
  assert.ok(next.filter((tenant) => tenant === 'busy').length >= 9, String(next));
});

test('holds no more than the bound per tenant, in order, and loses nothing', () => {
  const step = fc.oneof(
    fc.record({ push: fc.constantFrom('a', 'b', 'c') }),
    fc.constant({ shift: true }),
    fc.record({ remove: fc.constantFrom('a', 'b', 'c') }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const queue = new FairQueue<{ tenant: string; number: number }>({ boundPerTenant: 5 });
      const model = new Map<string, { tenant: string; number: number }[]>([['a', []], ['b', []], ['c', []]]); // biome-ignore format: a table
      let number = 0;
      for (const one of steps) {
        if ('push' in one) {
          const item = { tenant: one.push, number };
          number += 1;
          const row = model.get(one.push) ?? [];
          assert.equal(queue.push(one.push, item), row.length < 5);
          if (row.length < 5) row.push(item);
        } else if ('remove' in one) {
          const item = model.get(one.remove)?.pop();
          if (item !== undefined) assert.ok(queue.remove(one.remove, item));
        } else {
          const item = queue.shift(() => 3);
          const first = item === undefined ? undefined : model.get(item.tenant)?.shift();
          assert.deepEqual(item, first);
        }
        const total = [...model.values()].reduce((sum, row) => sum + row.length, 0);
        assert.equal(queue.length, total);
        assert.equal([...queue].length, total);
      }
      assert.equal(drainOf(queue).length, [...model.values()].flat().length);
    }),
    { numRuns: 200 },
  );
});

test('many tenants that came once are forgotten', () => {
  const queue = new FairQueue<number>({ boundPerTenant: 1 });
  for (let index = 0; index < 5000; index += 1) {
    queue.push(`tenant-${index}`, index);
    assert.equal(
      queue.shift(() => 1),
      index,
    );
  }
  assert.equal(queue.length, 0);
});

test('costs are learned, key generation apart, and nonsense names do not grow them', () => {
  const costs = new Costs({ processors: 2 });
  for (let round = 0; round < 200; round += 1) costs.learn('sign PS256', 900);
  costs.learn('generate', 5_000_000);
  assert.ok(Math.abs(costs.of('sign PS256') - 900) < 1);
  assert.ok(costs.typical > 890 && costs.typical < 910, String(costs.typical));
  for (let index = 0; index < 1000; index += 1) costs.learn(`sign ${index}`, 7_777);
  assert.equal(costs.of('sign 999'), costs.of('never seen'));
});

test('sessions follow what calls take, and whether this host computes them or waits', () => {
  const learned = (micros: number, computing: number): number => {
    const costs = new Costs({ processors: 4 });
    for (let round = 0; round < 200; round += 1) costs.learn('sign ES256', micros, computing);
    return costs.sessions(10);
  };
  assert.equal(learned(40, 38), 1, 'short and computed: a second session only contends');
  assert.equal(learned(600, 590), 4, 'long and computed: a session for each processor');
  assert.equal(learned(90, 15), 2, 'a near device');
  assert.equal(learned(2000, 20), 10, 'a far device: the whole pool');
  assert.equal(learned(1200, 590), 10, 'what waits for most of its time');
  const costs = new Costs({ processors: 4 });
  for (let round = 0; round < 200; round += 1) costs.learn('sign ES256', 600, 590);
  assert.equal(costs.sessions(3), 3, 'never more than the pool');
});

test('a flood of one tenant does not starve another before the real token', async () => {
  await using hsm = await makeSoftHsm();
  await using token = await openSoftHsmToken(hsm);
  const { tokenId } = await token.generate({ algorithm: 'EC-P256', purpose: 'sign', label: 'flood' }, callOf());
  const order: string[] = [];
  const sign = (tenant: string): Promise<void> =>
    token.sign(tokenId, 'ES256', randomBytes(32), callOf(tenant)).then(() => void order.push(tenant));
  const flood = Array.from({ length: 1000 }, () => sign('flood'));
  const quiet = Array.from({ length: 10 }, () => sign('quiet'));
  await Promise.all([...flood, ...quiet]);
  assert.ok(order.lastIndexOf('quiet') < 150, `the last of the quiet tenant came at ${order.lastIndexOf('quiet')}`);
});

test('a tenant over its bound is told to come back, others are not', async () => {
  await using hsm = await makeSoftHsm();
  const shim = await makePkcs11Shim({ folder: join(hsm.folder, 'shim'), real: hsm.library });
  const recorded = recordTokenEvents();
  const options = { ...softHsmOptions(hsm, recorded.events), library: shim.library, sessions: 1 };
  await using token = await openToken({ ...options, limits: { waitingPerTenant: 5 }, acquireTimeoutMs: 1500 });
  const { tokenId } = await token.generate({ algorithm: 'EC-P256', purpose: 'sign', label: 'bound' }, callOf());
  const waiting = shim.addFault({ in: 'C_Sign', does: 'hang', stored: true });
  const inTheToken = Array.from({ length: 32 }, () => token.sign(tokenId, 'ES256', randomBytes(32), callOf('filler')));
  const busy = await Promise.allSettled(Array.from({ length: 8 }, () => token.random(4, callOf('greedy'))));
  for (const row of busy) {
    assert.ok(row.status === 'rejected');
    assert.equal(row.reason.code, 'HSM_BUSY');
    assert.ok(row.reason.retryAfterMs > 0);
  }
  await rejectsWith(token.random(4, callOf('other')), 'HSM_BUSY'); // no session was free in time
  await rejectsWith(token.random(4, callOf('hurry', { deadline: Date.now() + 20 })), 'DEADLINE_EXCEEDED');
  waiting.withdraw();
  await Promise.all(inTheToken);
  assert.equal((await token.random(4, callOf('greedy'))).length, 4);
  shim.close();
});
