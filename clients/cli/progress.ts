// A bar for people who wait: bytes, rate and time left, on a terminal only. Invariant: nothing of it is left on the line.
import type { Io } from './io.ts';

const REDRAW_MS = 100;
const BAR_WIDTH = 24;
const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'] as const;

export const sizeText = (bytes: number): string => {
  const power = bytes < 1024 ? 0 : Math.min(UNITS.length - 1, Math.floor(Math.log2(bytes) / 10));
  return `${(bytes / 1024 ** power).toFixed(power === 0 ? 0 : 1)} ${UNITS[power]}`;
};

const timeText = (seconds: number): string => {
  const whole = Math.ceil(seconds);
  const minutes = Math.floor(whole / 60);
  const two = (value: number): string => String(value).padStart(2, '0');
  return minutes < 60
    ? `${minutes}:${two(whole % 60)}`
    : `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${two(whole % 60)}`;
};

/** One line; without a size there is no bar and no time left. */
export const progressText = (done: number, size: number | undefined, elapsedMs: number): string => {
  const rate = elapsedMs > 0 ? (done / elapsedMs) * 1000 : 0;
  const speed = `${sizeText(rate)}/s`;
  if (size === undefined || size === 0) return `${sizeText(done)}  ${speed}`;
  const part = Math.min(1, done / size);
  const filled = Math.floor(part * BAR_WIDTH);
  const bar = `[${'#'.repeat(filled)}${'.'.repeat(BAR_WIDTH - filled)}]`;
  const left = rate > 0 ? `  ${timeText(Math.max(0, size - done) / rate)} left` : '';
  return `${bar} ${Math.floor(part * 100)} %  ${sizeText(done)} of ${sizeText(size)}  ${speed}${left}`;
};

/** The pieces as they are, with the bar while they pass. */
export async function* withProgress(
  io: Io,
  pieces: AsyncIterable<Buffer>,
  size: number | undefined,
): AsyncGenerator<Buffer> {
  if (io.stderr.isTTY !== true) return yield* pieces;
  const startedAt = performance.now();
  let done = 0;
  let drawnAt = 0;
  try {
    for await (const piece of pieces) {
      yield piece;
      done += piece.length;
      const now = performance.now();
      if (now - drawnAt < REDRAW_MS) continue;
      drawnAt = now;
      io.stderr.write(`\r\u001b[K${progressText(done, size, now - startedAt)}`);
    }
  } finally {
    io.stderr.write('\r\u001b[K');
  }
}

/** A line that says how far a count has come; on a terminal only, and nothing of it is left. */
export class CountProgress {
  readonly #io: Io;
  readonly #enabled: boolean;
  readonly #doing: string;
  #drawnAt = Number.NEGATIVE_INFINITY;
  readonly #startedAt = performance.now();

  constructor({ io, enabled, doing }: { readonly io: Io; readonly enabled: boolean; readonly doing: string }) {
    this.#io = io;
    this.#enabled = enabled && io.stderr.isTTY === true;
    this.#doing = doing;
  }

  show(done: number, size: number | undefined, more = ''): void {
    const now = performance.now();
    if (!this.#enabled || now - this.#drawnAt < REDRAW_MS) return;
    this.#drawnAt = now;
    this.#io.stderr.write(
      `\r\u001b[K${countText(this.#doing, { done, size, elapsedMs: now - this.#startedAt })}${more}`,
    );
  }

  clear(): void {
    if (this.#enabled) this.#io.stderr.write('\r\u001b[K');
  }
}

export const countText = (
  doing: string,
  { done, size, elapsedMs }: { readonly done: number; readonly size: number | undefined; readonly elapsedMs: number },
): string => {
  if (size === undefined || size === 0) return `${doing} ${done}`;
  const part = Math.min(1, done / size);
  const filled = Math.floor(part * BAR_WIDTH);
  const bar = `[${'#'.repeat(filled)}${'.'.repeat(BAR_WIDTH - filled)}]`;
  const left = done > 0 ? `  ${timeText(((elapsedMs / done) * Math.max(0, size - done)) / 1000)} left` : '';
  return `${doing} ${bar} ${Math.floor(part * 100)} %${left}`;
};
