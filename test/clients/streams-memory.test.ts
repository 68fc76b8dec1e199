// A stream costs the same memory whatever its size, in the client and in the agent.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { connect, type LocalChunks } from '../../clients/typescript/index.ts';
import { type RunningAgent, startAgent } from '../support/agent.ts';

const CHILD = join(import.meta.dirname, '../support/encrypt-stream-child.ts');
const MIB = 1024 * 1024;
let agent: RunningAgent;
let token: string;

before(async () => {
  agent = await startAgent({ platform: { streams: { localKeys: true } } });
  token = agent.bearer('acme').slice('Bearer '.length);
  using client = connect({ socketPath: agent.socket, token });
  await client.keys.create({ keyId: 'vault', purpose: 'encrypt', algorithm: 'AES-256' });
});
after(() => agent?.stop());

/** Highest resident memory of the agent so far. */
const highestOfAgent = (): number =>
  Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${agent.pid}/status`, 'utf8'))?.[1]) * 1024;

const stream = async (mebibytes: number, local: LocalChunks): Promise<{ client: number; agent: number }> => {
  const { stdout } = await promisify(execFile)(process.execPath, [CHILD, agent.socket, String(mebibytes), local], {
    env: { PATH: process.env['PATH'], TOKEN: token },
  });
  const { received, highest } = JSON.parse(stdout) as { received: number; highest: number };
  assert.equal(received, mebibytes * MIB);
  return { client: highest, agent: highestOfAgent() };
};

test('256 MiB through both streams cost no more memory than 32 MiB do, but for garbage', async () => {
  const small = await stream(32, 'never');
  const large = await stream(256, 'never');
  const grown = { client: large.client - small.client, agent: large.agent - small.agent };
  assert.ok(grown.client < 96 * MIB, `the client grew by ${grown.client / MIB} MiB`);
  assert.ok(grown.agent < 96 * MIB, `the agent grew by ${grown.agent / MIB} MiB`);
});

test('nor do they where the client works on the chunks', async () => {
  const small = await stream(32, 'always');
  const large = await stream(512, 'always');
  const grown = { client: large.client - small.client, agent: large.agent - small.agent };
  assert.ok(grown.client < 96 * MIB, `the client grew by ${grown.client / MIB} MiB`);
  assert.ok(grown.agent < 32 * MIB, `the agent, which sees no data, grew by ${grown.agent / MIB} MiB`);
});
