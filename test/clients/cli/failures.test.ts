// What the CLI says and how it ends when a call fails, against a server that fails as the test says.
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { CODES, type Code } from '../../../agent/errors.ts';
import { agentFailure, StubAgent } from '../stub-agent.ts';
import { runCli, temporaryFolder } from './run-cli.ts';

const ME = { tenant: 'acme', principal: 'p', scopes: ['a', 'b'], authenticatedBy: 'jwt', uid: 1, gid: 2, pid: 3 };

const EXPECTED: Readonly<Partial<Record<Code, number>>> = {
  UNAUTHENTICATED: 3,
  TOKEN_EXPIRED: 3,
  TOKEN_REPLAYED: 3,
  PERMISSION_DENIED: 3,
  POLICY_DENIED: 3,
  ALGORITHM_FORBIDDEN: 3,
  FIPS_ONLY: 3,
  INVALID_REQUEST: 2,
  TOO_LARGE: 2,
  AUDIT_CORRUPT: 4,
  SIGNATURE_INVALID: 4,
};

test('every error code of the agent has its exit code', async () => {
  await using agent = await new StubAgent().start();
  for (const code of Object.keys(CODES) as Code[]) {
    agent.answers['rotateTenantKek'] = () => {
      throw agentFailure(code);
    };
    const expected = EXPECTED[code] ?? (CODES[code].retry ? 5 : 1);
    const { code: exit, stderr } = await runCli(['kek', 'rotate', '--socket', agent.socketPath]);
    assert.equal(exit, expected, code);
    assert.ok(stderr.includes(code) && stderr.includes(CODES[code].text), stderr);
  }
});

test('no agent: exit 5, the path, and what to do', async (t) => {
  const folder = temporaryFolder(t);
  const path = join(folder, 'agent.sock');
  const missing = await runCli(['whoami', '--socket', path]);
  assert.equal(missing.code, 5);
  assert.ok(missing.stderr.includes(`no socket at ${path}`) && missing.stderr.includes('npm start'));
  // A file that nobody listens on, as a killed agent leaves it.
  const dead = createServer().listen(path);
  await new Promise((resolve) => dead.once('listening', resolve));
  const { renameSync } = await import('node:fs');
  renameSync(path, `${path}.kept`);
  await new Promise((resolve) => dead.close(resolve));
  renameSync(`${path}.kept`, path);
  const refused = await runCli(['whoami'], { env: { MORTISE_SOCKET: path } });
  assert.equal(refused.code, 5);
  assert.ok(refused.stderr.includes(`nobody listens on ${path}`));
});

test('a refusal names the rule and the correlation id', async () => {
  await using agent = await new StubAgent().start();
  agent.answers['createKey'] = () => {
    throw agentFailure('POLICY_DENIED', {
      message: 'RSA-2048: on the deny list',
      metadata: { rule: 'tenant.algorithms.deny' },
    });
  };
  const args = ['key', 'create', 'k', '--purpose', 'sign', '--algorithm', 'RSA-2048', '--socket', agent.socketPath];
  const text = await runCli(args);
  assert.equal(text.code, 3);
  assert.match(text.stderr, /POLICY_DENIED: RSA-2048: on the deny list\n {2}rule: tenant\.algorithms\.deny\n/);
  const id = agent.calls[0]?.metadata.get('x-correlation-id')[0];
  assert.ok(text.stderr.includes(`correlation id: ${id}`));
  const { error } = JSON.parse((await runCli([...args, '--output', 'json'])).stderr);
  assert.equal(error.code, 'POLICY_DENIED');
  assert.equal(error.exitCode, 3);
  assert.equal(error.metadata.rule, 'tenant.algorithms.deny');
  assert.ok(error.correlationId);
});

test('wrong fields are named', async () => {
  await using agent = await new StubAgent().start();
  agent.answers['getKey'] = () => {
    throw agentFailure('INVALID_REQUEST', { fields: [{ field: 'key', description: 'too long' }] });
  };
  const { code, stderr } = await runCli(['key', 'get', 'x', '--socket', agent.socketPath]);
  assert.equal(code, 2);
  assert.match(stderr, /\n {2}key: too long\n/);
});

test('global options go in front of a command or behind it, and default to the environment', async (t) => {
  await using agent = await new StubAgent().start();
  agent.answers['whoAmI'] = () => ME;
  const folder = temporaryFolder(t);
  const tokenFile = join(folder, 'token');
  writeFileSync(tokenFile, 'a.b.c\n');
  const runs = [
    await runCli(['--socket', agent.socketPath, '--token-file', tokenFile, '--output', 'json', 'whoami']),
    await runCli(['whoami', '--socket', agent.socketPath, '--token-file', tokenFile, '--output', 'json']),
    await runCli(['whoami', '--output', 'json'], {
      env: { MORTISE_SOCKET: agent.socketPath, MORTISE_TOKEN_FILE: tokenFile },
    }),
  ];
  for (const run of runs) {
    assert.equal(run.code, 0, run.stderr);
    assert.deepEqual(JSON.parse(run.stdout), ME);
  }
  assert.deepEqual(
    agent.calls.map((seen) => seen.metadata.get('authorization')[0]),
    Array(3).fill('Bearer a.b.c'),
  );
});

test('a token file that cannot be read is named, with the reason', async () => {
  await using agent = await new StubAgent().start();
  const { code, stderr } = await runCli(['whoami', '--socket', agent.socketPath, '--token-file', '/nonexistent/token']);
  assert.equal(code, 3);
  assert.match(stderr, /cannot read the token file \/nonexistent\/token \(ENOENT\)/);
});

test('--timeout bounds the call', async () => {
  await using agent = await new StubAgent().start();
  agent.answers['whoAmI'] = ({ cancelled }) => cancelled;
  const { code, stderr } = await runCli(['whoami', '--socket', agent.socketPath, '--timeout', '200ms']);
  assert.equal(code, 5);
  assert.match(stderr, /DEADLINE_EXCEEDED/);
});
