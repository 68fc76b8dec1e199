import assert from 'node:assert/strict';
import { existsSync, statSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { request } from 'node:http';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { createMetrics } from '../../../agent/telemetry/metrics.ts';
import { startMetricsServer } from '../../../agent/telemetry/metrics-server.ts';
import { METRICS } from '../../../agent/telemetry/names.ts';

const get = (target: object, path = '/metrics', method = 'GET'): Promise<{ status: number; text: string }> =>
  new Promise((resolve, reject) => {
    const sent = request({ ...target, path, method, agent: false }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (part: string) => {
        text += part;
      });
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
    });
    sent.on('error', reject).end();
  });

test('counts by tenant, operation and outcome', async () => {
  const metrics = createMetrics();
  metrics.count('operations', { tenant: 'acme', operation: 'sign', outcome: 'ok' });
  metrics.count('operations', { tenant: 'acme', operation: 'sign', outcome: 'ok' }, 2);
  metrics.count('operations', { tenant: 'acme', operation: 'sign', outcome: 'HSM_BUSY' });
  const text = await metrics.text();
  assert.match(text, /^mortise_operations_total\{tenant="acme",operation="sign",outcome="ok"\} 3$/m);
  assert.match(text, /^mortise_operations_total\{tenant="acme",operation="sign",outcome="HSM_BUSY"\} 1$/m);
});

test('the number of tenants in labels is bounded; the rest is counted together', async () => {
  const metrics = createMetrics();
  for (let n = 0; n < 1000; n += 1) {
    metrics.count('operations', { tenant: `t${n}`, operation: 'sign', outcome: 'ok' });
  }
  const series = (await metrics.text()).match(/^mortise_operations_total\{.*$/gm) ?? [];
  assert.equal(series.length, 201);
  assert.ok(
    series.some((line) => line === 'mortise_operations_total{tenant="other",operation="sign",outcome="ok"} 800'),
  );
});

test('a gauge is read at each scrape and shows nothing where its source fails', async () => {
  const metrics = createMetrics();
  let value = 1;
  metrics.gauge('startTime', () => value);
  metrics.gauge('healthy', () => [{ value: 1, labels: { part: 'policy' } }]);
  assert.match(await metrics.text(), /^mortise_start_time_seconds 1$/m);
  value = 2;
  assert.match(await metrics.text(), /^mortise_start_time_seconds 2$/m);
  assert.match(await metrics.text(), /^mortise_part_healthy\{part="policy"\} 1$/m);
  metrics.gauge('startTime', () => {
    throw new Error('gone');
  });
  assert.doesNotMatch(await metrics.text(), /^mortise_start_time_seconds \d/m);
});

test('latency is a histogram whose buckets reach from software to the longest deadline', async () => {
  const metrics = createMetrics();
  metrics.observe('stage', { stage: 'token' }, 0.0002);
  const text = await metrics.text();
  assert.match(text, /^mortise_stage_duration_seconds_bucket\{le="0.0001",stage="token"\} 0$/m);
  assert.match(text, /^mortise_stage_duration_seconds_bucket\{le="0.00025",stage="token"\} 1$/m);
  assert.match(text, /^mortise_stage_duration_seconds_count\{stage="token"\} 1$/m);
});

test('every metric of the table appears, and nothing else', async () => {
  const text = await createMetrics().text();
  const shown = [...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name, type]) => `${name} ${type}`).sort();
  const table = Object.values(METRICS)
    .map(({ name, type }) => `${name} ${type}`)
    .sort();
  assert.ok(table.length > 5);
  assert.deepEqual(shown, table);
});

test('serves the text over TCP, and nothing but what is asked for by GET', async () => {
  await using server = await startMetricsServer(createMetrics(), { host: '127.0.0.1', port: 0 });
  const port = Number(server.address.split(':')[1]);
  const target = { host: '127.0.0.1', port };
  assert.match((await get(target)).text, /# TYPE mortise_operations_total counter/);
  assert.equal((await get(target, '/')).status, 404);
  assert.equal((await get(target, '/metrics', 'POST')).status, 405);
});

test('probes are told that the program lives, and what is in the way of its serving', async () => {
  let obstacle: string | undefined = 'token, audit';
  await using server = await startMetricsServer(createMetrics(), { host: '127.0.0.1', port: 0 }, () => obstacle);
  const target = { host: '127.0.0.1', port: Number(server.address.split(':')[1]) };
  assert.deepEqual(await get(target, '/readyz'), { status: 503, text: 'token, audit\n' });
  assert.deepEqual(await get(target, '/livez'), { status: 200, text: 'alive\n' });
  obstacle = undefined;
  assert.deepEqual(await get(target, '/readyz'), { status: 200, text: 'ready\n' });
  assert.equal((await get(target, '/readyz', 'POST')).status, 405);
});

test('on a Unix socket: no access for others, a dead socket file is replaced, a live one is not', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'mortise-metrics-'));
  const socketPath = join(folder, 'metrics.sock');
  try {
    for (let round = 0; round < 2; round += 1) {
      await using _server = await startMetricsServer(createMetrics(), socketPath);
      assert.equal(statSync(socketPath).mode & 0o777, 0o660);
      assert.equal((await get({ socketPath })).status, 200);
      await assert.rejects(startMetricsServer(createMetrics(), socketPath), { code: 'EADDRINUSE' });
      assert.equal((await get({ socketPath })).status, 200);
    }
    const orphan = createServer();
    await new Promise<void>((resolve) => orphan.listen(socketPath, () => resolve()));
    // A killed process leaves its file behind: closing the handle alone does the same here.
    (orphan as unknown as { _handle: { close(): void } })._handle.close();
    if (existsSync(socketPath)) {
      await using _again = await startMetricsServer(createMetrics(), socketPath);
      assert.equal((await get({ socketPath })).status, 200);
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});
