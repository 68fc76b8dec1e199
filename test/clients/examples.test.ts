// The examples of the clients run as they stand, against a real agent that knows the caller by its uid.
import assert from 'node:assert/strict';
import { execFile, spawn, spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { connect, type MortiseClient } from '../../clients/typescript/index.ts';
import { SCOPES } from '../../proto/documents/operations.ts';
import { type RunningAgent, startAgent } from '../support/agent.ts';

const run = promisify(execFile);
const CLIENTS = join(import.meta.dirname, '../../clients');
const PYTHON = '/usr/bin/python3';
const missing = spawnSync(PYTHON, ['-c', 'import grpc, google.protobuf']).status !== 0;
const python = { skip: missing && 'needs python3-grpcio and python3-protobuf' };

let agent: RunningAgent;
let client: MortiseClient;
let env: Record<string, string>;
before(async () => {
  const me = { uid: process.getuid?.() ?? 0, tenant: 'acme', principal: 'examples', scopes: [...SCOPES] };
  agent = await startAgent({ platform: { workloads: [me] } });
  env = {
    PATH: process.env['PATH'] ?? '/usr/bin:/bin',
    MORTISE_SOCKET: agent.socket,
    PYTHONPATH: join(CLIENTS, 'python'),
    PYTHONDONTWRITEBYTECODE: '1',
  };
  client = connect({ socketPath: agent.socket });
  await client.keys.create({ keyId: 'orders', purpose: 'encrypt' });
  await client.keys.create({ keyId: 'notes', purpose: 'sign' });
});
after(async () => {
  client?.close();
  await agent?.stop();
});

const example = async (command: string, file: string, ...args: string[]): Promise<string> =>
  (await run(command, [join(CLIENTS, file), ...args], { env, timeout: 60_000 })).stdout;

const encryptsOne = async (command: string, file: string): Promise<void> => {
  const lines = (await example(command, file, 'orders', 'the text')).trimEnd().split('\n');
  assert.match(lines[0] as string, /^A256GCMKW .*orders/);
  assert.deepEqual(lines.slice(-2), ['INVALID_CIPHERTEXT final', 'the text']);
};

const encryptsFile = async (command: string, file: string): Promise<void> => {
  const source = join(agent.folder, 'source');
  const target = join(agent.folder, 'target');
  const data = Buffer.alloc(3_000_001, 'some text ');
  writeFileSync(source, data);
  await example(command, file, 'orders', source, target);
  const pieces: Buffer[] = [];
  for await (const piece of client.streams.decrypt([readFileSync(target)])) pieces.push(piece);
  assert.equal(Buffer.concat(pieces).compare(data), 0);
};

test('TypeScript: one value, by the uid of the process', () =>
  encryptsOne(process.execPath, 'typescript/examples/encrypt.ts'));
test('TypeScript: a file', () => encryptsFile(process.execPath, 'typescript/examples/encrypt-file.ts'));
test('Python: one value, by the uid of the process', python, () => encryptsOne(PYTHON, 'python/examples/encrypt.py'));
test('Python: a file', python, () => encryptsFile(PYTHON, 'python/examples/encrypt_file.py'));

test('Python: many signatures at a time with asyncio', python, async () => {
  const child = spawn(PYTHON, [join(CLIENTS, 'python/examples/sign_many.py'), 'notes'], { env, timeout: 60_000 });
  const ended = new Promise((resolve) => child.once('close', resolve));
  let out = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    out += text;
  });
  child.stdin.end(Array.from({ length: 100 }, (_, index) => `line ${index}\n`).join(''));
  assert.equal(await ended, 0);
  const signed = out.trimEnd().split('\n');
  assert.equal(signed.length, 100);
  const { valid, payload } = await client.verify({ jws: signed[42] as string });
  assert.deepEqual([valid, payload.toString()], [true, 'line 42']);
});

test('Python: the program of the README', python, async () => {
  const readme = readFileSync(join(CLIENTS, 'python/README.md'), 'utf8');
  const program = /```python\n([\s\S]*?)```/.exec(readme)?.[1] as string;
  await run(PYTHON, ['-c', program], { env, timeout: 60_000 });
});
