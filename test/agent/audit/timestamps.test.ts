// Microseconds of records: of the host's clock, whatever it does, and in order.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { Timestamps } from '../../../agent/audit/timestamps.ts';

const START = Date.parse('2026-11-24T07:26:37.000Z');

/** A host with a true time in microseconds, whose clock tells whole milliseconds and may be set. */
const aHost = (options: { micros?: number; knownFromStart?: boolean } = {}) => {
  const { micros = 0, knownFromStart = true } = options;
  const host = { true: START * 1000 + micros, running: 5_000_000 };
  const times = new Timestamps({
    clock: { now: () => Math.floor(host.true / 1000) },
    monotonic: {
      timeOrigin: knownFromStart ? (host.true - host.running) / 1000 : 0,
      now: () => host.running / 1000,
    },
  });
  return {
    pass: (by: number): void => {
      host.true += by;
      host.running += by;
    },
    set: (by: number): void => {
      host.true += by;
    },
    next: (): number => {
      const text = times.next();
      assert.match(text, /^2026-11-24T\d\d:\d\d:\d\d\.\d{6}Z$/);
      return Date.parse(`${text.slice(0, -4)}Z`) * 1000 + Number(text.slice(-4, -1));
    },
    get time(): number {
      return host.true;
    },
  };
};

describe('the time of a record', () => {
  test('is the microsecond of the host, also of a quiet agent', () => {
    const host = aHost({ micros: 123_456 });
    for (const wait of [0, 17, 5_000_333, 60_000_001]) {
      host.pass(wait);
      assert.ok(Math.abs(host.next() - host.time) <= 1, `${host.next()} at ${host.time}`);
    }
  });

  test('on this machine is the clock of this machine, and not a whole millisecond every time', () => {
    const times = new Timestamps({ clock: { now: () => Date.now() } });
    const seen = new Set<string>();
    for (let count = 0; count < 20; count += 1) {
      const before = Date.now();
      const time = times.next();
      const after = Date.now();
      const millisecond = Date.parse(`${time.slice(0, -4)}Z`);
      assert.ok(before <= millisecond && millisecond <= after, time);
      seen.add(time.slice(-4, -1));
      for (const until = performance.now() + 0.7; performance.now() < until; );
    }
    assert.ok(seen.size > 3, [...seen].join());
  });

  test('follows a clock that is set forward, or far back, at once', () => {
    const host = aHost({ micros: 500 });
    host.next();
    for (const step of [3_600_000_000, -7_200_000_000, 1_500]) {
      host.set(step);
      host.pass(10);
      assert.ok(Math.abs(host.next() - host.time) < 1000);
    }
  });

  test('stays where a small correction takes the clock back, until the clock is there again', () => {
    const host = aHost({ micros: 10_250 });
    const before = host.next();
    host.set(-5_000);
    host.pass(1_000);
    assert.equal(host.next(), before);
    host.pass(4_100);
    const after = host.next();
    assert.ok(after > before && Math.abs(after - host.time) < 1000);
  });

  test('comes ever nearer to the true microsecond where it was not known at first', () => {
    const host = aHost({ micros: 700, knownFromStart: false });
    let error = 1000;
    for (let count = 0; count < 400; count += 1) {
      error = Math.abs(host.next() - host.time);
      host.pass(1_013);
    }
    assert.ok(error <= 20, `${error} microseconds off`);
  });

  test('is within the millisecond of the clock and in order, whatever the clock does', () => {
    const step = fc.record({ pass: fc.nat({ max: 3_000 }), set: fc.constantFrom(0, 0, 0, 0, 900, 40_000_000) });
    fc.assert(
      fc.property(
        fc.array(step, { maxLength: 50 }),
        fc.nat({ max: 999 }),
        fc.boolean(),
        (steps, micros, knownFromStart) => {
          const host = aHost({ micros, knownFromStart });
          let last = 0;
          for (const { pass, set } of steps) {
            host.pass(pass);
            host.set(set);
            const time = host.next();
            assert.equal(Math.floor(time / 1000), Math.floor(host.time / 1000));
            assert.ok(time >= last);
            last = time;
          }
        },
      ),
    );
  });
});
