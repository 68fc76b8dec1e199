// The alert rules and the dashboard ask for metrics and labels that exist, and send people to sections that exist.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { METRICS as AGENT } from '../agent/telemetry/names.ts';
import { METRICS as REGISTRY } from '../registry/telemetry/names.ts';

const ROOT = join(import.meta.dirname, '..');
const alerts = readFileSync(join(ROOT, 'docs/telemetry/alerts.yml'), 'utf8');
const dashboard = JSON.parse(readFileSync(join(ROOT, 'docs/telemetry/dashboard.json'), 'utf8')) as {
  panels: { type: string; title: string; targets?: { expr: string }[] }[];
};
const ROWS = new Map<string, { readonly labels: readonly string[] }>(
  [...Object.values(AGENT), ...Object.values(REGISTRY)].map((row) => [row.name, row]),
);
/** What Prometheus adds to every series, and histograms to theirs. */
const OWN_LABELS = ['instance', 'job', 'le'];

const checkExpression = (expression: string): number => {
  const names = [...expression.matchAll(/\b((?:mortise|registry)_[a-z_]+)/g)].map((match) => match[1] as string);
  const rows = names.map((name) => {
    const row = ROWS.get(name) ?? ROWS.get(name.replace(/_bucket$/, ''));
    assert.ok(row, `${name} is no metric: ${expression}`);
    return row;
  });
  const known = new Set([...OWN_LABELS, ...rows.flatMap((row) => row.labels)]);
  const used = [
    ...[...expression.matchAll(/\bby \(([^)]*)\)/g)].flatMap((match) => (match[1] as string).split(/, */)),
    ...[...expression.matchAll(/([a-z_]+)(?:=~|!~|!=|=)"/g)].map((match) => match[1] as string),
  ];
  for (const label of used) assert.ok(known.has(label), `${label} is no label of ${names}: ${expression}`);
  return names.length;
};

test('every alert asks for metrics and labels that exist', () => {
  const expressions = [...alerts.matchAll(/^ +expr: (?:>-\n((?: {10}.*\n)+)|(.*)$)/gm)].map(
    (match) => match[1] ?? (match[2] as string),
  );
  assert.equal(expressions.length, alerts.match(/- alert:/g)?.length);
  assert.ok(expressions.length > 20);
  for (const expression of expressions) {
    if (!expression.startsWith('up{')) assert.ok(checkExpression(expression) > 0, expression);
  }
});

test('every alert sends to a section that exists', () => {
  const runbooks = [...alerts.matchAll(/runbook: (\S+)#(\S+)/g)];
  assert.equal(runbooks.length, alerts.match(/- alert:/g)?.length);
  for (const [, file, anchor] of runbooks) {
    const anchors = [...readFileSync(join(ROOT, file as string), 'utf8').matchAll(/^#+ (.*)$/gm)].map((match) =>
      (match[1] as string)
        .toLowerCase()
        .replace(/[^a-z0-9 -]/g, '')
        .replaceAll(' ', '-'),
    );
    assert.ok(anchors.includes(anchor as string), `${file} has no section ${anchor}`);
  }
});

test('every panel of the dashboard asks for metrics and labels that exist', () => {
  const panels = dashboard.panels.filter(({ type }) => type !== 'row');
  assert.ok(panels.length > 10);
  for (const { title, targets = [] } of panels) {
    assert.ok(targets.length > 0, title);
    for (const { expr } of targets) assert.ok(checkExpression(expr) > 0, title);
  }
});
