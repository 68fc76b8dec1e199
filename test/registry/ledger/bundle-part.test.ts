// The part of a log between two countersigned checkpoints: whoever kept the two proves offline that every record between
// them is there, and finds whatever was done to it.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type BundleReport, BundleVerifier } from '../../../proto/documents/audit-bundle.ts';
import { Frontier, leafHash } from '../../../proto/documents/merkle.ts';
import type { LogPart } from '../../../registry/ledger/ledger.ts';
import type { LedgerHost } from '../../support/ledger-host.ts';
import { cosigner, type Opened, openLedger, REGISTRY, streamOf } from './fixture.ts';

const SIZES = [300, 555, 700] as const;

/** 720 records, with checkpoints at 300, 555 and 700. */
const setUp = async (t: Parameters<typeof openLedger>[0]) => {
  const opened = await openLedger(t);
  const host = opened.host.fill(720);
  const { session } = await streamOf(opened, host);
  await session.batch(host.batch(0, 400, [await host.checkpoint(300)]));
  await session.batch(host.batch(400, 720, [await host.checkpoint(555), await host.checkpoint(700)]));
  return { ...opened, host };
};

const exported = async ({ ledger, host }: Opened, part: Partial<LogPart>): Promise<readonly string[]> => {
  let text = '';
  const whole = { origin: host.origin, fromSize: 0, toSize: 0, ...part };
  for await (const piece of ledger.export(REGISTRY, 'acme', {}, 'bundle', whole)) text += piece.toString('utf8');
  return text.trimEnd().split('\n');
};

/** As somebody who has pinned both keys and kept both checkpoints. */
const verify = async (host: LedgerHost, lines: readonly string[], kept: readonly number[]): Promise<BundleReport> => {
  const trusted = await Promise.all(kept.map((size) => host.checkpoint(size)));
  const verifier = new BundleVerifier({ keyOf: () => host.publicJwk, cosigner, trusted });
  for (const line of lines) verifier.line(line);
  return verifier.end();
};
const codes = ({ findings }: BundleReport): string[] => findings.map(({ code, index }) => `${code} ${index}`);

const frontierOf = (host: LedgerHost, size: number): readonly string[] => {
  const frontier = new Frontier();
  for (const { record, mac } of host.records.slice(0, size)) frontier.append(leafHash(Buffer.concat([record, mac])));
  return frontier.nodes.map((node) => node.toString('base64'));
};
const lineOf = (host: LedgerHost, index: number): string => {
  const { record, mac } = host.records[index] as { record: Buffer; mac: Buffer };
  return JSON.stringify({ record: record.toString('base64'), mac: mac.toString('base64') });
};

test('proves every record between two checkpoints, without those before', async (t) => {
  const opened = await setUp(t);
  const { host } = opened;
  for (const [from, to] of [
    [300, 555],
    [300, 700],
    [0, 555],
    [555, 700],
    [700, 700],
  ] as const) {
    const lines = await exported(opened, { fromSize: from, toSize: to });
    assert.equal(lines.filter((line) => line.startsWith('{"record"')).length, to - from);
    const kept = [from, to].filter((size) => size > 0);
    const report = await verify(host, lines, kept);
    assert.deepEqual(codes(report), [], `${from} to ${to}`);
    const checkpoints = SIZES.filter((size) => size >= from && size <= to).length;
    assert.deepEqual(report.logs, [
      { origin: host.origin, from, size: to, checkpoints, keyIsPinned: true, proven: to },
    ]);
  }
  assert.equal((await verify(host, await exported(opened, { fromSize: 555 }), [555, 700])).logs[0]?.size, 700);
});

test('is exported between checkpoints that were countersigned, and no others', async (t) => {
  const opened = await setUp(t);
  const wrong: readonly Partial<LogPart>[] = [
    ...[{ fromSize: 299 }, { fromSize: 300, toSize: 556 }, { toSize: 720 }, { fromSize: 721 }],
    ...[{ fromSize: 700, toSize: 300 }, { origin: 'h-1/acme/1' }, { origin: 'h-1/other/1' }],
  ];
  for (const part of wrong)
    await assert.rejects(exported(opened, part), { code: 'INVALID_REQUEST' }, JSON.stringify(part));
  const part = { origin: opened.host.origin, fromSize: 0, toSize: 0 };
  assert.throws(() => opened.ledger.export(REGISTRY, 'acme', {}, 'csv', part), { code: 'INVALID_REQUEST' });
  assert.throws(() => opened.ledger.export(REGISTRY, 'acme', { host: 'h-1' }, 'bundle', part), {
    code: 'INVALID_REQUEST',
  });
});

