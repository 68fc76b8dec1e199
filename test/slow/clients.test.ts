// Clients judged with the tools of their languages: Go stubs are generated, compiled and called; Python is type-checked.
import assert from 'node:assert/strict';
import { execFile, spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { connect } from '../../clients/typescript/index.ts';
import { startAgent } from '../support/agent.ts';

const run = promisify(execFile);
const CLIENTS = join(import.meta.dirname, '../../clients');
const GO_IMPORT = 'mortise.example/client';
const lacks = (program: string, ...args: string[]): boolean => spawnSync(program, args).status !== 0;
const noGo = lacks('go', 'version') || lacks('protoc', '--version') || lacks('protoc-gen-go-grpc', '--version');

test('Go stubs are generated, compile with the gRPC library of Debian, and call an agent', {
  skip: noGo && 'needs golang-go, golang-google-grpc-dev, protobuf-compiler, protoc-gen-go and protoc-gen-go-grpc',
}, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'mortise-go-'));
  await using agent = await startAgent();
  try {
    const sources = join(folder, 'src', GO_IMPORT);
    await run('sh', [join(CLIENTS, 'go/generate.sh'), sources, GO_IMPORT]);
    cpSync(join(CLIENTS, 'go/example'), join(sources, 'example'), { recursive: true });
    mkdirSync(join(folder, 'cache'));
    const env = {
      PATH: process.env['PATH'] ?? '/usr/bin:/bin',
      // Debian's libraries are sources under /usr/share/gocode; nothing is fetched.
      GO111MODULE: 'off',
      GOFLAGS: '',
      GOPATH: `${folder}:/usr/share/gocode`,
      GOCACHE: join(folder, 'cache'),
      HOME: folder,
    };
    const program = join(folder, 'example');
    await run('go', ['vet', `${GO_IMPORT}/example`], { env, timeout: 600_000 });
    await run('go', ['build', '-o', program, `${GO_IMPORT}/example`], { env, timeout: 600_000 });

    const token = agent.issuer.issue({ tenant: 'acme' });
    using client = connect({ socketPath: agent.socket, token });
    await client.keys.create({ keyId: 'notes', purpose: 'sign', algorithm: 'EC-P256' });
    const file = join(folder, 'token');
    writeFileSync(file, `${token}\n`, { mode: 0o600 });
    const called = await run(program, ['notes', 'hello'], {
      env: { MORTISE_SOCKET: agent.socket, MORTISE_TOKEN_FILE: file },
      timeout: 60_000,
    });
    assert.equal(called.stdout, 'true hello ES256\nKEY_UNKNOWN\n');
    const stranger = run(program, ['notes', 'hello'], { env: { MORTISE_SOCKET: agent.socket }, timeout: 60_000 });
    await assert.rejects(stranger, /UNAUTHENTICATED/);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test('mypy finds no fault in the Python client and its examples under its strict rules', {
  skip: lacks('/usr/bin/mypy', '--version') && 'needs mypy',
}, async () => {
  const cache = mkdtempSync(join(tmpdir(), 'mortise-mypy-'));
  try {
    const options = { cwd: join(CLIENTS, 'python'), timeout: 300_000 };
    const { stdout } = await run('/usr/bin/mypy', ['--cache-dir', cache], options);
    assert.match(stdout, /^Success: no issues found in \d\d source files/);
    for (const name of ['encrypt', 'encrypt_file', 'sign_many']) {
      await run('/usr/bin/mypy', ['--cache-dir', cache, '--strict', `examples/${name}.py`], options);
    }
  } finally {
    rmSync(cache, { recursive: true, force: true });
  }
});
