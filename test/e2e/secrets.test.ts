// The PIN is nowhere but in its file: not in an environment, an argument, a log line, an error or a core dump.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import type { MortiseClient } from '../../clients/typescript/index.ts';
import { type RunningAgent, startAgent } from '../support/agent.ts';
import { clientOf } from './load.ts';

let agent: RunningAgent;
let client: MortiseClient;

before(async () => {
  agent = await startAgent({ env: { MORTISE_LOG_LEVEL: 'trace', MORTISE_UNHEARD_OF: 'x' } });
  client = clientOf(agent, 'acme');
});
after(async () => {
  client?.close();
  await agent?.stop();
});

const ofProcess = (pid: number, file: string): string => readFileSync(`/proc/${pid}/${file}`, 'utf8');

test('1: the PIN is in no environment and no argument, of neither process', () => {
  for (const pid of [agent.pid, agent.tokenPid()]) {
    for (const file of ['environ', 'cmdline']) {
      const text = ofProcess(pid, file);
      assert.ok(file !== 'environ' || text.length > 0, 'read something');
      assert.ok(!text.includes(agent.token.pin), `${file} of ${pid}`);
    }
  }
});

test('2: the token process gets none of the variables of the agent', () => {
  const text = ofProcess(agent.tokenPid(), 'environ');
  assert.match(text, /SOFTHSM2_CONF=/);
  assert.doesNotMatch(text, /(MORTISE|PKCS11)_/);
});

test('3: neither process can dump core', () => {
  for (const pid of [agent.pid, agent.tokenPid()]) {
    assert.match(ofProcess(pid, 'limits'), /Max core file size +0 +0 /);
  }
});

test('4: neither the PIN, nor a bearer token, nor plaintext is in the log at its most talkative', async () => {
  const token = agent.issuer.issue({ tenant: 'acme' });
  await client.keys.create({ keyId: 'files', purpose: 'encrypt', algorithm: 'AES-256' });
  const plaintext = Buffer.from('attack at dawn, tell nobody');
  const { jwe } = await client.encrypt('files', plaintext);
  await client.decrypt(jwe);
  await assert.rejects(client.decrypt(`${jwe.slice(0, -4)}AAAA`));
  process.kill(agent.tokenPid(), 'SIGKILL');
  await client.encrypt('files', plaintext);
  const from = agent.logs.length;
  assert.equal(await agent.end(), 0);
  assert.ok(from > 20, 'the log said something');
  const log = `${JSON.stringify(agent.logs)}${agent.stderr()}`;
  for (const secret of [
    agent.token.pin,
    token,
    token.split('.')[2] as string,
    plaintext.toString(),
    plaintext.toString('base64'),
  ]) {
    assert.ok(!log.includes(secret), secret.slice(0, 8));
  }
});

test('5: every line of the log is JSON with time, level and message, and a typing error in a variable is warned of', () => {
  for (const line of agent.logs)
    assert.match(line.level, /^(trace|debug|info|warn|error|fatal)$/, JSON.stringify(line));
  assert.ok(agent.logs.some(({ msg, reason }) => msg === 'configuration warning' && /UNHEARD_OF/.test(String(reason))));
});
