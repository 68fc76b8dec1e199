// What commands print: tidy text for people, or one JSON document with stable names for programs.
import type { Envelope } from '../typescript/index.ts';

const dateText = (date: Date): string => date.toISOString().replace(/\.000Z$/, 'Z');

/**
 * A value as it stands in the JSON output: bytes in base64url, times in RFC 3339, numbers beyond 2^53 as text, what is
 * undefined left out.
 */
export const jsonText = (value: unknown): string =>
  `${JSON.stringify(
    value,
    (_, item: unknown) => {
      if (typeof item === 'bigint') return Number.isSafeInteger(Number(item)) ? Number(item) : String(item);
      if (item instanceof Uint8Array) return Buffer.from(item).toString('base64url');
      // Buffer and Date have a toJSON that runs before this function.
      const buffer = item as { type?: unknown; data?: unknown } | null;
      if (typeof item === 'object' && buffer?.type === 'Buffer' && Array.isArray(buffer.data)) {
        return Buffer.from(buffer.data as number[]).toString('base64url');
      }
      return item;
    },
    2,
  )}\n`;

type Cell = string | number | boolean | Date | undefined;

// A name from another side (a key's label, a principal) must not move the cursor or hide text.
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it is about
const CONTROL = /[\u0000-\u001f\u007f-\u009f]/g;

/** A value in a line of text. */
export const cellText = (cell: Cell): string => {
  if (cell === undefined || cell === '') return '-';
  if (cell instanceof Date) return dateText(cell);
  if (typeof cell === 'boolean') return cell ? 'yes' : 'no';
  return String(cell).replace(CONTROL, '?');
};

/** Names and values, one a line; rows without a value are left out. */
export const factsText = (facts: readonly (readonly [name: string, value: Cell])[]): string => {
  const rows = facts.filter(([, value]) => value !== undefined && value !== '');
  const width = Math.max(0, ...rows.map(([name]) => name.length));
  return rows.map(([name, value]) => `${name.padEnd(width)}  ${cellText(value)}\n`).join('');
};

/** A table with a head; columns as wide as they need to be. */
export const tableText = (head: readonly string[], rows: readonly (readonly Cell[])[]): string => {
  const lines = [head, ...rows.map((row) => row.map(cellText))];
  const widths = head.map((_, column) => Math.max(...lines.map((line) => (line[column] ?? '').length)));
  return lines
    .map((line) => `${line.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  ')}`.trimEnd())
    .map((line) => `${line}\n`)
    .join('');
};

/** One line on what did the work, for standard error. */
export const envelopeText = (envelope: Envelope): string => {
  const { keyUsed, algorithmUsed } = envelope;
  const key = keyUsed === undefined ? envelope.keyRequested : `${keyUsed.keyId} version ${keyUsed.version}`;
  return `${cellText(key)}, ${cellText(algorithmUsed)}`;
};

export const warningsText = (warnings: Envelope['warnings']): string =>
  warnings.map(({ code, message }) => `warning ${cellText(code)}: ${cellText(message)}\n`).join('');
