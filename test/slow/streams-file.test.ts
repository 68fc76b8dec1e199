// A file of 4 GiB through the program and back, in constant memory; the file is sparse, what comes out is not.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createReadStream, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { test } from 'node:test';
import { connect } from '../../clients/typescript/index.ts';
import { CLI } from '../clients/cli/run-cli.ts';
import { startAgent } from '../support/agent.ts';

const MIB = 1024 * 1024;
const SIZE = 4096 * MIB;

const digestOf = async (path: string): Promise<string> => {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path, { highWaterMark: MIB }), hash);
  return hash.digest('hex');
};

test('4 GiB are encrypted and decrypted, and neither end keeps them', { timeout: 30 * 60_000 }, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'mortise-large-'));
  await using agent = await startAgent();
  const token = agent.bearer('acme').slice('Bearer '.length);
  const at = (name: string): string => join(folder, name);
  const highest = (pid: number): number =>
    Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) * 1024;
  const run = async (...args: string[]): Promise<number> => {
    const env = { PATH: process.env['PATH'], MORTISE_SOCKET: agent.socket, MORTISE_TOKEN_FILE: at('token') };
    const child = spawn(process.execPath, [CLI, ...args], { env, stdio: ['ignore', 'inherit', 'pipe'] });
    let most = 0;
    const look = setInterval(() => {
      try {
        most = Math.max(most, highest(child.pid as number));
      } catch {
        // it has just ended
      }
    }, 200);
    const [code] = await once(child, 'close');
    clearInterval(look);
    assert.equal(code, 0);
    return most;
  };
  try {
    using client = connect({ socketPath: agent.socket, token });
    await client.keys.create({ keyId: 'vault', purpose: 'encrypt', algorithm: 'AES-256' });
    writeFileSync(at('token'), token);
    writeFileSync(at('large'), 'the beginning');
    truncateSync(at('large'), SIZE);
    const expected = await digestOf(at('large'));
    const encrypting = await run('encrypt', '--key', 'vault', at('large'), '--out', at('large.mce'));
    rmSync(at('large'));
    const decrypting = await run('decrypt', at('large.mce'), '--out', at('back'));
    assert.equal(await digestOf(at('back')), expected);
    for (const bytes of [encrypting, decrypting, highest(agent.pid)]) {
      assert.ok(bytes < 384 * MIB, `${bytes / MIB} MiB were resident`);
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
