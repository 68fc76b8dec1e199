import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { test } from 'node:test';
import { EXIT, type ProcessLike, watchProcess } from '../../agent/lifecycle.ts';

class Exited extends Error {}

const setUp = (drainMs = 60_000) => {
  const emitter = new EventEmitter();
  const seen: string[] = [];
  const fakeProcess = Object.assign(emitter, {
    exit: (code: number): never => {
      seen.push(`exit ${code}`);
      throw new Exited();
    },
  });
  const lifecycle = watchProcess({
    process: fakeProcess as unknown as ProcessLike,
    drainMs,
    events: {
      stopping: ({ signal }) => void seen.push(`stopping ${signal}`),
      forced: ({ reason }) => void seen.push(`forced: ${reason}`),
      uncaught: ({ error }) => void seen.push(`uncaught ${(error as Error).message}`),
    },
    reload: () => void seen.push('reload'),
    flush: () => void seen.push('flush'),
    abandon: () => void seen.push('abandon'),
  });
  return { emitter, seen, lifecycle };
};

test('the first SIGTERM or SIGINT ends with 0 and forces nothing', async () => {
  for (const signal of ['SIGTERM', 'SIGINT']) {
    const { emitter, seen, lifecycle } = setUp();
    emitter.emit(signal);
    assert.equal(await lifecycle.ended, EXIT.ok);
    assert.deepEqual(seen, [`stopping ${signal}`]);
    lifecycle[Symbol.dispose]();
    assert.equal(emitter.listenerCount(signal), 0);
  }
});

test('a second signal exits at once, after the log is flushed', () => {
  const { emitter, seen } = setUp();
  emitter.emit('SIGTERM');
  assert.throws(() => emitter.emit('SIGINT'), Exited);
  assert.deepEqual(seen, ['stopping SIGTERM', 'forced: a second SIGINT', 'abandon', 'flush', `exit ${EXIT.forced}`]);
});

test('a drain that does not end is cut off at its deadline', (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] });
  const { emitter, seen } = setUp(20_000);
  emitter.emit('SIGTERM');
  context.mock.timers.tick(19_999);
  assert.deepEqual(seen, ['stopping SIGTERM']);
  assert.throws(() => context.mock.timers.tick(1), Exited);
  assert.deepEqual(seen.at(-1), `exit ${EXIT.forced}`);
});

test('SIGHUP reloads and ends nothing', () => {
  const { emitter, seen } = setUp();
  emitter.emit('SIGHUP');
  emitter.emit('SIGHUP');
  assert.deepEqual(seen, ['reload', 'reload']);
});

test('an uncaught error is logged, flushed, and ends the process with a failure', async () => {
  const { emitter, seen, lifecycle } = setUp();
  emitter.emit('uncaughtException', new Error('boom'));
  emitter.emit('unhandledRejection', new Error('again'));
  assert.equal(await lifecycle.ended, EXIT.failure);
  assert.deepEqual(seen, ['uncaught boom', 'flush', 'uncaught again', 'flush']);
});
