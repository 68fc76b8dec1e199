// The cheap part of what is held of the charts: their YAML is YAML, and their schemas take their own defaults. They are
// rendered and judged by test/slow/helm-charts.test.ts.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { Ajv } from 'ajv';

const CHARTS = join(import.meta.dirname, '../helm');
const charts = readdirSync(CHARTS, { withFileTypes: true }).filter((row) => row.isDirectory());
const PARSE =
  'import json, sys, yaml; print(json.dumps([list(yaml.safe_load_all(open(path))) for path in sys.argv[1:]]))';

const parse = (...paths: string[]): unknown[][] =>
  JSON.parse(execFileSync('/usr/bin/python3', ['-c', PARSE, ...paths], { encoding: 'utf8', timeout: 30_000 }));

test('the charts are those of the registry, the agent, the sidecar and an example that includes it', () => {
  assert.deepEqual(charts.map(({ name }) => name).sort(), [
    'example-application',
    'mortise-agent',
    'mortise-registry',
    'mortise-sidecar',
  ]);
  const { version } = JSON.parse(readFileSync(join(CHARTS, '../package.json'), 'utf8'));
  for (const documents of parse(...charts.map(({ name }) => join(CHARTS, name, 'Chart.yaml')))) {
    assert.equal((documents[0] as { version: string }).version, version, 'all have the version of the project');
  }
});

test('the defaults of a chart are YAML that its schema takes, and the schema refuses what it does not know', () => {
  let seen = 0;
  for (const { name } of charts) {
    const schema = join(CHARTS, name, 'values.schema.json');
    if (!existsSync(schema)) continue;
    const judge = new Ajv({ allErrors: true, strictTypes: false }).compile(JSON.parse(readFileSync(schema, 'utf8')));
    const [[values] = []] = parse(join(CHARTS, name, 'values.yaml'));
    assert.ok(judge(values), `${name}: ${JSON.stringify(judge.errors)}`);
    assert.ok(!judge({ ...(values as object), misspelt: true }), name);
    seen += 1;
  }
  assert.equal(seen, 3);
});

test('the static pod of the KMS plugin is one manifest', () => {
  const [documents] = parse(join(CHARTS, 'kms-static-pod.yaml'));
  assert.deepEqual(
    documents?.map((row) => (row as { kind: string }).kind),
    ['Pod'],
  );
});
