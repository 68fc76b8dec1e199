// What a scraper sees of a real agent: operations by tenant, operation and outcome, latency by stage, every part.
import assert from 'node:assert/strict';
import { get } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { MortiseClient } from '../../clients/typescript/index.ts';
import { type RunningAgent, startAgent } from '../support/agent.ts';
import { clientOf } from './load.ts';

let agent: RunningAgent;
let client: MortiseClient;
const socketPath = join(tmpdir(), `mortise-metrics-${process.pid}.sock`);
const message = Buffer.from('counted');

before(async () => {
  agent = await startAgent({ env: { MORTISE_METRICS_ADDRESS: socketPath } });
  client = clientOf(agent, 'acme', { retry: false });
});
after(async () => {
  client?.close();
  await agent?.stop();
});

const scrape = (): Promise<string> =>
  new Promise((resolve, reject) => {
    get({ socketPath, path: '/metrics', agent: false }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (part: string) => {
        text += part;
      });
      response.on('end', () => resolve(text));
    }).on('error', reject);
  });

const sampleOf = (text: string, series: string): number | undefined => {
  const line = text.split('\n').find((row) => row.startsWith(`${series} `));
  return line === undefined ? undefined : Number(line.slice(series.length + 1));
};

const operations = (operation: string, outcome: string): string =>
  `mortise_operations_total{tenant="acme",operation="${operation}",outcome="${outcome}"}`;

test('1: operations are counted by tenant, operation and outcome', async () => {
  await client.keys.create({ keyId: 'signer', purpose: 'sign', algorithm: 'EC-P256' });
  for (let count = 0; count < 5; count += 1) await client.sign('signer', { message });
  await assert.rejects(client.sign('nothing', { message }));
  const text = await scrape();
  assert.equal(sampleOf(text, operations('sign', 'ok')), 5);
  assert.equal(sampleOf(text, operations('sign', 'KEY_UNKNOWN')), 1);
  assert.equal(sampleOf(text, operations('create-key', 'ok')), 1);
});

test('2: the time of each stage has as many observations as there were calls', async () => {
  const text = await scrape();
  assert.equal(sampleOf(text, 'mortise_operation_duration_seconds_count{operation="sign"}'), 6);
  for (const stage of ['queue', 'token', 'audit']) {
    assert.ok((sampleOf(text, `mortise_stage_duration_seconds_count{stage="${stage}"}`) ?? 0) >= 6, stage);
  }
});

test('3: parts, sessions, backlog, policy and connections are there', async () => {
  const text = await scrape();
  for (const part of ['policy', 'keys', 'token', 'audit']) {
    assert.equal(sampleOf(text, `mortise_part_healthy{part="${part}"}`), 1, part);
  }
  assert.ok((sampleOf(text, 'mortise_token_sessions_open{token="default"}') ?? 0) >= 1);
  assert.equal(sampleOf(text, 'mortise_audit_backlog'), 0);
  assert.ok((sampleOf(text, 'mortise_audit_records_total') ?? 0) >= 7);
  assert.equal(sampleOf(text, 'mortise_policies_in_force'), 1);
  assert.ok((sampleOf(text, 'mortise_policy_age_seconds') ?? -1) >= 0);
  assert.equal(sampleOf(text, 'mortise_connections_open'), 1);
  assert.ok((sampleOf(text, 'mortise_start_duration_seconds') ?? 0) > 0);
  assert.ok((sampleOf(text, 'process_resident_memory_bytes') ?? 0) > 0);
  assert.equal(sampleOf(text, 'mortise_telemetry_errors_total') ?? 0, 0);
});

test('4: a killed token process and refused credentials are counted', async () => {
  const from = agent.logs.length;
  process.kill(agent.tokenPid(), 'SIGKILL');
  await agent.logged(({ msg }) => msg === 'token is ready', from);
  using stranger = clientOf(agent, 'nobody', { retry: false });
  await assert.rejects(stranger.whoAmI());
  const text = await scrape();
  assert.equal(sampleOf(text, 'mortise_token_restarts_total{token="default"}'), 1);
  assert.equal(sampleOf(text, 'mortise_authentication_failures_total{code="UNAUTHENTICATED"}'), 1);
});
