// Runs work for a while and measures it: in a closed loop with so many in flight, or at a pace whatever is in flight.
import { setTimeout as sleep } from 'node:timers/promises';
import { quantile } from './statistics.ts';

export interface Load {
  readonly operations: number;
  /** Operations per second. */
  readonly rate: number;
  /** Milliseconds. */
  readonly p50: number;
  readonly p99: number;
  /** Of the process that ran it, microseconds per operation. */
  readonly cpu: number;
}

const WARM_PART = 0.25; // of the time measured, before it

const summary = (latencies: readonly number[], ms: number, before: NodeJS.CpuUsage): Load => {
  const { user, system } = process.cpuUsage(before);
  return {
    operations: latencies.length,
    rate: (latencies.length / ms) * 1000,
    p50: quantile(latencies, 0.5),
    p99: quantile(latencies, 0.99),
    cpu: (user + system) / latencies.length,
  };
};

/** `inFlight` callers, each of which waits for its answer before it asks again. */
export const closedLoop = async (run: () => Promise<unknown>, inFlight: number, ms: number): Promise<Load> => {
  const loop = async (forMs: number, latencies: number[]): Promise<number> => {
    const startedAt = performance.now();
    const caller = async (): Promise<void> => {
      for (;;) {
        const from = performance.now();
        if (from - startedAt >= forMs) return;
        await run();
        latencies.push(performance.now() - from);
      }
    };
    await Promise.all(Array.from({ length: inFlight }, caller));
    return performance.now() - startedAt;
  };
  await loop(ms * WARM_PART, []);
  const before = process.cpuUsage();
  const latencies: number[] = [];
  const took = await loop(ms, latencies);
  return summary(latencies, took, before);
};

/** The same for work that does not give up the thread. */
export const blockingLoop = (run: () => unknown, ms: number): Load => {
  const loop = (forMs: number, latencies: number[]): number => {
    const startedAt = performance.now();
    let from = startedAt;
    while (from - startedAt < forMs) {
      run();
      const to = performance.now();
      latencies.push(to - from);
      from = to;
    }
    return from - startedAt;
  };
  loop(ms * WARM_PART, []);
  const before = process.cpuUsage();
  const latencies: number[] = [];
  const took = loop(ms, latencies);
  return summary(latencies, took, before);
};

/** Asks at random moments, `perSecond` times on average, without waiting for answers. */
export const openLoop = async (run: () => Promise<unknown>, perSecond: number, ms: number): Promise<Load> => {
  const latencies: number[] = [];
  const before = process.cpuUsage();
  const startedAt = performance.now();
  const pending = new Set<Promise<void>>();
  const one = async (): Promise<void> => {
    const from = performance.now();
    await run();
    latencies.push(performance.now() - from);
  };
  let next = startedAt;
  while (performance.now() - startedAt < ms) {
    next += (-Math.log(1 - Math.random()) / perSecond) * 1000;
    await sleep(Math.max(0, next - performance.now()));
    const asked = one().finally(() => pending.delete(asked));
    pending.add(asked);
  }
  await Promise.all(pending);
  return summary(latencies, performance.now() - startedAt, before);
};
