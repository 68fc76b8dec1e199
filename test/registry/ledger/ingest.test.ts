// Ingest: what is verified is acknowledged and countersigned; what does not fit is refused, recorded, and changes nothing.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { verifyCheckpoint } from '../../../proto/documents/checkpoint.ts';
import { verifyCosignature } from '../../../proto/documents/cosignature.ts';
import type { Answer } from '../../../registry/ledger/ingest.ts';
import { LedgerHost } from '../../support/ledger-host.ts';
import { cosigner, enrol, handIn, ledgerOver, NOW, openLedger, REGISTRY, sealingKey, streamOf } from './fixture.ts';

const refusal = (answer: Answer | undefined): string => {
  assert.equal(answer?.kind, 'refused');
  return answer?.kind === 'refused' ? `${answer.code} ${answer.index}` : '';
};

test('acknowledges records with a checkpoint that host and registry have signed', async (t) => {
  const opened = await openLedger(t);
  const host = opened.host.fill(20);
  const { session, opened: first } = await streamOf(opened, host);
  assert.deepEqual(first, { kind: 'acknowledged', origin: host.origin, size: 0, checkpoint: '' });
  const early = await session.batch(host.batch(0, 5));
  assert.ok(early?.kind === 'acknowledged' && early.size === 5 && early.checkpoint === '');
  const answer = await session.batch(host.batch(5, 20, [await host.checkpoint(7), await host.checkpoint(20)]));
  assert.ok(answer?.kind === 'acknowledged' && answer.size === 20);
  assert.equal(verifyCheckpoint(answer.checkpoint, host.publicJwk).size, 20);
  assert.equal(verifyCosignature(answer.checkpoint, cosigner), NOW / 1000);
  assert.deepEqual(opened.told, ['opened 0', 'ingested 5', 'ingested 15']);
});

test('goes on where the ledger stands, and passes over what it has already', async (t) => {
  const opened = await openLedger(t);
  const host = opened.host.fill(8);
  const { session } = await streamOf(opened, host);
  await session.batch(host.batch(0, 6));
  // The answer was lost, and the stream with it.
  const again = await streamOf(ledgerOver(opened.store), host);
  assert.ok(again.opened.kind === 'acknowledged' && again.opened.size === 6);
  for (const batch of [host.batch(0, 6), host.batch(2, 8), host.batch(0, 8)]) {
    const answer = await again.session.batch(batch);
    assert.ok(answer?.kind === 'acknowledged' && answer.size === Math.max(6, batch.from + batch.records.length));
  }
  assert.equal((await opened.ledger.verify(REGISTRY, 'acme', { trusted: [] })).records, 8);
});

test('countersigns a checkpoint that comes after its records, at any size', async (t) => {
  const opened = await openLedger(t);
  const host = opened.host.fill(700);
  const { session } = await streamOf(opened, host);
  await session.batch(host.batch(0, 700));
  for (const size of [1, 255, 256, 257, 512, 699, 700]) {
    const answer = await session.batch(host.batch(700, 700, [await host.checkpoint(size)]));
    assert.ok(answer?.kind === 'acknowledged', JSON.stringify(answer));
    assert.equal(verifyCheckpoint(answer.checkpoint, host.publicJwk).size, size);
  }
});

test('takes the batches of two streams of one host, each record once', async (t) => {
  const opened = await openLedger(t);
  const host = opened.host.fill(60);
  const streams = await Promise.all([streamOf(opened, host), streamOf(ledgerOver(opened.store), host)]);
  const answers = await Promise.all(
    streams.map(async ({ session }) => {
      let last: Answer | undefined;
      for (let from = 0; from < 60; from += 10) last = await session.batch(host.batch(from, from + 10));
      return last;
    }),
  );
  for (const answer of answers) assert.ok(answer?.kind === 'acknowledged' && answer.size === 60);
  const verified = await opened.ledger.verify(REGISTRY, 'acme', { trusted: [] });
  assert.deepEqual(verified, { intact: true, logs: 1, records: 60, findings: [] });
});

