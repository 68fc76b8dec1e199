// Health, the audit log and the agent's own program through the CLI, against a server that answers as the test says.
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { StubAgent } from '../stub-agent.ts';
import { CLI, runCli, temporaryFolder } from './run-cli.ts';

const ME = { tenant: 'acme', principal: 'p', scopes: ['a', 'b'], authenticatedBy: 'jwt', uid: 1, gid: 2, pid: 3 };

test('names from the other side cannot steer the terminal', async () => {
  await using agent = await new StubAgent().start();
  agent.answers['whoAmI'] = () => ({ ...ME, principal: 'p\u001b[2Jevil\r\n' });
  const { stdout } = await runCli(['whoami', '--socket', agent.socketPath]);
  assert.ok(!stdout.includes('\u001b') && !stdout.includes('\r'), JSON.stringify(stdout));
});

test('health maps the answer to an exit code and bare part names to services', async () => {
  await using agent = new StubAgent();
  agent.health = { '': 'SERVING', 'mortise.token': 'NOT_SERVING' };
  await agent.start();
  const at = ['--socket', agent.socketPath, '--output', 'json'];
  assert.equal((await runCli(['health', ...at])).code, 0);
  const token = await runCli(['health', '--service', 'token', ...at]);
  assert.equal(token.code, 5);
  assert.deepEqual(JSON.parse(token.stdout), { service: 'mortise.token', status: 'NOT_SERVING' });
  assert.equal((await runCli(['health', '--service', 'nope', ...at])).code, 2);
});

test('audit tail follows until its reader has enough', async () => {
  await using agent = await new StubAgent().start();
  const record = (index: number) => ({
    index: BigInt(index),
    tenant: 'acme',
    principal: 'p',
    key: 'k/1',
    algorithm: '-',
    operation: 'encrypt',
    outcome: 'ok',
    time: '2026-11-24T08:00:00.000001Z',
    correlationId: 'c',
    eventId: `h/1/${index}`,
    detail: '{"uid":0}',
    canonical: Buffer.alloc(1),
    mac: Buffer.alloc(32),
  });
  agent.answers['listRecords'] = ({ request }) => ({
    records: [record(Number(request.from) || 7)],
    size: 8n,
  });
  agent.answers['tailRecords'] = ({ request, write, cancelled }) => {
    write({ records: [record(Number(request.from))] });
    return cancelled;
  };
  const last = await runCli(['audit', 'tail', '-n', '1', '--output', 'json', '--socket', agent.socketPath]);
  assert.equal(last.code, 0, last.stderr);
  assert.equal(JSON.parse(last.stdout).index, 7);
  const { spawn } = await import('node:child_process');
  const child = spawn(process.execPath, [CLI, 'audit', 'tail', '-f', '--output', 'json', '--socket', agent.socketPath]);
  let text = '';
  for await (const chunk of child.stdout) {
    text += chunk;
    if (text.split('\n').length > 2) break;
  }
  child.kill('SIGINT');
  const code = await new Promise((resolve) => child.once('exit', resolve));
  assert.equal(code, 0, 'Ctrl-C is how one leaves');
  assert.deepEqual(
    text
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line).index),
    [7, 8],
  );
  const shown = await runCli(['audit', 'show', '3', '--socket', agent.socketPath]);
  assert.match(shown.stdout, /^index +3\n/);
  assert.match(shown.stdout, /detail +\{"uid":0\}\n/);
});

test('a reader that goes away ends audit tail quietly', async () => {
  await using agent = await new StubAgent().start();
  const record = (index: number) => ({
    index: BigInt(index),
    ...{ tenant: 'acme', principal: 'p', key: '-', algorithm: '-', operation: 'who-am-i', outcome: 'ok' },
    ...{ time: '2026-11-24T08:00:00.000001Z', correlationId: 'c', eventId: 'h/1/1', detail: '' },
    ...{ canonical: Buffer.alloc(1), mac: Buffer.alloc(32) },
  });
  agent.answers['listRecords'] = () => ({ records: [record(0)], size: 1n });
  agent.answers['tailRecords'] = async ({ request, write, cancelled }) => {
    const timer = setInterval(() => write({ records: [record(Number(request.from))] }), 20);
    await cancelled;
    clearInterval(timer);
  };
  const { spawn } = await import('node:child_process');
  const command = '"$0" "$1" audit tail -f --socket "$2" | head -n 2; exit $PIPESTATUS';
  const child = spawn('bash', ['-c', command, process.execPath, CLI, agent.socketPath]);
  let stderr = '';
  child.stderr.on('data', (chunk) => {
    stderr += chunk;
  });
  const code = await new Promise((resolve) => child.once('close', resolve));
  assert.deepEqual([code, stderr], [0, '']);
});

test('version says which program this is', async () => {
  const { code, stdout } = await runCli(['version', '--output', 'json']);
  assert.equal(code, 0);
  assert.match(JSON.parse(stdout).mortise, /^\d+\.\d+\.\d+$/);
});

test('doctor and audit verify --store run the agent program and translate its exit code', async (t) => {
  const program = join(temporaryFolder(t), 'agent.ts');
  writeFileSync(
    program,
    'console.log(JSON.stringify(process.argv.slice(2)), process.env.X); process.exit(Number(process.env.EXIT));',
  );
  const env = { MORTISE_AGENT_PROGRAM: program, X: 'y', EXIT: '2' };
  const doctor = await runCli(['doctor'], { env });
  assert.deepEqual([doctor.code, doctor.stdout], [4, '["doctor"] y\n']);
  const verify = await runCli(['audit', 'verify', '--store', '/data', '--tenant', 'acme'], { env });
  assert.deepEqual([verify.code, verify.stdout], [4, '["audit","verify","--store","/data","--tenant","acme"] y\n']);
  for (const [theirs, ours] of [
    ['0', 0],
    ['1', 1],
    ['64', 2],
    ['78', 1],
  ] as const) {
    assert.equal((await runCli(['doctor'], { env: { ...env, EXIT: theirs } })).code, ours);
  }
  const missing = await runCli(['doctor'], { env: { MORTISE_AGENT_PROGRAM: '/nonexistent/main.ts' } });
  assert.equal(missing.code, 1);
  assert.match(missing.stderr, /MORTISE_AGENT_PROGRAM/);
});
