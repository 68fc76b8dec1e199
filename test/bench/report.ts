// The outcome of a run as text: for the terminal, for docs/performance.md, and as JSON.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { BarResult } from './bars.ts';
import type { Table } from './run.ts';

const DOCUMENT = join(import.meta.dirname, '../../docs/performance.md');

export interface Report {
  readonly machine: readonly (readonly [string, string])[];
  readonly method: string;
  readonly bars: readonly BarResult[];
  readonly tables: readonly Table[];
}

const digits = (value: number): string => {
  if (!Number.isFinite(value)) return '–';
  if (value >= 1000) return Math.round(value).toLocaleString('en');
  return value.toFixed(value >= 100 ? 0 : value >= 10 ? 1 : 2);
};

const markdown = ({ head, rows }: Pick<Table, 'head' | 'rows'>): string => {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  return [line(head), line(head.map((_, column) => (column === 0 ? '---' : '--:'))), ...rows.map(line)].join('\n');
};

const barTable = (bars: readonly BarResult[]): Pick<Table, 'head' | 'rows'> => ({
  head: ['measure', 'measured', 'ratio, median', 'spread', 'bar', 'holds'],
  rows: bars.map(({ name, value, unit, ratio, spread, bar, holds, note }) => [
    note === undefined ? name : `${name} (${note})`,
    `${digits(value)} ${unit}`,
    digits(ratio),
    spread.map(digits).join('–'),
    bar,
    holds ? 'yes' : '**no**',
  ]),
});

export const asText = ({ machine, method, bars, tables }: Report): string =>
  [
    markdown({ head: ['', ''], rows: machine }),
    method,
    '### Bars',
    markdown(barTable(bars)),
    ...tables.flatMap((table) => [`### ${table.title}`, markdown(table), ...table.notes]),
  ].join('\n\n');

/** Puts the outcome in its place in the document; what people wrote round it stays. */
export const store = (report: Report, command = 'npm run bench'): void => {
  const [begin, end] = [`<!-- ${command} -->`, `<!-- /${command} -->`];
  const document = readFileSync(DOCUMENT, 'utf8');
  const [before, rest] = document.split(begin);
  const after = rest?.split(end)[1];
  if (before === undefined || after === undefined) throw new Error(`${DOCUMENT} lacks its markers`);
  writeFileSync(DOCUMENT, `${before}${begin}\n\n${asText(report)}\n\n${end}${after}`);
};

export const asJson = (bars: readonly BarResult[]): string => `${JSON.stringify(bars, null, 2)}\n`;
