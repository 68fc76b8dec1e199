// tlog-tiles as a stranger reads them: the reader below knows the C2SP texts (tlog-tiles, tlog-checkpoint, signed-note), the
// key, and a folder of files, and shares no code with what wrote them.
import assert from 'node:assert/strict';
import { createHash, createPublicKey, verify } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join, relative } from 'node:path';
import { type TestContext, test } from 'node:test';
import { linesIn, writeTiles } from '../../../clients/cli/tiles.ts';
import { BUNDLE_SCHEMA, bundleLine } from '../../../proto/documents/audit-bundle.ts';
import { decodeAuditRecord } from '../../../proto/documents/audit-record.ts';
import { DocumentError } from '../../../proto/documents/canonical.ts';
import { LedgerHost } from '../../support/ledger-host.ts';
import { temporaryFolder } from './run-cli.ts';

const linesOf = async (host: LedgerHost, checkpoint: string, size = host.records.length): Promise<string[]> => {
  const { origin, publicJwk, records } = host;
  return [
    bundleLine({ schema: BUNDLE_SCHEMA, tenant: host.tenant, cosigner: '' }),
    bundleLine({ log: { origin, publicJwk, size: 0, frontier: [] } }),
    ...records
      .slice(0, size)
      .map(({ record, mac }) => bundleLine({ record: record.toString('base64'), mac: mac.toString('base64') })),
    bundleLine({ checkpoint }),
    bundleLine({ end: { origin, size } }),
  ];
};

/** In pieces that end anywhere. */
async function* inPieces(lines: readonly string[]): AsyncGenerator<Buffer> {
  const bytes = Buffer.from(lines.join(''));
  for (let at = 0; at < bytes.length; at += 7919) yield bytes.subarray(at, at + 7919);
}

const exported = async (t: TestContext, count: number) => {
  const host = new LedgerHost().fill(count);
  const folder = join(temporaryFolder(t), 'logs', 'acme');
  const lines = await linesOf(host, await host.checkpoint());
  const tiles = await writeTiles(folder, linesIn(inPieces(lines)), { keyOf: () => host.publicJwk });
  return { host, folder, tiles };
};

const sha = (...parts: Uint8Array[]): Buffer => {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest();
};
const parentOf = (left: Buffer, right: Buffer): Buffer => sha(Uint8Array.of(1), left, right);

/** Reads a log by its files alone. */
class Reader {
  readonly #folder: string;
  readonly origin: string;
  readonly size: number;
  readonly root: Buffer;

  constructor(folder: string, jwk: Readonly<Record<string, unknown>>) {
    this.#folder = folder;
    const note = readFileSync(join(folder, 'checkpoint'), 'utf8');
    const [text, signatures] = note.split('\n\n') as [string, string];
    const [origin, size, root] = text.split('\n') as [string, string, string];
    const key = createPublicKey({ key: jwk, format: 'jwk' });
    const raw = Buffer.from(jwk['x'] as string, 'base64url');
    const id = sha(Buffer.from(`${origin}\n`), Uint8Array.of(1), raw).subarray(0, 4);
    const isSigned = signatures.split('\n').some((line) => {
      const match = /^\u2014 (\S+) (\S+)$/.exec(line);
      const blob = Buffer.from(match?.[2] ?? '', 'base64');
      if (match?.[1] !== origin || !blob.subarray(0, 4).equals(id)) return false;
      return verify(null, Buffer.from(`${text}\n`), key, blob.subarray(4));
    });
    assert.ok(isSigned, 'the note is signed by the log');
    this.origin = origin;
    this.size = Number(size);
    this.root = Buffer.from(root, 'base64');
  }

  #read(kind: string, tile: number, wanted: number): Buffer {
    const digits = String(tile).padStart(Math.ceil(String(tile).length / 3) * 3, '0');
    const path = (digits.match(/.{3}/g) as string[]).map((part, at, all) => (at < all.length - 1 ? `x${part}` : part));
    return readFileSync(join(this.#folder, 'tile', kind, ...path) + (wanted === 256 ? '' : `.p/${wanted}`));
  }

  #width(level: number, tile: number): number {
    return Math.min(256, Math.floor(this.size / 256 ** level) - tile * 256);
  }

  hash(level: number, index: number): Buffer {
    const tile = Math.floor(index / 256);
    const width = this.#width(level, tile);
    const bytes = this.#read(String(level), tile, width);
    assert.equal(bytes.length, width * 32);
    return bytes.subarray((index % 256) * 32, (index % 256) * 32 + 32);
  }

  /** MTH(D[start:start + count]), from the highest tiles that have it. */
  range(start: number, count: number): Buffer {
    for (let level = 0; 256 ** level <= count; level += 1) {
      if (256 ** level === count && start % count === 0) return this.hash(level, start / count);
    }
    let k = 1;
    while (k * 2 < count) k *= 2;
    return parentOf(this.range(start, k), this.range(start + k, count - k));
  }

  entries(tile: number): Buffer[] {
    const width = this.#width(0, tile);
    const bytes = this.#read('entries', tile, width);
    const entries: Buffer[] = [];
    for (let at = 0; at < bytes.length; ) {
      const length = bytes.readUInt16BE(at);
      entries.push(bytes.subarray(at + 2, at + 2 + length));
      at += 2 + length;
    }
    assert.equal(entries.length, width);
    return entries;
  }
}

