import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AgentError } from '../../../agent/errors.ts';
import { createEvents } from '../../../agent/telemetry/events.ts';
import { guarded } from '../../../agent/telemetry/guarded.ts';
import type { FIELDS } from '../../../agent/telemetry/log-fields.ts';
import type { FieldsOf, Level, Logger } from '../../../agent/telemetry/logger.ts';

type Fields = FieldsOf<typeof FIELDS>;

import { createMetrics } from '../../../agent/telemetry/metrics.ts';
import { levelOf } from '../../../agent/telemetry/telemetry.ts';
import { createThrottle } from '../../../agent/telemetry/throttle.ts';

const setUp = () => {
  const lines: { level: Level; message: string; fields: Fields }[] = [];
  const logger: Logger<typeof FIELDS> = {
    log: (level, message, fields = {}) => void lines.push({ level, message, fields }),
    isLogged: () => true,
    flush: () => undefined,
    dropped: () => 3,
  };
  const metrics = createMetrics();
  return { events: createEvents({ logger, metrics }), metrics, lines };
};

test('an operation is a line and a count, at the level that its outcome deserves', async () => {
  const { events, metrics, lines } = setUp();
  const event = { tenant: 'acme', operation: 'sign', startedAt: performance.now() };
  events.operations.finished({ ...event, outcome: 'ok' });
  events.operations.finished({ ...event, outcome: 'KEY_UNKNOWN', error: new AgentError('KEY_UNKNOWN') });
  events.operations.finished({ ...event, outcome: 'HSM_BUSY', error: new AgentError('HSM_BUSY') });
  events.operations.finished({ ...event, outcome: 'INTERNAL', error: new AgentError('INTERNAL') });
  assert.deepEqual(
    lines.map(({ level, fields }) => [level, fields.outcome]),
    [
      ['debug', 'ok'],
      ['debug', 'KEY_UNKNOWN'],
      ['warn', 'HSM_BUSY'],
      ['error', 'INTERNAL'],
    ],
  );
  const text = await metrics.text();
  for (const outcome of ['ok', 'KEY_UNKNOWN', 'HSM_BUSY', 'INTERNAL']) {
    assert.match(text, new RegExp(`^mortise_operations_total\\{.*outcome="${outcome}"\\} 1$`, 'm'));
  }
});

test('faults of callers are debug, of the token and the stores warnings, of the agent errors', () => {
  assert.equal(levelOf('PERMISSION_DENIED'), 'debug');
  assert.equal(levelOf('HSM_UNAVAILABLE'), 'warn');
  assert.equal(levelOf('STORE_UNAVAILABLE'), 'warn');
  assert.equal(levelOf('AUDIT_CORRUPT'), 'error');
  assert.equal(levelOf('INTERNAL'), 'error');
});

test('a thousand like failures are a few lines, and every one is counted', async () => {
  const { events, metrics, lines } = setUp();
  for (let count = 0; count < 1000; count += 1) events.audit.failed({ records: 1, cause: new Error('full') });
  assert.equal(lines.length, 5);
  assert.match(await metrics.text(), /^mortise_audit_failures_total 1000$/m);
});

test('the throttle says how many it left out once its window is over', () => {
  let now = 0;
  const throttle = createThrottle(() => now);
  const admitted = Array.from({ length: 20 }, () => throttle.admit('a'));
  assert.deepEqual(
    admitted.filter((row) => row !== undefined),
    [0, 0, 0, 0, 0],
  );
  assert.equal(throttle.admit('b'), 0, 'kinds are apart');
  now = 10_000;
  assert.equal(throttle.admit('a'), 15);
  assert.equal(throttle.admit('a'), 0);
});

test('the token coming back is counted once for each return, not for the first start', async () => {
  const { events, metrics } = setUp();
  const token = events.token('main');
  const ready = { pid: 1, durationMs: 1, label: 't', model: 'm', restarts: 0, lacks: [] };
  token.tokenReady(ready);
  assert.match(await metrics.text(), /^mortise_token_restarts_total\{token="main"\} 0$/m);
  token.tokenExited({ pid: 1, code: null, signal: 'SIGKILL', expected: false, inFlight: 2 });
  token.tokenReady(ready);
  assert.match(await metrics.text(), /^mortise_token_restarts_total\{token="main"\} 1$/m);
});

test('what the token lacks is logged at its first start, with the reason', () => {
  const { events, lines } = setUp();
  const token = events.token('main');
  const lacks = [{ name: 'ecdh-p256', why: 'C_DeriveKey: CKR_MECHANISM_PARAM_INVALID' }];
  const ready = { pid: 1, durationMs: 1, label: 't', model: 'm', restarts: 0, lacks };
  token.tokenReady(ready);
  token.tokenReady({ ...ready, restarts: 1 });
  const logged = lines.filter((line) => line.fields.lacks !== undefined);
  assert.deepEqual(
    logged.map(({ fields }) => fields.lacks),
    [['ecdh-p256: C_DeriveKey: CKR_MECHANISM_PARAM_INVALID']],
  );
});

test('gauges show the last value that a room told', async () => {
  const { events, metrics } = setUp();
  const token = events.token('main');
  token.tokenSessions(4);
  token.tokenQueue(17);
  events.audit.backlog({ waiting: 9 });
  events.audit.size({ usedBytes: 10, limitBytes: 100 });
  events.policy.reloaded({ inForce: 2, problems: 1, changed: false, oldestVerifiedAt: Date.now() - 5000 });
  events.agent.healthChanged({ part: 'token', healthy: false, detail: 'away' });
  const text = await metrics.text();
  assert.match(text, /^mortise_token_sessions_open\{token="main"\} 4$/m);
  assert.match(text, /^mortise_token_queue_length\{token="main"\} 17$/m);
  assert.match(text, /^mortise_audit_backlog 9$/m);
  assert.match(text, /^mortise_audit_store_limit_bytes 100$/m);
  assert.match(text, /^mortise_policies_in_force 2$/m);
  assert.match(text, /^mortise_part_healthy\{part="token"\} 0$/m);
  assert.match(text, /^mortise_log_lines_dropped 3$/m);
  const age = Number(/^mortise_policy_age_seconds (\S+)$/m.exec(text)?.[1]);
  assert.ok(age >= 5);
});

test('a fault in an event goes no further and is counted', async () => {
  const metrics = createMetrics();
  const safe = guarded(
    {
      broken: (): void => {
        throw new TypeError('oops');
      },
    },
    () => metrics.count('eventsFailed', {}),
  );
  safe.broken();
  assert.match(await metrics.text(), /^mortise_telemetry_errors_total 1$/m);
});

test('health is told once for each change, not once a second', () => {
  const { events, lines } = setUp();
  for (let tick = 0; tick < 3; tick += 1) events.agent.healthChanged({ part: 'audit', healthy: true, detail: 'fine' });
  for (let tick = 0; tick < 3; tick += 1) events.agent.healthChanged({ part: 'audit', healthy: false, detail: 'full' });
  events.agent.healthChanged({ part: 'audit', healthy: true, detail: 'fine' });
  assert.deepEqual(
    lines.map(({ message }) => message),
    ['part is not healthy', 'part is healthy again'],
  );
});
