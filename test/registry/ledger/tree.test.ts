// The stored tree agrees with the plain one of RFC 6962 at every size, from nodes that were made once.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { inclusionProof, leafHash, rootOf } from '../../../proto/documents/merkle.ts';
import type { RecordRow, TreeNode } from '../../../registry/ledger/store.ts';
import { GrowingTree, leafOf, storedTree } from '../../../registry/ledger/tree.ts';

const SIZE = 66_000; // above 256 * 256: two levels of nodes
const rowOf = (index: number): RecordRow => ({
  ...{ index, record: Buffer.from(`record ${index}`), mac: Buffer.alloc(32, index), ingestedAt: 0 },
});

const grow = (upTo: number, step: number) => {
  let tree = new GrowingTree(0, []);
  const nodes: TreeNode[] = [];
  const leaves: Buffer[] = [];
  for (let index = 0; index < upTo; index += 1) {
    const leaf = leafOf(rowOf(index));
    leaves.push(leaf);
    tree.append(leaf);
    if (index % step !== step - 1) continue;
    nodes.push(...tree.nodes);
    tree = new GrowingTree(tree.size, tree.frontier.nodes); // as the next batch finds it
  }
  nodes.push(...tree.nodes);
  return { nodes, leaves, tree };
};

const storeOf = (nodes: readonly TreeNode[]) => {
  const byLevel = Map.groupBy(nodes, ({ level }) => level);
  let reads = 0;
  return {
    reads: () => reads,
    records: async ({ from, limit }: { from: number; limit: number }) => {
      reads += limit;
      return Array.from({ length: limit }, (_, at) => rowOf(from + at));
    },
    nodes: async ({ level, from, limit }: { level: number; from: number; limit: number }) => {
      reads += limit;
      return (byLevel.get(level) ?? []).slice(from, from + limit);
    },
  };
};

test('a leaf is the hash of record and MAC', () => {
  const row = rowOf(7);
  assert.deepEqual(leafOf(row), leafHash(Buffer.concat([row.record, row.mac])));
});

test('makes each node once, in order, whatever the batches', () => {
  const { nodes, tree, leaves } = grow(SIZE, 1000);
  assert.deepEqual(nodes, grow(SIZE, 7).nodes);
  assert.equal(nodes.filter(({ level }) => level === 1).length, Math.floor(SIZE / 256));
  assert.deepEqual(
    nodes.filter(({ level }) => level === 2).map(({ index, hash }) => [index, hash]),
    [[0, rootOf(leaves.slice(0, 65_536))]],
  );
  const [, second] = nodes.filter(({ level }) => level === 1);
  assert.deepEqual(second, { level: 1, index: 1, hash: rootOf(leaves.slice(256, 512)) });
  assert.deepEqual(tree.frontier.root(), rootOf(leaves));
});

test('finds roots and inclusion proofs of any size with few reads', async () => {
  const { nodes, leaves } = grow(SIZE, 1000);
  for (const size of [1, 2, 3, 255, 256, 257, 511, 1000, 65_535, 65_536, 65_537, SIZE]) {
    const store = storeOf(nodes);
    const tree = storedTree(store, 'h/t/1');
    assert.deepEqual(await tree.root(0, size), rootOf(leaves.slice(0, size)), `root of ${size}`);
    assert.ok(store.reads() < 1024, `${store.reads()} reads for ${size}`);
  }
  for (const [index, size] of [
    [0, 1],
    [0, 2],
    [300, 1000],
    [65_535, SIZE],
    [65_999, SIZE],
  ] as const) {
    const store = storeOf(nodes);
    const path = await storedTree(store, 'h/t/1').inclusion(index, size);
    assert.deepEqual(path, inclusionProof(leaves.slice(0, size), index));
    assert.ok(store.reads() < 1024, `${store.reads()} reads for ${index} of ${size}`);
  }
});

test('says that the ledger is corrupt where a node is missing', async () => {
  const { nodes } = grow(600, 1000);
  const tree = storedTree(storeOf(nodes.slice(1)), 'h/t/1');
  await assert.rejects(tree.root(0, 512), { code: 'LEDGER_CORRUPT' });
});
