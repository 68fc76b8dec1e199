import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  consistencyProof,
  EMPTY_ROOT,
  Frontier,
  inclusionProof,
  leafHash,
  rootOf,
  verifyConsistency,
  verifyInclusion,
} from '../../proto/documents/merkle.ts';

// The eight leaves of the reference tests of Certificate Transparency, with the roots and proofs published there.
const LEAVES = ['', '00', '10', '2021', '3031', '40414243', '5051525354555657', '606162636465666768696a6b6c6d6e6f'].map(
  (hex) => leafHash(Buffer.from(hex, 'hex')),
);
const ROOTS = [
  '6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d',
  'fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125',
  'aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77',
  'd37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7',
  '4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4',
  '76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef',
  'ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c',
  '5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328',
];
const hex = (hashes: readonly Buffer[]): string[] => hashes.map((hash) => hash.toString('hex'));

test('the roots of the published tree', () => {
  assert.equal(EMPTY_ROOT.toString('hex'), 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855');
  assert.deepEqual(
    LEAVES.map((_, i) => rootOf(LEAVES.slice(0, i + 1)).toString('hex')),
    ROOTS,
  );
});

test('the published inclusion and consistency proofs', () => {
  assert.deepEqual(hex(inclusionProof(LEAVES, 0)), [
    '96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7',
    '5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e',
    '6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4',
  ]);
  assert.deepEqual(hex(consistencyProof(LEAVES, 6)), [
    '0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a',
    'ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0',
    'd37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7',
  ]);
  assert.deepEqual(hex(consistencyProof(LEAVES.slice(0, 5), 2)), [
    '5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e',
    'bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b',
  ]);
});

/** MTH of RFC 6962 section 2.1, word for word; the frontier must agree with it. */
const recursiveRoot = (leaves: readonly Buffer[]): Buffer => {
  if (leaves.length === 0) return EMPTY_ROOT;
  if (leaves.length === 1) return leaves[0] as Buffer;
  const k = 2 ** Math.ceil(Math.log2(leaves.length) - 1);
  return rootOf([recursiveRoot(leaves.slice(0, k)), recursiveRoot(leaves.slice(k))]);
};

const leavesOf = (n: number): Buffer[] => Array.from({ length: n }, (_, i) => leafHash(Buffer.from(`leaf ${i}`)));

test('the frontier has the root of the recursive definition at every size, and goes on from any state of it', () => {
  const leaves = leavesOf(130);
  let frontier = new Frontier();
  let copy = new Frontier();
  for (const [i, leaf] of leaves.entries()) {
    frontier.append(leaf);
    copy.appendHashOf(Buffer.from(`\0leaf ${i}`));
    assert.deepEqual(frontier.root(), recursiveRoot(leaves.slice(0, i + 1)));
    assert.deepEqual(copy.nodes, frontier.nodes);
    frontier = new Frontier(frontier.size, frontier.nodes);
    copy = Frontier.of(frontier.size, Buffer.from(frontier.bytes));
  }
  assert.throws(() => new Frontier(3, [EMPTY_ROOT]), /does not fit/);
  assert.throws(() => new Frontier(1, [EMPTY_ROOT.subarray(1)]), /not a hash/);
  assert.throws(() => Frontier.of(1, EMPTY_ROOT.subarray(1)), /cut off/);
});

test('every inclusion proof verifies, and for nothing else', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 70 }), fc.nat(), fc.nat(), (size, a, b) => {
      const leaves = leavesOf(size);
      const index = a % size;
      const claim = {
        index,
        size,
        leaf: leaves[index] as Buffer,
        proof: inclusionProof(leaves, index),
        root: rootOf(leaves),
      };
      assert.ok(verifyInclusion(claim));
      const other = b % size;
      if (other !== index) {
        assert.ok(!verifyInclusion({ ...claim, index: other }));
        assert.ok(!verifyInclusion({ ...claim, leaf: leaves[other] as Buffer }));
      }
      assert.ok(!verifyInclusion({ ...claim, index: size }));
      assert.ok(!verifyInclusion({ ...claim, root: EMPTY_ROOT }));
      assert.ok(!verifyInclusion({ ...claim, proof: [...claim.proof, EMPTY_ROOT] }));
      if (claim.proof.length > 0) assert.ok(!verifyInclusion({ ...claim, proof: claim.proof.slice(1) }));
    }),
    { numRuns: 200 },
  );
});

test('every consistency proof verifies, and for no other pair of trees', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 70 }), fc.nat(), (newSize, a) => {
      const leaves = leavesOf(newSize);
      const oldSize = 1 + (a % newSize);
      const claim = {
        oldSize,
        oldRoot: rootOf(leaves.slice(0, oldSize)),
        newSize,
        newRoot: rootOf(leaves),
        proof: consistencyProof(leaves, oldSize),
      };
      assert.ok(verifyConsistency(claim));
      assert.ok(!verifyConsistency({ ...claim, oldRoot: EMPTY_ROOT }));
      assert.ok(!verifyConsistency({ ...claim, newRoot: EMPTY_ROOT }));
      assert.ok(!verifyConsistency({ ...claim, oldSize: newSize + 1 }));
      if (oldSize > 1) assert.ok(!verifyConsistency({ ...claim, oldSize: oldSize - 1 }));
      if (claim.proof.length > 0) assert.ok(!verifyConsistency({ ...claim, proof: claim.proof.slice(0, -1) }));
    }),
    { numRuns: 200 },
  );
});

test('proofs of what is not there are refused', () => {
  assert.throws(() => inclusionProof(LEAVES, 8), /no such leaf/);
  assert.throws(() => consistencyProof(LEAVES, 9), /no such old size/);
  assert.throws(() => consistencyProof(LEAVES, 0), /no such old size/);
});
