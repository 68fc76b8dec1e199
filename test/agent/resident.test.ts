import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { cleanMappings } from '../../agent/resident.ts';

const NODE = '/usr/lib/mortise/bin/node';
const part = (range: string, mode: string, file: string, anonymousKb: number): string =>
  `${range} ${mode} 00001000 08:01 42 ${file}\nRss: 16 kB\nAnonymous: ${String(anonymousKb).padStart(8)} kB\nVmFlags: rd ex`;

test('only mappings of the program that nothing was written to are given back', () => {
  const smaps = [
    part('55d000000000-55d000400000', 'r--p', NODE, 0),
    part('55d000400000-55d000600000', 'r-xp', NODE, 0),
    part('55d000600000-55d000700000', 'r--p', NODE, 8), // relocations, written to before they were protected
    part('55d000700000-55d000800000', 'rw-p', NODE, 0),
    part('7f0000000000-7f0000100000', 'r-xp', '/usr/lib/libother.so', 0),
    part('7f0000100000-7f0000200000', 'r-xp', `${NODE} (deleted)`, 0),
    part('7f0000200000-7f0000300000', 'r-xp', '', 0),
  ].join('\n');
  assert.deepEqual(cleanMappings(smaps, NODE), [
    { from: 0x55d000000000n, bytes: 0x400000n },
    { from: 0x55d000400000n, bytes: 0x200000n },
  ]);
  assert.deepEqual(cleanMappings('', NODE), []);
});

test('a process that gave memory back is smaller and goes on, in all of its threads', () => {
  const script = `
    import { createHash, generateKeyPairSync, sign, verify } from 'node:crypto';
    import { readFileSync } from 'node:fs';
    import { Worker } from 'node:worker_threads';
    import { returnMemory } from ${JSON.stringify(join(import.meta.dirname, '../../agent/resident.ts'))};
    const resident = () => Number(/^Rss: +(\\d+)/m.exec(readFileSync('/proc/self/smaps_rollup', 'utf8'))[1]);
    const hashes = () => createHash('sha256').update('abc').digest('hex');
    const worker = new Worker(\`
      import { parentPort } from 'node:worker_threads';
      import { createHash } from 'node:crypto';
      parentPort.on('message', (text) => parentPort.postMessage(createHash('sha256').update(text).digest('hex')));
    \`, { eval: true });
    const ask = () => new Promise((resolve) => { worker.once('message', resolve); worker.postMessage('abc'); });
    const first = await ask();
    const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const before = resident();
    const done = returnMemory();
    const after = resident();
    const signature = sign('sha256', Buffer.from('x'), privateKey);
    const same = hashes() === first && (await ask()) === first && verify('sha256', Buffer.from('x'), publicKey, signature);
    await worker.terminate();
    console.log(JSON.stringify({ done, before, after, same }));`;
  const output = execFileSync(process.execPath, ['--input-type=module', '--eval', script], { timeout: 30_000 });
  const { done, before, after, same } = JSON.parse(String(output)) as Record<string, number>;
  assert.equal(done, true);
  assert.equal(same, true);
  assert.ok(Number(before) - Number(after) > 5_000, `${before} kB before, ${after} kB after`);
});