test('finds a record that was dropped at either edge, whatever else was made to fit', async (t) => {
  const opened = await setUp(t);
  const { host } = opened;
  const lines = await exported(opened, { fromSize: 300, toSize: 555 });
  const at = (index: number): number => lines.indexOf(lineOf(host, index));
  assert.deepEqual(codes(await verify(host, lines.toSpliced(at(300), 1), [300, 555])), [
    ...['CHECKPOINT_INVALID 554', 'LOG_TRUNCATED 554', 'LOG_TRUNCATED 554'],
  ]);
  // The part begins one record later, with the frontier that is right there.
  const later = JSON.stringify({
    log: { origin: host.origin, publicJwk: host.publicJwk, size: 301, frontier: frontierOf(host, 301) },
  });
  const cutFront = [lines[0] as string, later, ...lines.slice(at(301))];
  assert.deepEqual(codes(await verify(host, cutFront, [])), ['CHECKPOINT_INVALID 301']);
  assert.ok(codes(await verify(host, cutFront, [300, 555])).includes('LOG_TRUNCATED 300'));
  // It ends one record earlier, and says so.
  const end = JSON.stringify({ end: { origin: host.origin, size: 554 } });
  const cutEnd = [...lines.slice(0, at(554)), end];
  assert.deepEqual(codes(await verify(host, cutEnd, [300, 555])), ['LOG_TRUNCATED 554']);
  const report = await verify(host, cutEnd, []);
  assert.equal(report.logs[0]?.proven, 300, 'without the kept one at least nothing behind the first is called proven');
});

test('finds a record that was dropped in the middle, moved, changed, or put in twice', async (t) => {
  const opened = await setUp(t);
  const { host } = opened;
  const lines = await exported(opened, { fromSize: 300, toSize: 555 });
  const at = (index: number): number => lines.indexOf(lineOf(host, index));
  const kept = [300, 555];
  const dropped = codes(await verify(host, lines.toSpliced(at(400), 1), kept));
  assert.ok(dropped.includes('LOG_TRUNCATED 554'), String(dropped));
  const moved = lines.toSpliced(at(400), 2, lineOf(host, 401), lineOf(host, 400));
  assert.equal(codes(await verify(host, moved, kept))[0], 'RECORD_REORDERED 401');
  const twice = lines.toSpliced(at(400), 0, lineOf(host, 400));
  assert.equal(codes(await verify(host, twice, kept))[0], 'RECORD_REORDERED 401');
  const other = host.takenBack(400);
  other.add({ principal: 'else' });
  const changed = lines.toSpliced(at(400), 1, lineOf(other, 400));
  assert.equal(codes(await verify(host, changed, kept))[0], 'LOG_FORKED 300');
  // Dropped, and another of the same size added so that the count is right.
  const filled = lines.toSpliced(at(400), 1).toSpliced(at(554) - 1, 0, lineOf(host, 555));
  assert.ok(codes(await verify(host, filled, kept)).length > 0);
});

test('finds a checkpoint that was exchanged, taken out, or signed without the registry', async (t) => {
  const opened = await setUp(t);
  const { host } = opened;
  const lines = await exported(opened, { fromSize: 300, toSize: 555 });
  const notes = lines.flatMap((line, at) => (line.startsWith('{"checkpoint"') ? [at] : []));
  const [first, last] = notes as [number, number];
  const swapped = lines.toSpliced(first, 1, lines[last] as string).toSpliced(last, 1, lines[first] as string);
  const found = codes(await verify(host, swapped, []));
  assert.ok(found.includes('CHECKPOINT_INVALID 300') && found.includes('CHECKPOINT_INVALID 555'), String(found));
  assert.deepEqual(codes(await verify(host, lines.toSpliced(first, 1), [])), ['CHECKPOINT_INVALID 300']);
  const without = await verify(host, lines.toSpliced(last, 1), []);
  assert.equal(without.logs[0]?.proven, 300);
  const plain = lines.toSpliced(last, 1, JSON.stringify({ checkpoint: await host.checkpoint(555) }));
  assert.deepEqual(codes(await verify(host, plain, [300])), ['CHECKPOINT_INVALID 555']);
  // A host that forked: its signature is right, the kept checkpoint is another.
  const fork = host.takenBack(310);
  for (let index = 310; index < 555; index += 1) fork.add({ principal: 'else' });
  const forged = lines.toSpliced(last, 1, JSON.stringify({ checkpoint: await fork.checkpoint(555) }));
  assert.ok(codes(await verify(host, forged, [300, 555])).length > 0);
});
