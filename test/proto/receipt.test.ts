// Receipts as documents: what verifies offline by pinned keys, and every way in which one must not.
import assert from 'node:assert/strict';
import { generateKeyPairSync, sign } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { DocumentError } from '../../proto/documents/canonical.ts';
import { cosign, cosignerText } from '../../proto/documents/cosignature.ts';
import { inclusionProof, leafHash } from '../../proto/documents/merkle.ts';
import { formatReceipt, type Pinned, parseReceipt, proveRecord, type Receipt } from '../../proto/documents/receipt.ts';
import { formatProof } from '../../proto/documents/tlog-proof.ts';
import { LedgerHost } from '../support/ledger-host.ts';

const SIZE = 20;
const SECONDS = 1_764_000_000;
const registryKeys = generateKeyPairSync('ed25519');
const NAME = 'registry.test/cosigner';
const cosigner = cosignerText(NAME, registryKeys.publicKey);
const countersign = (note: string, { privateKey, publicKey } = registryKeys): string =>
  cosign(note, { name: NAME, publicKey, seconds: SECONDS, sign: (data) => sign(null, data, privateKey) });

const receiptOf = async (host: LedgerHost, index: number, options: { size?: number; note?: string } = {}) => {
  const size = options.size ?? host.records.length;
  const note = options.note ?? countersign(await host.checkpoint(size));
  const leaves = host.records.slice(0, size).map(({ record, mac }) => leafHash(Buffer.concat([record, mac])));
  const proof = formatProof({ index, hashes: inclusionProof(leaves, index), checkpoint: note });
  return { proof, ...(host.records[index] as { record: Buffer; mac: Buffer }) } satisfies Receipt;
};

const refused = (receipt: Receipt, pinned: Pinned, why: RegExp): void =>
  assert.throws(
    () => proveRecord(receipt, pinned),
    (error) => error instanceof DocumentError && why.test(error.message),
  );

test('proves the record, its position and its log, also after a file was made of it', async () => {
  const host = new LedgerHost().fill(SIZE);
  const receipt = parseReceipt(formatReceipt(await receiptOf(host, 7)));
  const eventId = `h-1/${host.epoch}/8`;
  const proven = proveRecord(receipt, { publicJwk: host.publicJwk, cosigner: `${cosigner}\n`, eventId });
  assert.deepEqual([proven.index, proven.size, proven.origin], [7, SIZE, host.origin]);
  assert.deepEqual([proven.record.correlationId, proven.countersignedAt], ['c-7', SECONDS]);
  assert.equal('countersignedAt' in proveRecord(receipt, { publicJwk: host.publicJwk }), false);
});

test('refuses a record that was changed, another record, and another MAC', async () => {
  const host = new LedgerHost().fill(SIZE);
  const receipt = await receiptOf(host, 7);
  const pinned = { publicJwk: host.publicJwk };
  const record = Buffer.from(receipt.record);
  record.write('SVC', record.indexOf('svc'));
  refused({ ...receipt, record }, pinned, /not in the log/);
  refused({ ...receipt, mac: Buffer.alloc(32) }, pinned, /not in the log/);
  refused({ ...receipt, ...(host.records[8] as Receipt) }, pinned, /not in the log/);
  refused({ ...receipt, proof: receipt.proof.replace('index 7', 'index 6') }, pinned, /not in the log/);
  refused(receipt, { ...pinned, eventId: `h-1/${host.epoch}/9` }, /another record/);
});

test('refuses the proof of another tree, and the log of another tenant or host', async () => {
  const host = new LedgerHost().fill(SIZE);
  const fork = host.takenBack(5);
  for (let at = 5; at < SIZE; at += 1) fork.add({ principal: 'else' });
  const of = await receiptOf(host, 7);
  const pinned = { publicJwk: host.publicJwk };
  const [head] = (await receiptOf(fork, 7)).proof.split('\n\n');
  const [, ...note] = of.proof.split('\n\n');
  refused({ ...of, proof: [head, ...note].join('\n\n') }, pinned, /not in the log/);
  refused({ ...of, proof: (await receiptOf(fork, 7)).proof }, pinned, /not in the log/);
  // A host that puts a record of one tenant or host into the log of another, and signs that.
  for (const other of [new LedgerHost({ tenant: 'other' }), new LedgerHost({ host: 'h-2' })]) {
    const eventId = `h-1/${other.epoch}/1`;
    other.add({ tenant: 'acme', eventId });
    refused(await receiptOf(other, 0), { publicJwk: other.publicJwk }, /not that of the record/);
  }
});

test('refuses keys other than the pinned ones, of host and of registry', async () => {
  const host = new LedgerHost().fill(SIZE);
  const receipt = await receiptOf(host, 3);
  refused(receipt, { publicJwk: new LedgerHost().publicJwk }, /no signature by the given key/);
  const stranger = generateKeyPairSync('ed25519');
  const pinned = { publicJwk: host.publicJwk, cosigner };
  refused(await receiptOf(host, 3, { note: await host.checkpoint() }), pinned, /signature|cosign/);
  const forged = countersign(await host.checkpoint(), stranger);
  refused(await receiptOf(host, 3, { note: forged }), pinned, /signature|cosign/);
  refused(receipt, { ...pinned, cosigner: 'no key' }, /verifier key/);
});

test('refuses a checkpoint that was taken back behind the kept one, or is over other records', async () => {
  const host = new LedgerHost().fill(SIZE);
  const by = async (keptCheckpoint: Promise<string>): Promise<Pinned> => ({
    publicJwk: host.publicJwk,
    keptCheckpoint: await keptCheckpoint,
  });
  const early = await receiptOf(host, 3, { size: 10 });
  assert.equal(proveRecord(early, await by(host.checkpoint(10))).size, 10);
  refused(early, await by(host.checkpoint(11)), /covers 10 records, the kept one 11/);
  const fork = host.takenBack(5);
  for (let at = 5; at < SIZE; at += 1) fork.add({ principal: 'else' });
  refused(await receiptOf(fork, 3, { size: 10 }), await by(host.checkpoint(10)), /other records/);
  refused(early, await by(new LedgerHost({ epoch: 5 }).fill(3).checkpoint()), /another log/);
});

test('answers any text with a proven record or a DocumentError', async () => {
  const host = new LedgerHost().fill(4);
  const good = formatReceipt(await receiptOf(host, 1));
  const text = fc.oneof(
    fc.string(),
    fc.json(),
    fc
      .tuple(fc.nat(good.length - 1), fc.string({ maxLength: 3 }))
      .map(([at, put]) => good.slice(0, at) + put + good.slice(at + 1)),
  );
  fc.assert(
    fc.property(text, (some) => {
      try {
        const { record } = proveRecord(parseReceipt(some), { publicJwk: host.publicJwk });
        assert.equal(record.correlationId, 'c-1');
      } catch (error) {
        assert.ok(error instanceof DocumentError, String(error));
      }
    }),
    { numRuns: 500 },
  );
});
