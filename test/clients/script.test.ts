// The demo must not be able to claim what did not happen.
import assert from 'node:assert/strict';
import { tmpdir } from 'node:os';
import { test } from 'node:test';
import { until, within } from '../lab/patience.ts';
import { NotProved, prove, Script } from '../lab/script.ts';

const scriptOn = (isTTY: boolean) => {
  const said: string[] = [];
  const screen = { isTTY, write: (text: string) => void said.push(text) };
  const env = { PATH: process.env['PATH'] ?? '' };
  return { script: new Script({ screen, cwd: tmpdir(), env }), text: () => said.join('') };
};

test('a command that ends otherwise than claimed is not proved', async () => {
  const { script } = scriptOn(false);
  await assert.rejects(script.mortise(['version'], 3), NotProved);
  await assert.rejects(script.mortise(['no-such-command'], 0), NotProved);
  assert.equal((await script.mortise(['version'], 0)).code, 0);
});

test('a step that fails says nothing of proof and fails the script', async () => {
  const { script, text } = scriptOn(false);
  await assert.rejects(
    script.step('A claim', async () => {
      prove(1 > 2, 'one is more than two');
      return 'arithmetic';
    }),
    NotProved,
  );
  assert.ok(!text().includes('proved:'));
});

test('colours only on a terminal', async () => {
  for (const isTTY of [true, false]) {
    const { script, text } = scriptOn(isTTY);
    await script.step('A claim', async () => 'it holds');
    assert.equal(text().includes('\u001b'), isTTY);
    assert.ok(text().includes('it holds'));
    assert.equal(script.steps, 1);
  }
});

test('a wait in vain ends, and says what it was for', async () => {
  const inVain = /waited 0.01 s in vain: the moon/;
  await assert.rejects(
    until('the moon', async () => undefined, { patienceMs: 10, everyMs: 1 }),
    inVain,
  );
  await assert.rejects(within('the moon', new Promise(() => undefined), 10), inVain);
  assert.equal(await until('the sun', async () => 'light'), 'light');
  await assert.rejects(within('the sun', Promise.reject(new Error('cloud'))), /cloud/);
});
