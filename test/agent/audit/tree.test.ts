// The agent's tree over its records: roots of full subtrees are made once, and a walk can be given up.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { recordKey } from '../../../agent/audit/rows.ts';
import { logTree, type TreeStore } from '../../../agent/audit/tree.ts';
import { AgentError } from '../../../agent/errors.ts';
import { inclusionProof, leafHash, rootOf } from '../../../proto/documents/merkle.ts';

const storeOf = (count: number, full = false) => {
  const rows = new Map<string, Buffer>();
  const leaves: Buffer[] = [];
  for (let index = 0; index < count; index += 1) {
    const row = Buffer.from(`record ${index}`);
    rows.set(recordKey('acme', index).toString('latin1'), row);
    leaves.push(leafHash(row));
  }
  const seen = { reads: 0, commits: 0 };
  const store: TreeStore = {
    get: (key) => {
      seen.reads += 1;
      return rows.get(key.toString('latin1'));
    },
    commit: (puts) => {
      if (full) throw new AgentError('AUDIT_UNAVAILABLE');
      for (const { key, value } of puts) rows.set(key.toString('latin1'), value);
      seen.commits += puts.length;
    },
  };
  return { rows, leaves, seen, store };
};

test('proofs and roots are those of RFC 6962, and the second one reads little', async () => {
  const { leaves, seen, store } = storeOf(2000);
  const tree = logTree(store, 'acme');
  assert.deepEqual(await tree.inclusion(777, 2000), inclusionProof(leaves, 777));
  const cold = { ...seen };
  assert.equal(cold.commits, 6, 'roots of the full subtrees beside the path, once');
  assert.deepEqual(await tree.inclusion(778, 2000), inclusionProof(leaves, 778));
  assert.equal(seen.commits, cold.commits);
  assert.ok(seen.reads - cold.reads < 600, `${seen.reads - cold.reads} reads`);
  assert.deepEqual(await tree.root(0, 2000), rootOf(leaves));
  assert.deepEqual((await tree.frontier(2000)).root(), rootOf(leaves));
});

test('works on a full disk, and says what is missing', async () => {
  const { leaves, rows, store } = storeOf(600, true);
  assert.deepEqual(await logTree(store, 'acme').root(0, 600), rootOf(leaves));
  rows.delete(recordKey('acme', 300).toString('latin1'));
  await assert.rejects(logTree(store, 'acme').root(0, 600), { code: 'AUDIT_CORRUPT', metadata: { index: '0' } });
});

test('gives up at the signal', async () => {
  const { seen, store } = storeOf(2000);
  const ending = new AbortController();
  ending.abort(new AgentError('CANCELLED'));
  await assert.rejects(logTree(store, 'acme', ending.signal).root(0, 2000), { code: 'CANCELLED' });
  assert.equal(seen.commits, 0);
});
