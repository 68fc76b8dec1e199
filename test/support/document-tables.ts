// The tables of docs/ that come from the code. `node test/support/document-tables.ts` writes them anew; a test compares.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { variables } from '../../agent/config/env.ts';
import { FIELDS } from '../../agent/telemetry/log-fields.ts';
import { METRICS } from '../../agent/telemetry/names.ts';
import { variables as registryVariables } from '../../registry/config/env.ts';
import { METRICS as REGISTRY_METRICS } from '../../registry/telemetry/names.ts';

const DOCS = join(import.meta.dirname, '../../docs');

const table = (head: readonly string[], rows: readonly (readonly string[])[]): string =>
  [head, head.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n');

/** An example that is a phrase or a path inside another variable says where the value is from. */
const IS_SOURCE = /^(the |set by |<)/;

const shownDefault = (row: { default: string | undefined; example: string | undefined }): string => {
  if (row.default !== undefined) return `\`${row.default}\``;
  if (row.example === undefined) return 'not set';
  if (!IS_SOURCE.test(row.example)) return `not set; for example \`${row.example}\``;
  return row.example.startsWith('<') ? `\`${row.example}\`` : row.example;
};

const variableTable = (rows: ReturnType<typeof variables> | ReturnType<typeof registryVariables>): string =>
  table(
    ['variable', 'default', 'meaning'],
    rows.map((row) => {
      const choices =
        row.choices === undefined ? '' : ` One of ${row.choices.map((word) => `\`${word}\``).join(', ')}.`;
      return [`\`${row.name}\``, shownDefault(row), `${row.description.replaceAll('<', '&lt;')}${choices}`];
    }),
  );

const metricTable = (rows: typeof METRICS | typeof REGISTRY_METRICS): string =>
  table(
    ['metric', 'type', 'labels', 'meaning'],
    Object.values(rows).map(({ name, type, labels, help }) => [
      `\`${name}\``,
      type,
      labels.length === 0 ? '' : labels.map((label: string) => `\`${label}\``).join(', '),
      help,
    ]),
  );

const fieldTable = (): string =>
  table(
    ['field', 'meaning'],
    Object.entries(FIELDS).map(([name, meaning]) => [`\`${name}\``, meaning]),
  );

/** Document → table → its text. */
export const TABLES: Readonly<Record<string, Readonly<Record<string, () => string>>>> = {
  'configuration.md': { variables: () => variableTable(variables()) },
  'telemetry.md': { metrics: () => metricTable(METRICS), fields: fieldTable },
  'registry.md': {
    variables: () => variableTable(registryVariables()),
    metrics: () => metricTable(REGISTRY_METRICS),
  },
};

/** The document with its tables put in place; throws where a table has no place. */
export const withTables = (name: string): { readonly before: string; readonly after: string } => {
  const before = readFileSync(join(DOCS, name), 'utf8');
  let after = before;
  for (const [title, text] of Object.entries(TABLES[name] ?? {})) {
    const place = new RegExp(`(<!-- table: ${title} -->\n)[\\s\\S]*?(<!-- end of table -->)`);
    if (!place.test(after)) throw new Error(`docs/${name} has no place for the table "${title}"`);
    after = after.replace(place, (_, start: string, end: string) => `${start}${text()}\n${end}`);
  }
  return { before, after };
};

if (import.meta.main) {
  for (const name of Object.keys(TABLES)) writeFileSync(join(DOCS, name), withTables(name).after);
}
