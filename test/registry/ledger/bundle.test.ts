// Bundles: what a registry exports proves itself complete between checkpoints, offline, without trust in the registry.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type BundleOptions, type BundleReport, BundleVerifier } from '../../../proto/documents/audit-bundle.ts';
import { DocumentError } from '../../../proto/documents/canonical.ts';
import { Frontier, leafHash } from '../../../proto/documents/merkle.ts';
import { LedgerHost } from '../../support/ledger-host.ts';
import { cosigner, openLedger, REGISTRY, streamOf } from './fixture.ts';

const verify = (lines: readonly string[], options: BundleOptions = {}): BundleReport => {
  const verifier = new BundleVerifier(options);
  for (const line of lines) verifier.line(line);
  return verifier.end();
};
const codes = ({ findings }: BundleReport): string[] => findings.map(({ code, index }) => `${code} ${index}`);

/** 30 records, with checkpoints at 10, 20 and 30, as lines. */
const exported = async (t: Parameters<typeof openLedger>[0]) => {
  const opened = await openLedger(t);
  const host = opened.host.fill(30);
  const { session } = await streamOf(opened, host);
  await session.batch(host.batch(0, 25, [await host.checkpoint(10), await host.checkpoint(20)]));
  await session.batch(host.batch(25, 30, [await host.checkpoint(30)]));
  let text = '';
  for await (const piece of opened.ledger.export(REGISTRY, 'acme', {}, 'bundle')) text += piece.toString('utf8');
  return { host, lines: text.trimEnd().split('\n') };
};

test('proves a whole log by the pinned keys of host and registry', async (t) => {
  const { host, lines } = await exported(t);
  const report = verify(lines, { keyOf: () => host.publicJwk, cosigner, trusted: [await host.checkpoint(15)] });
  assert.deepEqual(report, {
    ...{ intact: true, tenant: 'acme', cosignerIsPinned: true, findings: [], findingCount: 0, certificates: [] },
    logs: [{ origin: host.origin, from: 0, size: 30, checkpoints: 3, keyIsPinned: true, proven: 30 }],
  });
});

test('says when nobody pinned the key', async (t) => {
  const { lines } = await exported(t);
  assert.equal(verify(lines).logs[0]?.keyIsPinned, false);
  assert.equal(verify(lines, { keyOf: (host) => (host === 'h-2' ? {} : undefined) }).logs[0]?.keyIsPinned, false);
});

test('finds a record that was taken out, changed, moved or added, whatever else was made to fit', async (t) => {
  const { host, lines } = await exported(t);
  const [head, log, ...rest] = lines as [string, string, ...string[]];
  const at = (count: number): number => rest.findIndex((line) => line.includes(base64Of(host, count)));
  const by = { keyOf: () => host.publicJwk };
  const without = rest.toSpliced(at(3), 1);
  assert.ok(codes(verify([head, log, ...without], by)).length > 0);
  const changed = rest.toSpliced(at(12), 1, lineOf(new LedgerHost().fill(13), 12));
  assert.deepEqual(codes(verify([head, log, ...changed], by)), ['LOG_FORKED 10']);
  const moved = rest.toSpliced(at(3), 2, rest[at(4)] as string, rest[at(3)] as string);
  assert.deepEqual(codes(verify([head, log, ...moved], by))[0], 'RECORD_REORDERED 4');
  const foreign = rest.toSpliced(at(3), 1, lineOf(new LedgerHost({ host: 'h-2' }).fill(4), 3));
  assert.deepEqual(codes(verify([head, log, ...foreign], by))[0], 'RECORD_EDITED 3');
});

const base64Of = (host: LedgerHost, index: number): string => host.records[index]?.record.toString('base64') as string;
const lineOf = (host: LedgerHost, index: number): string =>
  JSON.stringify({ record: base64Of(host, index), mac: host.records[index]?.mac.toString('base64') });

