// The rounds over the logs of a tenant: each to its end, one that does not go on beside those that do, and failures of all.
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { CliError } from '../../../clients/cli/exit-codes.ts';
import type { Destination } from '../../../clients/cli/forward/destination.ts';
import { forwardLedger, type LedgerForwardInput } from '../../../clients/cli/forward/ledger-forwarder.ts';
import type { Session } from '../../../clients/cli/registry/session.ts';
import { encodeAuditRecord } from '../../../proto/documents/audit-record.ts';
import { temporaryFolder } from '../../support/folder.ts';
import { record } from './support.ts';

/** Logs in memory behind the two calls that the forwarder makes. */
class MemoryLedger {
  readonly logs = new Map<string, string[]>();
  failure: Error | undefined;
  sessions = 0;

  add(host: string, count: number, epoch = 1): void {
    const log = this.logs.get(`${host}/acme/1`) ?? [];
    for (let at = 0; at < count; at += 1) log.push(`${host}/${epoch}/${log.length}`);
    this.logs.set(`${host}/acme/1`, log);
  }

  session(): Session {
    this.sessions += 1;
    const call = async ({ path }: { path: string }, request: { origin: string; from: bigint; pageSize: number }) => {
      if (this.failure !== undefined) throw this.failure;
      if (path.endsWith('/ListLogs')) {
        const logs = [...this.logs].map(([origin, ids]) => ({ origin, size: BigInt(ids.length) }));
        return { logs, nextPageToken: '' };
      }
      const ids = this.logs.get(request.origin) ?? [];
      const from = Number(request.from);
      const records = ids.slice(from, from + request.pageSize).map((eventId, at) => ({
        origin: request.origin,
        index: BigInt(from + at),
        record: { record: encodeAuditRecord(record(from + at, { eventId })), mac: Buffer.alloc(32) },
      }));
      return { records, size: BigInt(ids.length) };
    };
    return { call } as unknown as Session;
  }
}

const setUp = (t: TestContext, change: Partial<LedgerForwardInput> = {}) => {
  const ledger = new MemoryLedger();
  const taken: string[] = [];
  const destination: Destination = {
    name: 'memory',
    batch: 3,
    deliver: async (records) => void taken.push(...records.map(({ eventId }) => eventId)),
    close: () => undefined,
  };
  const stateDir = join(temporaryFolder(t), 'state');
  const stuck: string[] = [];
  const waits: string[] = [];
  const dropped: number[] = [];
  const stop = new AbortController();
  const input: LedgerForwardInput = {
    sessions: { get: async () => ledger.session(), drop: () => void dropped.push(1) },
    tenant: 'acme',
    destination,
    stateDir,
    once: true,
    signal: stop.signal,
    roundMs: 1,
    events: {
      delivered: () => undefined,
      waiting: ({ why }) => void waits.push(why),
      stuck: ({ origin }) => void stuck.push(origin),
    },
    ...change,
  };
  return { ledger, taken, stateDir, stuck, waits, stop, input, drops: () => dropped.length };
};

test('every log goes to its end, and goes on from there with the next run', async (t) => {
  const { ledger, taken, stateDir, input } = setUp(t);
  ledger.add('a', 4);
  ledger.add('b', 2);
  await forwardLedger(input);
  assert.deepEqual(taken, ['a/1/0', 'a/1/1', 'a/1/2', 'a/1/3', 'b/1/0', 'b/1/1']);
  assert.deepEqual(readdirSync(stateDir).sort(), ['a~acme~1.json', 'b~acme~1.json']);
  ledger.add('b', 1);
  ledger.add('c', 1);
  await forwardLedger(input);
  assert.deepEqual(taken.slice(6), ['b/1/2', 'c/1/0']);
});

test('a log that was taken back is named once and stays where it is, the others go on', async (t) => {
  const { ledger, taken, stuck, input } = setUp(t);
  ledger.add('a', 3);
  await forwardLedger(input);
  ledger.logs.set('a/acme/1', ['a/2/0']);
  ledger.add('b', 1);
  await assert.rejects(forwardLedger(input), /is not the one that was forwarded/);
  assert.deepEqual(stuck, ['a/acme/1']);
  assert.deepEqual(taken.slice(3), ['b/1/0']);
});

test('without an end it sees new records and hosts, and outlives a registry that is away', async (t) => {
  const { ledger, waits, stop, input, drops } = setUp(t, { once: false });
  ledger.add('a', 1);
  const arrived = Promise.withResolvers<void>();
  const destination: Destination = {
    ...input.destination,
    deliver: async ([first]) => {
      if (first?.eventId === 'b/1/0') arrived.resolve();
    },
  };
  const waiting = Promise.withResolvers<void>();
  const events = {
    ...input.events,
    waiting: ({ why }: { readonly why: string }) => {
      waits.push(why);
      waiting.resolve();
    },
  };
  ledger.failure = new CliError('retryable', 'the registry is away');
  const ended = forwardLedger({ ...input, destination, events });
  await waiting.promise;
  ledger.failure = undefined;
  ledger.add('b', 1);
  await arrived.promise;
  stop.abort();
  await ended;
  assert.equal(waits[0], 'the registry is away');
  assert.ok(drops() >= 1);
});

test('a refusal ends it', async (t) => {
  const { ledger, input } = setUp(t, { once: false });
  ledger.failure = new CliError('refused', 'PERMISSION_DENIED');
  await assert.rejects(forwardLedger(input), /PERMISSION_DENIED/);
});

test('a folder of another tenant or receiver is refused', async (t) => {
  const { ledger, input } = setUp(t);
  ledger.add('a', 1);
  await forwardLedger(input);
  await assert.rejects(
    forwardLedger({ ...input, destination: { ...input.destination, name: 'another' } }),
    /take another folder/,
  );
});
