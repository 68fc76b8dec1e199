// What of the Python client can be judged without an agent; its behaviour is in conformance.test.ts.
import assert from 'node:assert/strict';
import { execFile, spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { CODES } from '../../agent/errors.ts';
import { MORTISE_ERROR_CODES } from '../../clients/typescript/index.ts';
import { METHODS } from '../../clients/typescript/methods.ts';
import { SAFE_TO_REPEAT } from '../../clients/typescript/retry.ts';

const run = promisify(execFile);
const PYTHON = '/usr/bin/python3';
const FOLDER = join(import.meta.dirname, '../../clients/python');
const missing = spawnSync(PYTHON, ['-c', 'import grpc, google.protobuf']).status !== 0;
const options = { skip: missing && 'needs python3-grpcio and python3-protobuf' };
const env = { PATH: '/usr/bin:/bin', PYTHONPATH: FOLDER, PYTHONDONTWRITEBYTECODE: '1' };

const printed = async (program: string): Promise<unknown> =>
  JSON.parse((await run(PYTHON, ['-c', program], { env })).stdout);

test('the blocking client is what unasync.py makes of the asyncio one', { skip: missing }, async () => {
  await run(PYTHON, [join(FOLDER, 'unasync.py'), '--check']);
  const copy = mkdtempSync(join(tmpdir(), 'mortise-unasync-'));
  try {
    cpSync(FOLDER, copy, { recursive: true });
    rmSync(join(copy, 'mortise/_sync'), { recursive: true });
    await assert.rejects(run(PYTHON, [join(copy, 'unasync.py'), '--check']), /client\.py/);
    await run(PYTHON, [join(copy, 'unasync.py')]);
    const names = readdirSync(join(copy, 'mortise/_sync'));
    assert.ok(names.includes('client.py'));
    for (const name of names) {
      const [made, kept] = [copy, FOLDER].map((root) => readFileSync(join(root, 'mortise/_sync', name), 'utf8'));
      assert.equal(made, kept, name);
    }
  } finally {
    rmSync(copy, { recursive: true });
  }
});

test(
  'it knows the codes of the agent and of the TypeScript client, and which of them are retryable',
  options,
  async () => {
    const found = (await printed(
      'import json, mortise; print(json.dumps([sorted(mortise.ERROR_CODES), sorted(mortise.RETRYABLE_CODES)]))',
    )) as [string[], string[]];
    assert.deepEqual(found[0], [...MORTISE_ERROR_CODES].sort());
    const retryable = Object.entries(CODES).flatMap(([code, row]) => (row.retry ? [code] : []));
    assert.deepEqual(found[1], [...retryable, 'AGENT_UNREACHABLE'].sort());
  },
);

test(
  'it repeats the calls that the TypeScript client repeats, and has a method for each of them',
  options,
  async () => {
    const rpcs = Object.entries(METHODS).flatMap(([name, method]) =>
      name === 'batch' || name === 'checkHealth' || method.responseStream ? [] : [name],
    );
    const camel = JSON.stringify(rpcs.map((name) => name.charAt(0).toUpperCase() + name.slice(1)));
    const safe = (await printed(`
import json
from mortise._messages import RPCS
from mortise.retry import is_safe_to_repeat
print(json.dumps({name: is_safe_to_repeat(name, RPCS[name].request()) for name in json.loads('${camel}')}))`)) as Record<
      string,
      boolean
    >;
    for (const name of rpcs) {
      const rule = SAFE_TO_REPEAT[name as keyof typeof SAFE_TO_REPEAT];
      // With nothing set in the request, what depends on the request is not safe.
      assert.equal(safe[name.charAt(0).toUpperCase() + name.slice(1)], rule === true, name);
    }
    const texts = ['operations', 'keys', 'audit', 'client'].map((name) =>
      readFileSync(join(FOLDER, `mortise/_async/${name}.py`), 'utf8'),
    );
    for (const name of Object.keys(safe))
      assert.ok(
        texts.some((text) => text.includes(`"${name}"`)),
        name,
      );
  },
);
