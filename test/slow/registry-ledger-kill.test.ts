// A registry that is killed at any moment has every record that it acknowledged, in a tree that is whole.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Frontier } from '../../proto/documents/merkle.ts';
import { leafOf, storedTree } from '../../registry/ledger/tree.ts';
import { openLmdbStore } from '../../registry/store/lmdb/store.ts';

const CHILD = join(import.meta.dirname, '../registry/ledger/append-until-killed.ts');
const KILLS = 25;
const WAIT_MS = 30_000;
const events = { failed: () => undefined, reconnected: () => undefined };

/** Runs the child until it has acknowledged often enough, then kills it; answers the last size that it told of. */
const killAfter = async (path: string, epoch: number, lines: number): Promise<number> => {
  const child = spawn(process.execPath, [CHILD, path, String(epoch)], { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = new Promise<void>((resolve) => void child.once('close', () => resolve()));
  const timer = setTimeout(() => child.kill('SIGKILL'), WAIT_MS);
  let text = '';
  child.stdout.on('data', (data: Buffer) => {
    text += data;
    if (text.split('\n').length > lines) child.kill('SIGKILL');
  });
  await ended;
  clearTimeout(timer);
  const told = text.split('\n').slice(0, -1).map(Number);
  assert.ok(told.length >= lines, `the child told of ${told.length} batches in time, not of ${lines}`);
  return told.at(-1) as number;
};

test('the ledger has all that it acknowledged after each of many kills', async (t) => {
  const path = await mkdtemp(join(tmpdir(), 'mortise-ledger-kill-'));
  t.after(() => rm(path, { recursive: true }));
  for (let kill = 1; kill <= KILLS; kill += 1) {
    const acknowledged = await killAfter(path, kill, kill);
    const store = openLmdbStore({ path, events });
    try {
      const ledger = store.forTenant('acme', { kind: 'registry' });
      const origin = `h-1/acme/${kill}`;
      const log = await ledger.log(origin);
      assert.ok(log !== undefined && log.size >= acknowledged, `${log?.size} of ${acknowledged} records`);
      const records = await ledger.records({ origin, from: 0, limit: log.size + 1 });
      assert.equal(records.length, log.size);
      const frontier = new Frontier();
      for (const row of records) frontier.append(leafOf(row));
      assert.deepEqual(frontier.nodes, log.frontier);
      assert.deepEqual(await storedTree(ledger, origin).root(0, log.size), frontier.root());
      assert.equal(log.checkpointSize, log.size);
      const { length } = await ledger.query({ host: 'h-1', principal: 'svc', limit: 1_000_000 });
      assert.ok(length >= log.size);
    } finally {
      await store.close();
    }
  }
});