interface Attack {
  readonly what: string;
  readonly refused: string;
  batch(host: LedgerHost): Promise<ReturnType<LedgerHost['batch']>>;
}

const flipped = (bytes: Buffer, at: number): Buffer => {
  const copy = Buffer.from(bytes);
  copy[at] = (copy[at] as number) ^ 1;
  return copy;
};
const withRecord = (host: LedgerHost, at: number, row: { record: Buffer; mac: Buffer }) => {
  const batch = host.batch(10);
  return { ...batch, records: batch.records.map((known, index) => (index === at ? row : known)) };
};

const ATTACKS: readonly Attack[] = [
  { what: 'a gap', refused: 'LEDGER_GAP 10', batch: async (host) => host.batch(11) },
  {
    what: 'an edited record',
    refused: 'LEDGER_EDITED 12',
    batch: async (host) => {
      const row = host.records[12] as { record: Buffer; mac: Buffer };
      return withRecord(host, 2, { ...row, record: flipped(row.record, row.record.indexOf('svc')) });
    },
  },
  {
    what: 'an edited MAC',
    refused: 'LEDGER_EDITED 11',
    batch: async (host) => {
      const row = host.records[11] as { record: Buffer; mac: Buffer };
      return withRecord(host, 1, { ...row, mac: flipped(row.mac, 0) });
    },
  },
  {
    what: 'a record left out, the rest moved up',
    refused: 'LEDGER_EDITED 10',
    batch: async (host) => ({ ...host.batch(11), from: 10 }),
  },
  {
    what: 'records in another order',
    refused: 'LEDGER_EDITED 10',
    batch: async (host) => ({ ...host.batch(10), records: host.batch(10).records.toReversed() }),
  },
  {
    what: 'a record of another tenant',
    refused: 'LEDGER_EDITED 20',
    batch: async (host) => {
      host.add({ tenant: 'other' });
      return host.batch(10);
    },
  },
  {
    what: 'a record of another host',
    refused: 'LEDGER_EDITED 20',
    batch: async (host) => {
      host.add({ eventId: `h-2/${host.epoch}/21` });
      return host.batch(10);
    },
  },
  {
    what: 'an event id that was there before',
    refused: 'LEDGER_EDITED 20',
    batch: async (host) => {
      host.add({ eventId: `${host.host}/${host.epoch}/20` });
      return host.batch(10);
    },
  },
  {
    what: 'an epoch without a MAC key',
    refused: 'LEDGER_UNSEALED 20',
    batch: async (host) => {
      host.add({ eventId: `${host.host}/${host.epoch + 1}/1` });
      return host.batch(10);
    },
  },
  {
    what: 'another record than the ledger has',
    refused: 'LEDGER_FORKED 5',
    batch: async (host) => host.takenBack(5).fill(1).batch(0),
  },
  {
    what: 'a checkpoint over other records',
    refused: 'LEDGER_FORKED 20',
    batch: async (host) => host.batch(10, 20, [await host.checkpoint(20, randomBytes(32))]),
  },
  {
    what: 'a checkpoint over other records that it has already',
    refused: 'LEDGER_FORKED 9',
    batch: async (host) => host.batch(10, 20, [await host.checkpoint(9, randomBytes(32))]),
  },
  {
    what: 'a checkpoint by another key',
    refused: 'CHECKPOINT_INVALID 20',
    batch: async (host) => host.batch(10, 20, [await new LedgerHost().fill(20).checkpoint()]),
  },
  {
    what: 'a checkpoint of more than was handed in',
    refused: 'CHECKPOINT_INVALID 19',
    batch: async (host) => host.batch(10, 19, [await host.checkpoint(20)]),
  },
];