test('finds a log that was cut off, also where its end was made to fit', async (t) => {
  const { host, lines } = await exported(t);
  const by = { keyOf: () => host.publicJwk };
  assert.deepEqual(codes(verify(lines.slice(0, 20), by))[0]?.split(' ')[0], 'LOG_TRUNCATED');
  const end = JSON.stringify({ end: { origin: host.origin, size: 20 } });
  const cut = lines.findIndex((line) => line.includes(base64Of(host, 20)));
  const shorter = [...lines.slice(0, cut), end];
  // It is a log of 20 records; only somebody who kept a later checkpoint knows better.
  assert.deepEqual(verify(shorter, by).logs[0]?.proven, 20);
  assert.deepEqual(codes(verify(shorter, { ...by, trusted: [await host.checkpoint(30)] })), ['LOG_TRUNCATED 20']);
  const wrong = JSON.stringify({ end: { origin: host.origin, size: 31 } });
  assert.deepEqual(codes(verify([...lines.slice(0, -1), wrong], by)), ['LOG_TRUNCATED 30']);
});

test('finds a kept checkpoint of another past, and one whose log is not here', async (t) => {
  const { host, lines } = await exported(t);
  const fork = host.takenBack(5);
  for (let at = 5; at < 15; at += 1) fork.add({ principal: 'else' });
  const report = verify(lines, { keyOf: () => host.publicJwk, trusted: [await fork.checkpoint()] });
  assert.deepEqual(codes(report), ['LOG_FORKED 10']);
  const gone = await new LedgerHost({ epoch: 5 }).fill(2).checkpoint();
  assert.deepEqual(codes(verify(lines, { trusted: [gone] })), ['LOG_TRUNCATED 0']);
});

test('takes no checkpoint by another key, and none without the countersignature that was asked for', async (t) => {
  const { host, lines } = await exported(t);
  const other = new LedgerHost();
  assert.deepEqual(codes(verify(lines, { keyOf: () => other.publicJwk })), [
    ...['CHECKPOINT_INVALID 10', 'CHECKPOINT_INVALID 20', 'CHECKPOINT_INVALID 30'],
  ]);
  const plain = await Promise.all(
    lines.map(async (line) =>
      line.startsWith('{"checkpoint"') && line.includes('\\n30\\n')
        ? JSON.stringify({ checkpoint: await host.checkpoint(30) })
        : line,
    ),
  );
  assert.equal(verify(plain, { keyOf: () => host.publicJwk }).intact, true);
  assert.deepEqual(codes(verify(plain, { keyOf: () => host.publicJwk, cosigner })), ['CHECKPOINT_INVALID 30']);
});

test('proves a part of a log between two checkpoints, and none that begins out of nowhere', async (t) => {
  const { host, lines } = await exported(t);
  const frontier = new Frontier();
  for (const { record, mac } of host.records.slice(0, 10)) frontier.append(leafHash(Buffer.concat([record, mac])));
  const start = {
    ...{ origin: host.origin, publicJwk: host.publicJwk, size: 10 },
    frontier: frontier.nodes.map((node) => node.toString('base64')),
  };
  const first = lines.findIndex((line) => line.startsWith('{"checkpoint"'));
  const part = [lines[0] as string, JSON.stringify({ log: start }), ...lines.slice(first)];
  const report = verify(part, { keyOf: () => host.publicJwk });
  assert.equal(report.intact, true);
  assert.deepEqual(report.logs[0], {
    origin: host.origin,
    from: 10,
    size: 30,
    checkpoints: 3,
    keyIsPinned: true,
    proven: 30,
  });
  const loose = part.filter((line) => !line.startsWith('{"checkpoint"'));
  assert.deepEqual(codes(verify(loose, { keyOf: () => host.publicJwk })), ['CHECKPOINT_INVALID 10']);
});

test('answers any bytes with a finding or a DocumentError', async (t) => {
  const { lines } = await exported(t);
  const line = fc.oneof(
    fc.constantFrom(...lines),
    fc.json(),
    fc.record({ log: fc.anything() }).map((value) => JSON.stringify(value)),
    fc.record({ record: fc.base64String(), mac: fc.base64String() }).map((value) => JSON.stringify(value)),
    fc.record({ checkpoint: fc.string() }).map((value) => JSON.stringify(value)),
    fc.string(),
  );
  fc.assert(
    fc.property(fc.array(line, { maxLength: 6 }), (some) => {
      try {
        verify([lines[0] as string, ...some]);
      } catch (error) {
        assert.ok(error instanceof DocumentError, String(error));
      }
    }),
    { numRuns: 300 },
  );
});
