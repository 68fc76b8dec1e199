// Paths and contents of tlog-tiles against the spec, with trees computed by the plain definition of RFC 6962.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { DocumentError } from '../../proto/documents/canonical.ts';
import { TileBuilder, tilePath } from '../../proto/documents/tlog-tiles.ts';

const sha = (...parts: Uint8Array[]): Buffer => {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest();
};

const mth = (leaves: readonly Buffer[]): Buffer => {
  if (leaves.length === 1) return leaves[0] as Buffer;
  let k = 1;
  while (k * 2 < leaves.length) k *= 2;
  return sha(Uint8Array.of(1), mth(leaves.slice(0, k)), mth(leaves.slice(k)));
};

test('spells paths as the spec does', () => {
  assert.equal(tilePath(0, 1_234_067), 'tile/0/x001/x234/067');
  assert.equal(tilePath(0, 0), 'tile/0/000');
  assert.equal(tilePath(1, 999, 1), 'tile/1/999.p/1');
  assert.equal(tilePath(63, 1000, 255), 'tile/63/x001/000.p/255');
  assert.equal(tilePath('entries', 273, 112), 'tile/entries/273.p/112');
});

test('gives the tiles that the example of the spec names for a tree of 70,000 entries', () => {
  const builder = new TileBuilder();
  const files = new Map<string, Buffer>();
  const leaves: Buffer[] = [];
  for (let index = 0; index < 70_000; index += 1) {
    const entry = Buffer.from(`entry ${index}`);
    leaves.push(sha(Uint8Array.of(0), entry));
    for (const { path, bytes } of builder.add(entry)) files.set(path, bytes);
  }
  for (const { path, bytes } of builder.end()) files.set(path, bytes);
  // 256 full and one partial tile of 112 hashes at the lowest level are 273.4 tiles; 273 hashes above, and one over those.
  const of = (level: string) => [...files.keys()].filter((path) => path.startsWith(`tile/${level}/`));
  assert.equal(of('0').length, 274);
  assert.ok(files.has('tile/0/273.p/112'));
  assert.deepEqual(of('1'), ['tile/1/000', 'tile/1/001.p/17']);
  assert.deepEqual(of('2'), ['tile/2/000.p/1']);
  assert.deepEqual(of('3'), []);
  assert.equal(of('entries').length, 274);
  assert.deepEqual(files.get('tile/0/001'), Buffer.concat(leaves.slice(256, 512)));
  assert.deepEqual(files.get('tile/1/000')?.subarray(32, 64), mth(leaves.slice(256, 512)));
  assert.deepEqual(files.get('tile/2/000.p/1'), mth(leaves.slice(0, 65_536)));
  const bundle = files.get('tile/entries/273.p/112') as Buffer;
  assert.equal(bundle.readUInt16BE(0), 'entry 69888'.length);
  assert.equal(bundle.subarray(2, 13).toString(), 'entry 69888');
});

test('has no partial file for a tree that fills its tiles, and refuses an entry beyond the format', () => {
  const builder = new TileBuilder();
  const files = Array.from({ length: 256 }, () => builder.add(Buffer.of(1))).flat();
  assert.deepEqual(
    [...files, ...builder.end()].map(({ path }) => path),
    ['tile/entries/000', 'tile/0/000', 'tile/1/000.p/1'],
  );
  assert.throws(() => builder.add(Buffer.alloc(65_536)), DocumentError);
  assert.deepEqual(new TileBuilder().end(), []);
});
