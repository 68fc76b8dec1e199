import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { AgentError } from '../../../agent/errors.ts';
import { openReplayMemory } from '../../../agent/identity/replay.ts';
import { smallFileSystem, temporaryFolder } from '../../support/folder.ts';
import { NOW, testClock } from './support.ts';

const token = (id: string, expiresAt = NOW + 60_000, issuer = 'https://issuer.example') => ({ issuer, id, expiresAt });

test('a token id is taken once, also by calls at the same time', async (t) => {
  const memory = openReplayMemory({ folder: join(temporaryFolder(t), 'identity'), clock: testClock() });
  const takes = await Promise.all(Array.from({ length: 50 }, () => memory.take(token('one'))));
  assert.equal(takes.filter(Boolean).length, 1);
  assert.equal(await memory.take(token('two')), true);
  assert.equal(await memory.take(token('one', NOW + 60_000, 'https://second.example')), true);
  await memory.close();
});

test('issuer and id cannot be shifted into one another', async (t) => {
  const memory = openReplayMemory({ folder: join(temporaryFolder(t), 'identity'), clock: testClock() });
  assert.equal(await memory.take(token('b c', NOW + 1, 'a')), true);
  assert.equal(await memory.take(token('c', NOW + 1, 'a b')), true);
  assert.equal(await memory.take(token('","', NOW + 1, 'a')), true);
  await memory.close();
});

test('the memory outlives the process, also when it is killed right after the answer', async (t) => {
  const folder = join(temporaryFolder(t), 'identity');
  const script = `
    import { openReplayMemory } from ${JSON.stringify(join(import.meta.dirname, '../../../agent/identity/replay.ts'))};
    const memory = openReplayMemory({ folder: ${JSON.stringify(folder)}, clock: { now: () => ${NOW} } });
    console.log(await memory.take({ issuer: 'https://issuer.example', id: 'one', expiresAt: ${NOW + 60_000} }));
    process.kill(process.pid, 'SIGKILL');`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let text = '';
  child.stdout.on('data', (chunk) => {
    text += chunk;
  });
  await once(child, 'close');
  assert.equal(text, 'true\n');
  const memory = openReplayMemory({ folder, clock: testClock() });
  assert.equal(await memory.take(token('one')), false);
  await memory.close();
});

test('what has expired is forgotten, the rest is kept', async (t) => {
  const clock = testClock();
  const folder = join(temporaryFolder(t), 'identity');
  const memory = openReplayMemory({ folder, clock });
  assert.equal(statSync(folder).mode & 0o777, 0o700);
  for (let count = 0; count < 20; count += 1) await memory.take(token(`early-${count}`, NOW + 1000));
  await memory.take(token('late', NOW + 5000));
  assert.equal(await memory.sweep(), 0);
  clock.advance(1001);
  assert.equal(await memory.sweep(), 20);
  assert.equal(await memory.sweep(), 0);
  assert.equal(await memory.take(token('late', NOW + 5000)), false);
  await memory.close();
});

test('a full disk refuses with STORE_UNAVAILABLE and heals with the space', async (t) => {
  const folder = smallFileSystem(t, '256k');
  if (folder === undefined) return t.skip('needs the right to mount a tmpfs');
  const memory = openReplayMemory({ folder: join(folder, 'identity'), clock: testClock() });
  assert.equal(await memory.take(token('first')), true);
  const filler = join(folder, 'filler');
  try {
    writeFileSync(filler, Buffer.alloc(512 * 1024));
  } catch {
    // The disk is full now, which was the aim.
  }
  let refused: unknown;
  for (let count = 0; count < 2000 && refused === undefined; count += 1) {
    await memory.take(token(`id-${count}`)).catch((error: unknown) => {
      refused = error;
    });
  }
  assert.ok(refused instanceof AgentError && refused.code === 'STORE_UNAVAILABLE', String(refused));
  writeFileSync(filler, '');
  assert.equal(await memory.take(token('after')), true);
  assert.equal(await memory.take(token('first')), false);
  await memory.close();
});
