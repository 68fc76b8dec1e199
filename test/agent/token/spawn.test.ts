// The token process cannot be spawned: that is a start that failed, and never the end of the agent.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { test } from 'node:test';
import { promisify } from 'node:util';

const STARTER = new URL('../../../agent/token/starter.ts', import.meta.url).href;

/** Uses up the file descriptors, then prepares and attempts; the last turn lets a late 'error' event come. */
const SCRIPT = `
  import { openSync } from 'node:fs';
  import { Starter } from ${JSON.stringify(STARTER)};
  const events = new Proxy({}, { get: () => () => {} });
  const config = { library: '/none', slotIndex: 0, disabledMechanisms: [] };
  const starter = new Starter({
    child: { config, sessions: 1, environment: {}, events },
    pin: async () => Buffer.from('1234'),
    startTimeoutMs: 1000,
    events,
    exited: () => {},
    readCache: async () => undefined,
    writeCache: async () => {},
  });
  try {
    for (;;) openSync('/dev/null');
  } catch {}
  starter.prepare();
  const reason = await starter.attempt().then(() => 'none', (error) => error.reason);
  await new Promise((resolve) => setImmediate(resolve));
  console.log(reason);
`;

test('without a file descriptor left the attempt says so, and the agent lives', async () => {
  const node = [process.execPath, '--input-type=module', '--eval', SCRIPT];
  const run = promisify(execFile);
  const { stdout } = await run('/bin/sh', ['-c', 'ulimit -n 100; exec "$@"', 'sh', ...node], { timeout: 30_000 });
  assert.equal(stdout, 'exited\n');
});
