// What the documents say of variables, metrics, log fields, error codes and exit codes is what the code has.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { CODES } from '../../agent/errors.ts';
import { EXIT } from '../../agent/lifecycle.ts';
import { TABLES, withTables } from '../support/document-tables.ts';

const doc = (name: string): string => readFileSync(join(import.meta.dirname, '../../docs', name), 'utf8');

for (const name of Object.keys(TABLES)) {
  test(`the tables of docs/${name} are those of the code (node test/support/document-tables.ts writes them)`, () => {
    const { before, after } = withTables(name);
    assert.ok(before.split('\n').filter((line) => line.startsWith('| `')).length > 20, 'found rows');
    assert.equal(before, after);
  });
}

test('docs/errors.md has every code with its status and whether a repeat may help', () => {
  const rows = [...doc('errors.md').matchAll(/^\| `([A-Z_]+)` \| `([A-Z_]+)` \| (yes|no) \| (.+) \| (.+) \|$/gm)];
  const written = rows.map(([, code, grpc, retry, text]) => [code, grpc, retry, text]);
  const table = Object.entries(CODES).map(([code, row]) => [code, row.grpc, row.retry ? 'yes' : 'no', row.text]);
  assert.ok(table.length > 20);
  assert.deepEqual(written.sort(), table.sort());
});

test('docs/operations.md has every exit code of the agent', () => {
  const rows = [...doc('operations.md').matchAll(/^\| (\d+) \| `(\w+)` \|/gm)].map(([, code, name]) => [
    name,
    Number(code),
  ]);
  assert.deepEqual(Object.fromEntries(rows), { ...EXIT });
});
