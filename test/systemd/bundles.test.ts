// The bundled programs, run under the Node and the addons that are packaged with them, away from the sources.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { after, test } from 'node:test';
import { Client, credentials } from '@grpc/grpc-js';
import { bundlePrograms } from '../../systemd/package/bundle.ts';
import { PROGRAMS } from '../../systemd/package/programs.ts';
import { type Staged, stage } from '../../systemd/package/stage.ts';
import { clientOf } from '../e2e/load.ts';
import { startAgent } from '../support/agent.ts';

const CHECKOUT = join(import.meta.dirname, '../../node_modules');
const folder = await mkdtemp(join(tmpdir(), 'mortise-bundles-'));
after(() => rm(folder, { recursive: true, force: true }));
const staged: Staged = await stage(join(folder, 'mortise'));
const node = join(staged.folder, 'bin/node');
const program = (output: string): string => join(staged.folder, output);

const hashes = async (root: string): Promise<Record<string, string>> => {
  const entries = await readdir(root, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  const rows = files.sort().map(async (file) => {
    const hash = createHash('sha256')
      .update(await readFile(file))
      .digest('hex');
    return [relative(root, file), hash] as const;
  });
  return Object.fromEntries(await Promise.all(rows));
};

test('a second build has the same bytes', async () => {
  const again = join(folder, 'again');
  await bundlePrograms(again);
  const built = await hashes(again);
  assert.deepEqual(Object.keys(built).sort(), PROGRAMS.map(({ output }) => output).sort());
  const first = await hashes(staged.folder);
  for (const [file, hash] of Object.entries(built)) assert.equal(hash, first[file], file);
});

/** Names of services by the reflection service, whose code parses .proto files when it is first called. */
const reflected = async (socket: string): Promise<string> => {
  const client = new Client(`unix:${socket}`, credentials.createInsecure());
  const pass = (bytes: Buffer): Buffer => bytes;
  const call = client.makeBidiStreamRequest('/grpc.reflection.v1.ServerReflection/ServerReflectionInfo', pass, pass);
  try {
    const answered = once(call, 'data', { signal: AbortSignal.timeout(30_000) });
    call.write(Buffer.from('3a012a', 'hex')); // list_services: "*"
    return String((await answered)[0]);
  } finally {
    call.on('error', () => undefined); // of the cancelling itself
    call.cancel();
    client.close();
  }
};

test('the bundled agent serves, with its token process and the threads of both', async () => {
  await using agent = await startAgent({ program: { node, main: program('agent/main.js') } });
  using client = clientOf(agent, 'acme');
  const message = Buffer.from('iron, 40 t');
  for (const algorithm of ['EC-P256', 'SLH-DSA-SHA2-128f']) {
    await client.keys.create({ keyId: algorithm.toLowerCase(), purpose: 'sign', algorithm });
    const { jws } = await client.sign(algorithm.toLowerCase(), { message });
    assert.equal((await client.verify({ jws })).valid, true);
  }
  const health = execFileSync(node, [program('cli/main.js'), 'health', '--output', 'json'], {
    env: { MORTISE_SOCKET: agent.socket },
    timeout: 30_000,
  });
  assert.match(String(health), /"SERVING"/);
  assert.match(await reflected(agent.socket), /mortise\.agent\.v1\.CryptoService/);
  for (const pid of [agent.pid, agent.tokenPid()]) {
    const maps = await readFile(`/proc/${pid}/maps`, 'utf8');
    assert.ok(maps.includes(join(staged.folder, 'node_modules/@koromix')), 'it has the packaged addons');
    assert.ok(!maps.includes(CHECKOUT), 'nothing of the checkout is loaded');
  }
});

test('the programs say their version and what they want', () => {
  const run = (output: string, ...args: string[]): string =>
    String(execFileSync(node, [program(output), ...args], { env: {}, timeout: 30_000 }));
  for (const output of ['agent/main.js', 'registry/main.js']) {
    assert.equal(run(output, '--version').trim(), staged.version);
    assert.match(run(output, '--help'), /^usage: /);
  }
  assert.match(run('cli/main.js', '--help'), /Usage: mortise/);
});
