// When garbage is collected: on demand, and not once more for every 64 MB of buffers that have come and gone.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { collectGarbage } from '../../agent/garbage.ts';

const GARBAGE = join(import.meta.dirname, '../../agent/garbage.ts');
/** Makes 1 GiB of buffers, of which one is alive at a time, beside a heap of some size; tells the full collections. */
const program = (before: string): string => `
  import { countBuffersAsHeap } from ${JSON.stringify(GARBAGE)};
  ${before}
  globalThis.kept = Array.from({ length: 100_000 }, (_, index) => ({ index, text: String(index) }));
  for (let made = 0; made < 1024; made += 1) {
    Buffer.alloc(2 ** 20);
    if (made % 16 === 0) await new Promise(setImmediate);
  }`;
const fullCollections = (before: string): number => {
  const args = ['--trace-gc', '--input-type=module', '--eval', program(before)];
  const output = execFileSync(process.execPath, args, { encoding: 'utf8', timeout: 30_000, env: {} });
  return output.match(/Mark-Compact/g)?.length ?? 0;
};

test('buffers that come and go cause no more than half of the full collections that V8 makes for them by itself', () => {
  const byItself = fullCollections('');
  assert.ok(byItself >= 6, `V8 made only ${byItself}: what this is for has gone`);
  const counted = fullCollections('countBuffersAsHeap();');
  assert.ok(counted * 2 <= byItself, `${counted} in place of ${byItself}`);
});

test('garbage is collected on demand', async () => {
  let weak: WeakRef<object>;
  (() => {
    weak = new WeakRef({ garbage: true });
  })();
  await new Promise(setImmediate); // a reference that was looked at lives to the end of its turn
  collectGarbage();
  assert.equal(weak.deref(), undefined);
});
