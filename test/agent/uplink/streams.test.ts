// The streams of a session: policies handed on, logs handed in within bounds, changes of the catalogue only in their order.
import assert from 'node:assert/strict';
import { createHmac, randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { CompactEncrypt, importJWK } from 'jose';
import { CatalogCalls } from '../../../agent/uplink/catalog-calls.ts';
import { followCatalog } from '../../../agent/uplink/catalog-feed.ts';
import type { CatalogSink, LedgerSource, Position } from '../../../agent/uplink/ports.ts';
import { encodeAuditRecord, formatEventId, macInput } from '../../../proto/documents/audit-record.ts';
import { encodeKeyRecord } from '../../../proto/documents/key-record-parse.ts';
import { aRecord } from '../../support/key-records.ts';
import { makePolicyFolder } from '../../support/policy.ts';
import { setUp, type UplinkWorld } from './world.ts';

test('policies are handed on as published, and those in force are not sent again', async (t) => {
  const world = await setUp(t);
  const folder = await makePolicyFolder();
  t.after(() => folder.remove());
  const jws = await readFile(join(folder.dir, 'platform.json'));
  world.registry.publish(jws);
  const digests: string[] = [];
  const uplink = world.make({
    policies: {
      applied: () => digests.map((digest) => ({ tenant: '_platform', version: 1, digest, since: 1 })),
      receive: async ({ policies }) => void world.received.push(...policies),
    },
  });
  await world.next('connected');
  await world.registry.until(() => world.received.length > 0, 'the policy');
  assert.deepEqual(world.received[0], { tenant: '_platform', jws });
  await uplink.close();
});

/** A log in memory, MACed as the audit room would. */
const memoryLog = (world: UplinkWorld, count: number) => {
  const key = randomBytes(32);
  const records = Array.from({ length: count }, (_, index) => {
    const eventId = formatEventId({ host: world.host, epoch: 7, sequence: index });
    const fields = {
      principal: 'p',
      key: '-',
      algorithm: '-',
      operation: 'sign',
      outcome: 'ok',
      correlationId: `c-${index}`,
    };
    const time = '2026-11-24T07:26:37.000042Z';
    const record = encodeAuditRecord({ tenant: 'acme', ...fields, time, eventId, detail: '' });
    return { record, mac: createHmac('sha256', key).update(macInput(record, index)).digest(), epoch: 7 };
  });
  let acknowledged = 0;
  let asked = 0;
  const log = () => ({ tenant: 'acme', origin: `${world.host}/acme/1`, size: records.length, acknowledged });
  const source: LedgerSource & { most: number; records: typeof records } = {
    most: 0,
    records,
    logs: () => [log()],
    log,
    publicJwk: '{"kty":"OKP"}',
    read: async (_, from) => {
      const batch = records.slice(from, from + 100);
      asked = from + batch.length;
      source.most = Math.max(source.most, asked - acknowledged);
      return batch;
    },
    checkpoints: () => [],
    sealedMacKey: async (epoch) => {
      const recipient = await importJWK(JSON.parse(world.registry.ledger.sealingJwk), 'ECDH-ES+A256KW');
      const header = { alg: 'ECDH-ES+A256KW', enc: 'A256GCM', mortise: `${world.host}/${epoch}` };
      return new CompactEncrypt(key).setProtectedHeader(header).encrypt(recipient);
    },
    acknowledge: async (_, size) => {
      acknowledged = size;
    },
    onChange: () => () => undefined,
  };
  return source;
};

test('a long backlog is handed in whole, in order, with little of it under way at a time', async (t) => {
  const world = await setUp(t);
  const source = memoryLog(world, 3000);
  world.make({ ledger: source });
  const { ledger } = world.registry;
  await ledger.until(() => ledger.records('host-a', 'acme').length === 3000, '3000 records');
  assert.deepEqual(
    ledger.records('host-a', 'acme').map(({ correlationId }) => correlationId),
    source.records.map((_, index) => `c-${index}`),
  );
  assert.ok(source.most <= 500, `${source.most} records under way`);
});

test('after a cut in the middle it goes on where the ledger is, and nothing is there twice', async (t) => {
  const world = await setUp(t);
  const source = memoryLog(world, 3000);
  world.make({ ledger: source });
  const { ledger } = world.registry;
  await ledger.until(() => ledger.records('host-a', 'acme').length >= 500, 'a part');
  world.registry.stop();
  await world.next('disconnected');
  await world.registry.start();
  await ledger.until(() => ledger.records('host-a', 'acme').length === 3000, 'the rest');
  assert.equal(new Set(ledger.records('host-a', 'acme').map(({ eventId }) => eventId)).size, 3000);
});

test('a log that was altered is refused by code and position, and the alarm says so', async (t) => {
  const world = await setUp(t);
  const source = memoryLog(world, 300);
  (source.records[142]?.mac as Buffer)[3] = 0;
  world.make({ ledger: source });
  const { tenant, code, index } = await world.next('ledgerRefused');
  assert.deepEqual([tenant, code, index], ['acme', 'LEDGER_EDITED', 142]);
});

test('a ledger that has lost what it had acknowledged is told of, and gets it again', async (t) => {
  const world = await setUp(t);
  const source = memoryLog(world, 200);
  world.make({ ledger: source });
  const { ledger } = world.registry;
  await ledger.until(() => ledger.records('host-a', 'acme').length === 200, 'all');
  world.registry.stop();
  await world.next('disconnected');
  for (const log of ledger.logs.values()) log.records = log.records.slice(0, 50);
  const from = world.heard.length;
  await world.registry.start();
  assert.deepEqual(await world.next('ledgerRewound', from), { tenant: 'acme', acknowledged: 200, size: 50 });
  await ledger.until(() => ledger.records('host-a', 'acme').length === 200, 'all again');
});

test('a host with fewer records than the ledger is refused as rewound', async (t) => {
  const world = await setUp(t);
  const first = world.make({ ledger: memoryLog(world, 200) });
  const { ledger } = world.registry;
  await ledger.until(() => ledger.records('host-a', 'acme').length === 200, 'all');
  await first.close();
  world.make({ ledger: memoryLog(world, 20) });
  const { code } = await world.next('ledgerRefused');
  assert.equal(code, 'LEDGER_REWOUND');
});

const START: Position = { tenant: 'acme', position: 0, head: Buffer.alloc(32) };

const follower = (at: { position: Position }) => {
  const applied: number[] = [];
  const rewound: string[] = [];
  const sink: CatalogSink = {
    positions: () => [at.position],
    opened: () => undefined,
    apply: (_, update) => {
      applied.push(update.changes.length);
      if (update.at !== undefined) at.position = update.at;
    },
    rewound: (_, { reason }) => void rewound.push(reason),
    known: () => ({ changes: [], uses: [] }),
    found: async () => [],
    told: () => undefined,
    rebuilt: () => undefined,
  };
  return { sink, applied, rewound };
};

test('changes of the catalogue are handed on in order; what does not follow is not', async (t) => {
  const world = await setUp(t);
  const at = { position: START };
  const { sink, applied } = follower(at);
  const uplink = world.make({
    feeds: [{ name: 'catalog', run: (client, signal) => followCatalog(client, sink, signal) }],
  });
  await world.next('connected');
  const calls = new CatalogCalls(uplink);
  const put = (revision: number, state: 'ACTIVE' | 'SUSPENDED') =>
    calls.put('acme', { kind: 'key', bytes: encodeKeyRecord(aRecord({ revision, state })) }, revision);
  await put(1, 'ACTIVE');
  await put(2, 'SUSPENDED');
  await world.registry.until(() => at.position.position === 2, 'two changes');
  await assert.rejects(put(2, 'ACTIVE'), { code: 'KEY_CONFLICT' });
  await assert.rejects(put(1, 'ACTIVE'), { code: 'KEY_EXISTS' });
  assert.ok(applied.length >= 2);
  world.registry.catalog.breaksChain = true;
  const from = world.heard.length;
  await put(3, 'ACTIVE');
  const { stream, code } = await world.next('streamFailed', from);
  assert.deepEqual([stream, code], ['catalog', 'CATALOG_BROKEN']);
  assert.equal(at.position.position, 2, 'nothing of it is applied');
  await world.registry.until(() => at.position.position === 3, 'the change as it is, on the next stream');
});

test('a catalogue that does not have the position any more is told as rewound, and nothing of it is applied', async (t) => {
  const world = await setUp(t);
  const at = { position: { tenant: 'acme', position: 9, head: Buffer.alloc(32, 1) } };
  const { sink, applied, rewound } = follower(at);
  const told = Promise.withResolvers<void>();
  const watching: CatalogSink = {
    ...sink,
    rewound: (tenant, event) => {
      sink.rewound(tenant, event);
      told.resolve();
    },
  };
  world.make({ feeds: [{ name: 'catalog', run: (client, signal) => followCatalog(client, watching, signal) }] });
  await told.promise;
  assert.match(rewound[0] ?? '', /does not have the position/);
  assert.deepEqual(applied, []);
});

test('a lost answer is doubtful, and no session at all is not', async (t) => {
  const world = await setUp(t);
  const uplink = world.make();
  await world.next('connected');
  const calls = new CatalogCalls(uplink);
  const bytes = encodeKeyRecord(aRecord());
  world.registry.catalog.loseAnswers = true;
  await assert.rejects(calls.put('acme', { kind: 'key', bytes }, 1), {
    code: 'REGISTRY_UNAVAILABLE',
    metadata: { outcome: 'unknown' },
  });
  await assert.rejects(calls.put('globex', { kind: 'key', bytes: encodeKeyRecord(aRecord({ tenant: 'globex' })) }, 1), {
    code: 'REGISTRY_UNAVAILABLE',
  });
  await uplink.close();
  await assert.rejects(calls.put('acme', { kind: 'key', bytes }, 1), { code: 'REGISTRY_UNAVAILABLE', metadata: {} });
});
