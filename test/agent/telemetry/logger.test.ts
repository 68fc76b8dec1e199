import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { openSync, readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { AgentError } from '../../../agent/errors.ts';
import { describeError } from '../../../agent/telemetry/describe-error.ts';
import { FIELDS } from '../../../agent/telemetry/log-fields.ts';
import { createLogger, type FieldsOf, type Logger, pickFields } from '../../../agent/telemetry/logger.ts';

type Fields = FieldsOf<typeof FIELDS>;

const lines = async (write: (logger: Logger<typeof FIELDS>) => void, level = 'info') => {
  const folder = await mkdtemp(join(tmpdir(), 'mortise-log-'));
  try {
    const path = join(folder, 'log');
    const logger = createLogger({ level, table: FIELDS, base: { host: 'h1' }, destination: openSync(path, 'w') });
    write(logger);
    logger.flush();
    return readFileSync(path, 'utf8')
      .trim()
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
};

test('one event is one JSON line with time, level, host and message', async () => {
  const written = await lines((logger) => {
    logger.log('info', 'agent is ready', { version: '0.1.0', durationMs: 12 });
    logger.log('debug', 'not at this level');
    logger.log('warn', 'text with\na newline', { reason: 'also\nhere' });
  });
  assert.equal(written.length, 2);
  // The flush may overtake the line that is being written.
  const [first, second] = ['info', 'warn'].map((level) => written.find((line) => line.level === level));
  assert.equal(first.msg, 'agent is ready');
  assert.equal(first.host, 'h1');
  assert.equal(first.durationMs, 12);
  assert.match(first.time, /^\d{4}-\d\d-\d\dT.*Z$/);
  assert.equal(second.reason, 'also\nhere');
});

test('a field that is not in the table is left out', () => {
  const fields = { tenant: 'acme', pin: '1234', plaintext: 'secret' } as unknown as Fields;
  assert.deepEqual(pickFields(FIELDS, fields), { tenant: 'acme' });
});

test('long text and long lists are cut', () => {
  const fields = pickFields(FIELDS, { reason: 'x'.repeat(5000), abilities: new Array(100).fill('y'.repeat(2000)) });
  assert.equal((fields['reason'] as string).length, 1025);
  assert.equal((fields['abilities'] as string[]).length, 64);
  assert.equal((fields['abilities'] as string[])[0]?.length, 1025);
});

test('an error is logged with its code and causes, and without what a parser quoted of its input', () => {
  const parse = (): unknown => JSON.parse('{"password": hunter2}');
  let syntax: unknown;
  try {
    parse();
  } catch (error) {
    syntax = error;
  }
  const described = describeError(new AgentError('POLICY_INVALID', { cause: syntax }));
  assert.equal(described.code, 'POLICY_INVALID');
  assert.equal(described.stack, undefined);
  assert.equal(described.cause?.name, 'SyntaxError');
  assert.ok(!JSON.stringify(described).includes('hunter2'));
});

test('a chain of causes is bounded, also where it is a circle', () => {
  const error = new Error('circle');
  error.cause = error;
  let depth = 0;
  for (let at = describeError(error); at.cause !== undefined; at = at.cause) depth += 1;
  assert.equal(depth, 5);
  assert.deepEqual(describeError('hunter2'), { name: 'NotAnError', message: 'a string was thrown' });
});

test('an unexpected error has its stack, an expected one does not', () => {
  assert.ok(describeError(new TypeError('x')).stack?.includes('logger.test.ts'));
  assert.ok(describeError(new AgentError('INTERNAL')).stack?.includes('logger.test.ts'));
  assert.equal(describeError(new AgentError('KEY_UNKNOWN')).stack, undefined);
});

const FLOOD = `
  import { createLogger } from './agent/telemetry/logger.ts';
  const logger = createLogger({ level: 'info', table: { reason: 'why' }, base: { host: 'h1' } });
  const reason = 'x'.repeat(1000);
  for (let count = 0; count < 12_000; count += 1) logger.log('info', 'flood', { reason });
  process.send(logger.dropped());
`;

test('a reader that never reads does not stop the writer, and what is dropped is counted', async () => {
  const cwd = join(import.meta.dirname, '../../..');
  const child = spawn(process.execPath, ['--input-type=module', '--eval', FLOOD], {
    cwd,
    stdio: ['ignore', 'pipe', 'inherit', 'ipc'], // its standard output is a pipe that nobody reads
  });
  try {
    const [dropped] = (await once(child, 'message')) as [number];
    assert.ok(dropped > 1000, `dropped ${dropped}`);
  } finally {
    child.kill('SIGKILL');
  }
});

test('the table of fields has a meaning for each', () => {
  for (const [name, meaning] of Object.entries(FIELDS)) assert.ok(meaning.length > 3, name);
});
