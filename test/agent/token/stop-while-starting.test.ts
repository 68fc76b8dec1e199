// The agent stops, or pauses the token, while a process is being started anew: the process ends, and whoever waits for that
// is told.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { systemClock } from '../../../agent/clock.ts';
import { Dispatcher } from '../../../agent/token/dispatcher.ts';
import { Supervisor } from '../../../agent/token/supervisor.ts';
import { LIMITS } from '../../../agent/token/token-options.ts';
import { makeSoftHsm, type SoftHsm } from '../../support/softhsm.ts';
import { pinOf, recordTokenEvents } from '../../support/token.ts';

let hsm: SoftHsm;
before(async () => {
  hsm = await makeSoftHsm();
});
after(() => hsm.dispose());

const within30s = <T>(what: string, promise: Promise<T>): Promise<T> => {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error(`waited 30 s for ${what}`)), 30_000);
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
};

/** Killed, and started again up to where the second process is logged in and its self-test is being written down. */
const restarting = async () => {
  const { events, seen } = recordTokenEvents();
  const writing = Promise.withResolvers<void>();
  const written = Promise.withResolvers<void>();
  let cache: string | undefined;
  let writes = 0;
  const dispatcher = new Dispatcher({
    sessions: 1,
    acquireTimeoutMs: 1000,
    boundPerTenant: 10,
    idleSessionMs: LIMITS.idleSessionMs,
    budgets: { operation: LIMITS.operationMs, generate: LIMITS.generateMs, open: LIMITS.startMs },
    clock: systemClock,
    events,
    admit: () => {},
    condemn: (reason) => supervisor.condemn(reason),
  });
  const config = { library: hsm.library, tokenLabel: hsm.label, slotIndex: 0, disabledMechanisms: [] };
  const environment = { PATH: '/usr/bin:/bin', ...hsm.env };
  const supervisor = new Supervisor({
    child: { config, sessions: 1, environment, events },
    pin: pinOf(hsm),
    startTimeoutMs: LIMITS.startMs,
    stopTimeoutMs: LIMITS.stopMs,
    recoveryMs: LIMITS.recoveryMs,
    dispatcher,
    events,
    readCache: async () => cache && `${cache} `, // the same to the process, and not the text that it gives back
    writeCache: async (text) => {
      cache = text;
      writes += 1;
      if (writes < 2) return;
      writing.resolve();
      await written.promise;
    },
  });
  await supervisor.start();
  process.kill(supervisor.pid as number, 'SIGKILL');
  await within30s('the second start', writing.promise);
  const pids = seen.filter(({ name }) => name === 'tokenStarted').map(({ event }) => (event as { pid: number }).pid);
  return { supervisor, second: pids.at(-1) as number, goOn: () => written.resolve() };
};

const isAlive = (pid: number): boolean => {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
};

const isSettled = async (promise: Promise<unknown>): Promise<boolean> =>
  Promise.race([promise.then(() => true), new Promise<boolean>((resolve) => setImmediate(() => resolve(false)))]);

test('closed after the login of a restart, before the process serves, it ends the process and itself', async () => {
  const { supervisor, second, goOn } = await restarting();
  const closed = supervisor.close();
  goOn();
  await within30s('the end of the supervisor', closed);
  assert.equal(supervisor.state, 'closed');
  assert.equal(isAlive(second), false);
});

test('paused during a restart it says that there is no process only once there is none', async () => {
  const { supervisor, second, goOn } = await restarting();
  const paused = supervisor.pause();
  assert.equal(await isSettled(paused), false, 'the process is logged in');
  goOn();
  await within30s('the pause', paused);
  assert.equal(isAlive(second), false);
  await within30s('the end of the supervisor', supervisor.close());
});