test('an independent reader verifies checkpoint, tree, entries and proofs from the files alone', async (t) => {
  for (const count of [1, 255, 256, 700]) {
    const { host, folder, tiles } = await exported(t, count);
    assert.deepEqual(tiles, { origin: host.origin, size: count });
    const reader = new Reader(folder, host.publicJwk);
    assert.deepEqual([reader.origin, reader.size], [host.origin, count]);
    assert.deepEqual(reader.range(0, count), reader.root, `the root of ${count}`);
    for (let tile = 0; tile * 256 < count; tile += 1) {
      for (const [at, entry] of reader.entries(tile).entries()) {
        const index = tile * 256 + at;
        assert.deepEqual(sha(Uint8Array.of(0), entry), reader.hash(0, index));
        assert.equal(decodeAuditRecord(entry.subarray(0, -32)).record.correlationId, `c-${index}`);
      }
    }
  }
  const { host, folder } = await exported(t, 700);
  const reader = new Reader(folder, host.publicJwk);
  // The audit path of record 300 of 700: each sibling from the tiles.
  const path: readonly (readonly [number, number])[] = [
    [301, 1],
    [302, 2],
    [296, 4],
    [288, 8],
    [304, 16],
    [256, 32],
  ];
  let node = reader.hash(0, 300);
  for (const [start, size] of path) {
    const sibling = reader.range(start, size);
    node = start < 300 ? parentOf(sibling, node) : parentOf(node, sibling);
  }
  assert.deepEqual(node, reader.range(256, 64));
});

test('a later export changes no full tile', async (t) => {
  const host = new LedgerHost().fill(700);
  const folder = temporaryFolder(t);
  const at = async (size: number): Promise<string> => {
    const path = join(folder, String(size));
    const lines = await linesOf(host, await host.checkpoint(size), size);
    await writeTiles(path, linesIn(inPieces(lines)));
    return path;
  };
  const [early, late] = [await at(600), await at(700)];
  const full = readdirSync(early, { recursive: true, encoding: 'utf8' }).filter((name) =>
    /tile\/\w+\/\d{3}$/.test(name),
  );
  assert.equal(full.length, 4);
  for (const name of full) assert.deepEqual(readFileSync(join(early, name)), readFileSync(join(late, name)), name);
});

test('makes no folder of what does not verify, or is not covered, or is a part', async (t) => {
  const folder = temporaryFolder(t);
  const host = new LedgerHost().fill(20);
  const good = await linesOf(host, await host.checkpoint());
  const options = { keyOf: () => host.publicJwk };
  const bad: readonly (readonly string[])[] = [
    good.toSpliced(9, 1),
    good.toSpliced(9, 2, good[10] as string, good[9] as string),
    good.filter((line) => !line.startsWith('{"checkpoint"')),
    good.slice(0, -1),
    await linesOf(host, await new LedgerHost().fill(20).checkpoint()),
    [good[0] as string],
    [`{"schema":"x","pad":"${'x'.repeat(400_000)}`],
  ];
  for (const lines of bad) {
    await assert.rejects(writeTiles(join(folder, 'tiles'), linesIn(inPieces(lines)), options), DocumentError);
    assert.deepEqual(readdirSync(folder), [], 'nothing is left');
  }
  const other = { ...options, origin: `host-9/${host.tenant}/1` };
  await assert.rejects(writeTiles(join(folder, 'tiles'), linesIn(inPieces(good)), other), DocumentError);
  await writeTiles(join(folder, 'tiles'), linesIn(inPieces(good)), { ...options, origin: host.origin });
  assert.ok(existsSync(join(folder, 'tiles', 'checkpoint')));
  assert.equal(statSync(join(folder, 'tiles')).mode & 0o777, 0o700, 'whose it is may let others read it');
});

test('only what was verified is in the folder, whatever else stands in a line', async (t) => {
  const folder = temporaryFolder(t);
  const host = new LedgerHost().fill(20);
  const checkpoint = await host.checkpoint();
  const good = await linesOf(host, checkpoint);
  const { record, mac } = JSON.parse(good[2] as string);
  const stuffed = good.map((line) => {
    const json = JSON.parse(line);
    // Beside the member that says what the line is, members of other kinds of line.
    const more = 'record' in json ? { checkpoint: 'forged' } : { record, mac, checkpoint: json.checkpoint ?? 'forged' };
    return 'checkpoint' in json ? line : bundleLine({ ...more, ...json });
  });
  await writeTiles(join(folder, 'stuffed'), linesIn(inPieces(stuffed)), { keyOf: () => host.publicJwk });
  await writeTiles(join(folder, 'good'), linesIn(inPieces(good)), { keyOf: () => host.publicJwk });
  const files = (name: string): Record<string, string> => {
    const paths = readdirSync(join(folder, name), { recursive: true, withFileTypes: true }).filter((at) => at.isFile());
    const pathOf = (at: { parentPath: string; name: string }): string => join(at.parentPath, at.name);
    return Object.fromEntries(
      paths.map((at) => [relative(join(folder, name), pathOf(at)), readFileSync(pathOf(at)).toString('base64')]),
    );
  };
  assert.deepEqual(files('stuffed'), files('good'));
  assert.equal(readFileSync(join(folder, 'stuffed', 'checkpoint'), 'utf8'), checkpoint);
});

test('the checkpoint in the folder covers all of it, also where a kept one covers more', async (t) => {
  const folder = temporaryFolder(t);
  const host = new LedgerHost().fill(20);
  const [early, kept] = [await host.checkpoint(10), await host.checkpoint()];
  const lines = (await linesOf(host, kept)).filter((line) => !line.startsWith('{"checkpoint"'));
  lines.splice(12, 0, bundleLine({ checkpoint: early }));
  const options = { keyOf: () => host.publicJwk, trusted: [kept] };
  await assert.rejects(writeTiles(join(folder, 'tiles'), linesIn(inPieces(lines)), options), DocumentError);
  assert.deepEqual(readdirSync(folder), []);
});
