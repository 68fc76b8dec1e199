// How much of the time in the library its thread computes, and how much it waits for a processor; the rest it waits for a
// device. It tells a library that is the token itself from one that stands for hardware. The kernel's counts are looked at
// over windows of time, because they move on in ticks of some milliseconds.
import { readFileSync } from 'node:fs';

const WINDOW_MICROS = 50_000; // in the library
const SCHEDSTAT = '/proc/thread-self/schedstat'; // nanoseconds on a processor, nanoseconds ready to be on one, slices

/** Microseconds since the thread began. */
export interface ThreadTimes {
  readonly computed: number;
  /** Ready to compute while others had the processors. */
  readonly starved: number;
}

export const threadTimes = (path = SCHEDSTAT): ThreadTimes => {
  try {
    const [ran, waited] = readFileSync(path, 'latin1').split(' ').map(Number) as [number, number];
    return { computed: ran / 1000, starved: waited / 1000 };
  } catch {
    const { user, system } = process.threadCpuUsage(); // a kernel without scheduler statistics
    return { computed: user + system, starved: 0 };
  }
};

export class Computing {
  readonly #times: () => ThreadTimes;
  #micros = 0;
  #before: ThreadTimes;
  #share: ThreadTimes = { computed: 0, starved: 0 };

  constructor(times: () => ThreadTimes = threadTimes) {
    this.#times = times;
    this.#before = times();
  }

  /** Of a call of so many microseconds, those in which it computed or was starved: by the last whole window. */
  of(micros: number): ThreadTimes {
    this.#micros += micros;
    if (this.#micros >= WINDOW_MICROS) {
      const now = this.#times();
      const starved = Math.min(1, (now.starved - this.#before.starved) / this.#micros);
      const computed = Math.min(1 - starved, (now.computed - this.#before.computed) / this.#micros);
      this.#share = { computed, starved };
      this.#before = now;
      this.#micros = 0;
    }
    const { computed, starved } = this.#share;
    return { computed: Math.round(micros * computed), starved: Math.round(micros * starved) };
  }
}
