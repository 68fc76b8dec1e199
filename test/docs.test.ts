// The documents hold what they promise: links resolve, and every test that a claim names exists.
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { stateTable } from './support/state-table.ts';

const ROOT = join(import.meta.dirname, '..');

const documents = [
  ...readdirSync(ROOT).filter((name) => name.endsWith('.md')),
  ...readdirSync(join(ROOT, 'docs'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.md'))
    .map((name) => join('docs', name)),
];
const read = (file: string): string => readFileSync(join(ROOT, file), 'utf8');

test('every relative link leads to a file', () => {
  assert.ok(documents.length >= 5, `saw only ${documents}`);
  const broken: string[] = [];
  let links = 0;
  for (const file of documents) {
    for (const [, target = ''] of read(file).matchAll(/\]\(([^)\s#]+)(?:#[^)]*)?\)/g)) {
      if (/^[a-z]+:/.test(target)) continue;
      links += 1;
      if (!existsSync(join(ROOT, dirname(file), target))) broken.push(`${file} → ${target}`);
    }
  }
  assert.ok(links > 5, `saw only ${links} links`);
  assert.deepEqual(broken, []);
});

test('every test that a document names exists under that title', () => {
  const missing: string[] = [];
  let claims = 0;
  for (const file of documents) {
    for (const [, path = '', title = ''] of read(file).matchAll(/`(test\/[\w./-]+\.(?:ts|py)) › ([^`]+)`/g)) {
      claims += 1;
      if (!existsSync(join(ROOT, path)) || !read(path).includes(title)) missing.push(`${file}: ${path} › ${title}`);
    }
  }
  assert.ok(claims > 20, `saw only ${claims} claims`);
  assert.deepEqual(missing, []);
});

test('every mitigation of the threat model names a test that proves it', () => {
  const rows = read('docs/threat-model.md')
    .split('\n')
    .filter((line) => line.startsWith('| M'));
  assert.ok(rows.length > 15, `saw only ${rows.length} mitigations`);
  assert.deepEqual(
    rows.filter((row) => !/`test\/[\w./-]+ › /.test(row)),
    [],
  );
});

test('the state tables of docs/architecture.md are those of the code', () => {
  const [, shown] = /<!-- state-table -->\n([\s\S]*?)<!-- \/state-table -->/.exec(read('docs/architecture.md')) ?? [];
  assert.equal(shown?.trim(), stateTable().trim());
});
