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
