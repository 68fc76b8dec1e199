// The worker threads of slow signatures: turns, bounds, and that a call that ends takes its thread with it. No times are
// asserted, only orders; SLH-DSA-SHAKE-256s signs for a second, long enough to be caught in the middle.
import assert from 'node:assert/strict';
import { createCipheriv, createSecretKey, randomBytes } from 'node:crypto';
import { type TestContext, test } from 'node:test';
import type { SlowCall } from '../../../agent/crypto/post-quantum/slow-worker.ts';
import type { SlowTask } from '../../../agent/crypto/post-quantum/tasks.ts';
import { WorkerPool } from '../../../agent/crypto/post-quantum/worker-pool.ts';
import { AgentError, type Code } from '../../../agent/errors.ts';
import { PQ_SIGNATURES } from '../../../proto/documents/pq-signatures.ts';

const open = (t: TestContext, maxWaitingPerTenant?: number): WorkerPool => {
  const bound = maxWaitingPerTenant === undefined ? {} : { maxWaitingPerTenant };
  const pool = new WorkerPool({ clock: { now: () => Date.now() }, size: 1, ...bound });
  t.after(() => pool.close());
  return pool;
};
const callOf = (tenant: string, change: Partial<SlowCall> = {}): SlowCall => ({
  tenant,
  deadline: Date.now() + 60_000,
  signal: new AbortController().signal,
  ...change,
});
/** Any private bytes will do: a wrong root only makes signatures that do not verify. */
const taskOf = (algorithm = 'SLH-DSA-SHA2-128f'): SlowTask => ({
  kind: 'sign',
  algorithm,
  material: Uint8Array.from(randomBytes(PQ_SIGNATURES.get(algorithm)?.privateBytes ?? 0)),
  message: Uint8Array.from(randomBytes(32)),
  context: new Uint8Array(),
});
const SLOWEST = 'SLH-DSA-SHAKE-256s';
const rejects = (promise: Promise<unknown>, code: Code) =>
  assert.rejects(promise, (error) => error instanceof AgentError && error.code === code);

test('tenants take turns, whoever asked first', async (t) => {
  const pool = open(t);
  const order: string[] = [];
  const sign = async (tenant: string, name: string) => {
    await pool.run(callOf(tenant), (ask) => {
      order.push(name);
      return ask(taskOf());
    });
  };
  await Promise.all([
    sign('acme', 'a1'),
    sign('acme', 'a2'),
    sign('acme', 'a3'),
    sign('acme', 'a4'),
    sign('bond', 'b1'),
    sign('bond', 'b2'),
  ]);
  assert.deepEqual(order, ['a1', 'a2', 'b1', 'a3', 'b2', 'a4']);
});

test('other work goes on while signatures are made back to back', async (t) => {
  const pool = open(t);
  const signatures = [1, 2].map(() => pool.run(callOf('acme'), (ask) => ask(taskOf(SLOWEST))));
  const done: string[] = [];
  for (const signature of signatures) void signature.then(() => done.push('signature'));
  const key = createSecretKey(randomBytes(32));
  for (let round = 0; round < 20; round += 1) {
    await new Promise((resolve) => setImmediate(resolve));
    const cipher = createCipheriv('aes-256-gcm', key, randomBytes(12));
    cipher.update(randomBytes(64));
    cipher.final();
    done.push('aes');
  }
  assert.deepEqual(
    done.slice(0, 20),
    Array.from({ length: 20 }, () => 'aes'),
  );
  await Promise.all(signatures);
});

test('the deadline ends a task under way, and the next call gets a new thread', async (t) => {
  const pool = open(t);
  const late = callOf('acme', { deadline: Date.now() + 300 });
  const endless = pool.run(late, async (ask) => {
    for (;;) await ask(taskOf(SLOWEST));
  });
  await rejects(endless, 'DEADLINE_EXCEEDED');
  const signature = await pool.run(callOf('acme'), (ask) => ask(taskOf()));
  assert.equal(signature.length, PQ_SIGNATURES.get('SLH-DSA-SHA2-128f')?.signatureBytes);
});

test('cancelling ends a task under way, and one that waits', async (t) => {
  const pool = open(t);
  const [first, second] = [new AbortController(), new AbortController()];
  let started: () => void = () => undefined;
  const running = new Promise<void>((resolve) => {
    started = resolve;
  });
  const working = pool.run(callOf('acme', { signal: first.signal }), (ask) => {
    started();
    return ask(taskOf(SLOWEST));
  });
  await running;
  const waiting = pool.run(callOf('acme', { signal: second.signal }), () => assert.fail('its turn never comes'));
  second.abort();
  await rejects(waiting, 'CANCELLED');
  first.abort();
  await rejects(working, 'CANCELLED');
  assert.ok((await pool.run(callOf('acme'), (ask) => ask(taskOf()))).length > 0);
});

test('a call that is over is not begun', async (t) => {
  const pool = open(t);
  const never = () => assert.fail('was begun');
  await rejects(pool.run(callOf('acme', { deadline: Date.now() - 1 }), never), 'DEADLINE_EXCEEDED');
  await rejects(pool.run(callOf('acme', { signal: AbortSignal.abort() }), never), 'CANCELLED');
});

test('only so many calls of a tenant wait; those of others still do', async (t) => {
  const pool = open(t, 2);
  const calls = ['acme', 'acme', 'acme'].map((tenant) => pool.run(callOf(tenant), (ask) => ask(taskOf())));
  await rejects(
    pool.run(callOf('acme'), () => assert.fail('there was no place')),
    'OVERLOADED',
  );
  await Promise.all([...calls, pool.run(callOf('bond'), (ask) => ask(taskOf()))]);
});

test('secrets are handed over, not copied', async (t) => {
  const pool = open(t);
  const task = taskOf();
  await pool.run(callOf('acme'), (ask) => ask(task));
  assert.equal(task.kind === 'sign' ? task.material.byteLength : -1, 0);
});

test('a task that cannot be done fails alone', async (t) => {
  const pool = open(t);
  const wrong: SlowTask = { ...taskOf(), algorithm: 'none' };
  await rejects(
    pool.run(callOf('acme'), (ask) => ask(wrong)),
    'INTERNAL',
  );
  assert.ok((await pool.run(callOf('acme'), (ask) => ask(taskOf()))).length > 0);
});

test('closing ends what is under way and what waits, and takes nothing more', async (t) => {
  const pool = open(t);
  const working = pool.run(callOf('acme'), (ask) => ask(taskOf(SLOWEST)));
  const waiting = pool.run(callOf('acme'), (ask) => ask(taskOf(SLOWEST)));
  const ended = [rejects(working, 'SHUTTING_DOWN'), rejects(waiting, 'SHUTTING_DOWN')];
  await new Promise((resolve) => setImmediate(resolve));
  await pool.close();
  await Promise.all(ended);
  await rejects(
    pool.run(callOf('acme'), (ask) => ask(taskOf())),
    'SHUTTING_DOWN',
  );
});