for (const { what, refused, batch } of ATTACKS) {
  test(`refuses ${what}, tells of it, and keeps what it has`, async (t) => {
    const opened = await openLedger(t);
    const host = opened.host.fill(20);
    const { session } = await streamOf(opened, host);
    await session.batch(host.batch(0, 10, [await host.checkpoint(10)]));
    // One record of the forked host must differ, or it would be the same log.
    const other = what.startsWith('another record') ? await forked(host) : await batch(host);
    assert.equal(refusal(await session.batch(other)), refused);
    assert.equal(opened.told.at(-1), `refused ${refused}`);
    assert.deepEqual(opened.recorded, [`acme ${refused}`]);
    assert.equal(await session.batch(host.batch(10)), undefined);
    const [log] = await opened.ledger.logs(REGISTRY, 'acme', { limit: 9 });
    assert.equal(log?.size, 10);
    assert.ok(log?.refusal.startsWith(refused.split(' ')[0] as string));
    assert.equal((await opened.ledger.verify(REGISTRY, 'acme', { trusted: [] })).intact, true);
  });
}

const forked = async (host: LedgerHost) => {
  const fork = host.takenBack(5);
  fork.add({ principal: 'somebody else' });
  return fork.batch(0);
};

test('refuses a host that has fewer records than the ledger, and one whose key changed', async (t) => {
  const opened = await openLedger(t);
  const host = opened.host.fill(10);
  await handIn(opened, host);
  assert.equal(refusal((await streamOf(opened, host.takenBack(4))).opened), 'LEDGER_REWOUND 4');
  const imposter = new LedgerHost().fill(10);
  const session = opened.ingest.session('h-1');
  assert.equal(refusal(await session.open(imposter.origin, imposter.jwk, 10)), 'LEDGER_FORKED 10');
});

test('goes on with other logs of the stream when one is refused', async (t) => {
  const opened = await openLedger(t);
  const host = opened.host.fill(3);
  const own = new LedgerHost({ tenant: '_platform', epoch: host.epoch }).fill(3);
  const { session } = await streamOf(opened, host);
  await session.open(own.origin, own.jwk, 3);
  assert.equal(refusal(await session.batch(host.batch(1))), 'LEDGER_GAP 0');
  // Its MACs are by another key than the stream has sealed.
  assert.equal(refusal(await session.batch(own.batch(0))), 'LEDGER_EDITED 0');
  const fresh = new LedgerHost({ tenant: '_platform', epoch: host.epoch, of: host }).fill(3);
  await session.open(fresh.origin, own.jwk, 3);
  const answer = await session.batch(fresh.batch(0));
  assert.ok(answer?.kind === 'acknowledged' && answer.size === 3);
});

test('takes one MAC key for an epoch, sealed for this host and this registry', async (t) => {
  const opened = await openLedger(t);
  const host = opened.host.fill(2);
  const { session } = await streamOf(opened, host);
  assert.deepEqual(await session.macKey(host.epoch, await host.sealedMacKey(sealingKey)), []);
  const stranger = await host.sealedMacKey(sealingKey, { name: `h-2/${host.epoch}` });
  await assert.rejects(session.macKey(host.epoch, stranger), { code: 'INVALID_REQUEST' });
  await assert.rejects(session.macKey(host.epoch, 'a.b.c.d.e'), { code: 'INVALID_REQUEST' });
  const short = await host.sealedMacKey(sealingKey, { key: Buffer.alloc(16) });
  await assert.rejects(session.macKey(host.epoch, short), { code: 'INVALID_REQUEST' });
  const [answer] = await session.macKey(host.epoch, await host.sealedMacKey(sealingKey, { key: Buffer.alloc(32, 1) }));
  assert.equal(refusal(answer), 'LEDGER_FORKED 0');
});

test('takes no log of another host or of a tenant that the host does not serve', async (t) => {
  const opened = await openLedger(t);
  await enrol(opened.store, 'h-2', ['other']);
  const session = opened.ingest.session('h-2');
  for (const origin of ['h-1/acme/1', 'h-2/acme/1', 'h-2/acme', 'x', 'h-2/_platform']) {
    assert.equal(refusal(await session.open(origin, opened.host.jwk, 0)), 'PERMISSION_DENIED 0');
  }
  assert.deepEqual(await opened.ledger.logs(REGISTRY, 'acme', { limit: 9 }), []);
  await assert.rejects(session.batch({ origin: 'h-2/other/9', from: 0, records: [], checkpoints: [] }), {
    code: 'INVALID_REQUEST',
  });
});
