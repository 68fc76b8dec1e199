// How much of the time in the library its thread computes, in place of waiting for a device: what tells a library that is
// the token itself from one that stands for hardware. The kernel's count moves on in ticks of some milliseconds, so it
// is looked at over windows.

const WINDOW_MICROS = 50_000; // in the library

export class Computing {
  #micros = 0;
  #before = process.threadCpuUsage();
  #share = 0;

  /** Of a call of so many microseconds, those in which it computed: by the share of the last whole window. */
  of(micros: number): number {
    this.#micros += micros;
    if (this.#micros >= WINDOW_MICROS) {
      const { user, system } = process.threadCpuUsage(this.#before);
      this.#share = Math.min(1, (user + system) / this.#micros);
      this.#before = process.threadCpuUsage();
      this.#micros = 0;
    }
    return Math.round(micros * this.#share);
  }
}
