// The CLI as a process against a server that answers as the test says: exit codes, JSON, files, pipes, words.
import assert from 'node:assert/strict';
import { chmodSync, existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { CODES, type Code } from '../../../agent/errors.ts';
import { agentFailure, ENVELOPE, StubAgent } from '../stub-agent.ts';
import { CLI, runCli, temporaryFolder } from './run-cli.ts';

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

test('a token file that cannot be read is a failure that names it', async () => {
  await using agent = await new StubAgent().start();
  const { code, stderr } = await runCli(['whoami', '--socket', agent.socketPath, '--token-file', '/nonexistent/token']);
  assert.equal(code, 1);
  assert.match(stderr, /cannot read the token file \/nonexistent\/token/);
});

test('--timeout bounds the call', async () => {
  await using agent = await new StubAgent().start();
  agent.answers['whoAmI'] = ({ cancelled }) => cancelled;
  const { code, stderr } = await runCli(['whoami', '--socket', agent.socketPath, '--timeout', '200ms']);
  assert.equal(code, 5);
  assert.match(stderr, /DEADLINE_EXCEEDED/);
});

/** Encrypts by reversing: enough to see what went in and comes out. */
const reversing = (agent: StubAgent): void => {
  agent.answers['encrypt'] = ({ request }) => ({
    jwe: Buffer.from(request.plaintext).reverse().toString('base64url'),
    envelope: { ...ENVELOPE, warnings: [] },
  });
  agent.answers['decrypt'] = ({ request }) => ({
    plaintext: Buffer.from(request.jwe, 'base64url').reverse(),
    envelope: { ...ENVELOPE, warnings: [] },
  });
};

test('files in, files out; the plaintext file is private', async (t) => {
  await using agent = await new StubAgent().start();
  reversing(agent);
  const folder = temporaryFolder(t);
  const [plain, sealed, opened] = ['plain.bin', 'sealed.jwe', 'opened.bin'].map((name) => join(folder, name));
  const data = Buffer.from([0, 255, 1, 10, 13, 128]);
  writeFileSync(plain as string, data);
  const at = ['--socket', agent.socketPath];
  const encrypted = await runCli(['encrypt', '--key', 'k', plain as string, '--out', sealed as string, ...at]);
  assert.equal(encrypted.code, 0, encrypted.stderr);
  assert.equal(encrypted.stdout, '');
  const decrypted = await runCli(['decrypt', sealed as string, '--out', opened as string, ...at]);
  assert.equal(decrypted.code, 0, decrypted.stderr);
  assert.deepEqual(readFileSync(opened as string), data);
  assert.equal(statSync(opened as string).mode & 0o777, 0o600);
  assert.deepEqual(readdirSync(folder).sort(), ['opened.bin', 'plain.bin', 'sealed.jwe']);
});

test('pipes: standard input and output carry bytes unchanged', async () => {
  await using agent = await new StubAgent().start();
  reversing(agent);
  const data = Buffer.from([0, 255, 1, 10, 13, 128]);
  const encrypted = await runCli(['encrypt', '--key', 'k', '--socket', agent.socketPath], { input: data });
  assert.match(encrypted.stdout, /^[\w-]+\n$/);
  const decrypted = await runCli(['decrypt', '--socket', agent.socketPath], { input: encrypted.bytes });
  assert.deepEqual(decrypted.bytes, data);
});

test('associated data comes from a file', async (t) => {
  await using agent = await new StubAgent().start();
  reversing(agent);
  const file = join(temporaryFolder(t), 'aad');
  writeFileSync(file, 'order 17');
  await runCli(['encrypt', '--key', 'k', '--aad-file', file, '--socket', agent.socketPath], { input: 'x' });
  assert.deepEqual(agent.calls[0]?.request.associatedData, Buffer.from('order 17'));
});

test('an existing file is not replaced without --force, and no call is made', async (t) => {
  await using agent = await new StubAgent().start();
  reversing(agent);
  const out = join(temporaryFolder(t), 'out');
  writeFileSync(out, 'precious');
  const args = ['decrypt', '--out', out, '--socket', agent.socketPath];
  const refused = await runCli(args, { input: 'YWJj' });
  assert.equal(refused.code, 2);
  assert.match(refused.stderr, /exists; --force replaces it/);
  assert.equal(readFileSync(out, 'utf8'), 'precious');
  assert.equal(agent.calls.length, 0);
  assert.equal((await runCli([...args, '--force'], { input: 'YWJj' })).code, 0);
  assert.equal(readFileSync(out, 'utf8'), 'cba');
});

test('a failed decryption leaves no file, not even a part', async (t) => {
  await using agent = await new StubAgent().start();
  agent.answers['decrypt'] = () => {
    throw agentFailure('INVALID_CIPHERTEXT');
  };
  const folder = temporaryFolder(t);
  const { code, stderr } = await runCli(['decrypt', '--out', join(folder, 'out'), '--socket', agent.socketPath], {
    input: 'x',
  });
  assert.equal(code, 1);
  assert.match(stderr, /INVALID_CIPHERTEXT/);
  assert.deepEqual(readdirSync(folder), []);
});

test('an output folder that cannot be written leaves nothing and exits with 1', async (t) => {
  await using agent = await new StubAgent().start();
  reversing(agent);
  const folder = temporaryFolder(t);
  chmodSync(folder, 0o500);
  const out = join(process.getuid?.() === 0 ? join(folder, 'no-such-folder') : folder, 'out');
  const { code, stderr } = await runCli(['decrypt', '--out', out, '--socket', agent.socketPath], { input: 'YQ' });
  assert.equal(code, 1);
  assert.match(stderr, /cannot write/);
  assert.equal(existsSync(out), false);
});

test('input over the limit is refused here, with advice', async (t) => {
  const file = join(temporaryFolder(t), 'big');
  writeFileSync(file, Buffer.alloc(2 * 1024 * 1024 + 1));
  for (const run of [
    await runCli(['encrypt', '--key', 'k', file]),
    await runCli(['encrypt', '--key', 'k'], { input: readFileSync(file) }),
  ]) {
    assert.equal(run.code, 2);
    assert.match(run.stderr, /larger than the limit of 2097152 bytes; split it, or encrypt it with a random key/);
  }
  const signing = await runCli(['sign', '--key', 'k', file]);
  assert.equal(signing.code, 2);
  assert.match(signing.stderr, /--form raw --digest HEX/);
});

test('a wrong signature and a wrong MAC exit with 4, right ones with 0', async (t) => {
  await using agent = await new StubAgent().start();
  const file = join(temporaryFolder(t), 'signature');
  writeFileSync(file, 'a..c');
  let valid = false;
  agent.answers['verify'] = () => ({ valid, payload: Buffer.alloc(0), envelope: ENVELOPE });
  agent.answers['verifyMac'] = () => ({ valid, envelope: ENVELOPE });
  const verify = () => runCli(['verify', file, '--socket', agent.socketPath, '--output', 'json']);
  const verifyMac = () =>
    runCli(['verify-mac', '--key', 'k', '--mac-text', 'AAAA', '--socket', agent.socketPath], { input: 'm' });
  const wrong = await verify();
  assert.equal(wrong.code, 4);
  assert.deepEqual(JSON.parse(wrong.stdout), { valid: false, envelope: ENVELOPE });
  const wrongMac = await verifyMac();
  assert.equal(wrongMac.code, 4);
  assert.match(wrongMac.stdout, /INVALID/);
  valid = true;
  assert.equal((await verify()).code, 0);
  const right = await verifyMac();
  assert.equal(right.code, 0);
  assert.match(right.stdout, /^valid \(orders version 2, A256GCMKW\)\n/);
  assert.match(right.stderr, /warning SOFT_LIMIT: rotate it/);
});

test('raw signatures: bytes in a file, base64url on a stream, hex where asked', async (t) => {
  await using agent = await new StubAgent().start();
  agent.answers['sign'] = () => ({ jws: '', signature: Buffer.from([251, 255, 0]), envelope: ENVELOPE });
  agent.answers['verify'] = ({ request }) => ({
    valid: request.signature.value.equals(Buffer.from([251, 255, 0])),
    payload: Buffer.alloc(0),
    envelope: ENVELOPE,
  });
  const folder = temporaryFolder(t);
  const file = join(folder, 'raw');
  const message = join(folder, 'message');
  writeFileSync(message, 'm');
  const at = ['--socket', agent.socketPath];
  const sign = ['sign', '--key', 'k', '--form', 'raw', ...at];
  await runCli([...sign, message, '--out', file]);
  assert.deepEqual(readFileSync(file), Buffer.from([251, 255, 0]));
  const stream = await runCli(sign, { input: 'm' });
  assert.equal(stream.stdout, '-_8A\n');
  assert.equal((await runCli([...sign, '--digest', 'abcd', '--encoding', 'hex'])).stdout, 'fbff00\n');
  assert.deepEqual(agent.calls.at(-1)?.request.input, { $case: 'digest', value: Buffer.from('abcd', 'hex') });
  const verify = ['verify', '--raw', '--key', 'k', '--message', message, ...at];
  assert.equal((await runCli([...verify, file])).code, 0);
  assert.equal((await runCli(verify, { input: stream.stdout })).code, 0);
  assert.equal((await runCli([...verify, '--encoding', 'hex'], { input: 'FBFF00\n' })).code, 0);
  const other = await runCli([...verify, '--encoding', 'hex'], { input: 'xyz' });
  assert.equal(other.code, 2);
});

test('a private JWK is refused before it goes anywhere', async (t) => {
  await using agent = await new StubAgent().start();
  const file = join(temporaryFolder(t), 'jwk');
  writeFileSync(file, JSON.stringify({ kty: 'EC', crv: 'P-256', x: 'a', y: 'b', d: 'secret-part' }));
  const { code, stderr } = await runCli(['encrypt-to', '--jwk', file, '--socket', agent.socketPath], { input: 'x' });
  assert.equal(code, 2);
  assert.match(stderr, /holds a private key/);
  assert.doesNotMatch(stderr, /secret-part/);
  assert.equal(agent.calls.length, 0);
});

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
