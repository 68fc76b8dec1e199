// Appends per second and p50, by LMDB arrangement and for the audit log as it is. Run: node test/bench/audit-append.ts
// The figures in docs/decisions/0002-audit-durability.md are its output.
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { open } from 'lmdb';
import { openAuditLog } from '../../agent/audit/log.ts';
import { createToken, entry, recordEvents } from '../agent/audit/fixture.ts';

const SECONDS = 2;
const VALUE = Buffer.alloc(360, 1); // a usual record

type Append = () => Promise<unknown>;
interface Arrangement {
  readonly name: string;
  start(path: string): Promise<{ append: Append; close(): Promise<void> }>;
}

/** A group commit over `write`, which answers when the group is as durable as the arrangement makes it. */
const groups = (write: (count: number) => Promise<void> | void): Append => {
  let queue: (() => void)[] = [];
  let busy = false;
  const commit = async (): Promise<void> => {
    const group = queue;
    queue = [];
    await write(group.length);
    for (const done of group) done();
    if (queue.length > 0) setImmediate(commit);
    else busy = false;
  };
  return () =>
    new Promise<void>((resolve) => {
      queue.push(resolve);
      if (!busy) setImmediate(commit);
      busy = true;
    });
};

const bareLmdb = (name: string, mode: 'sync' | 'async', options: { noSync?: boolean }): Arrangement => ({
  name,
  start: async (path) => {
    const db = open<Buffer, Buffer>({
      path,
      encoding: 'binary',
      keyEncoding: 'binary',
      eventTurnBatching: false,
      ...options,
    });
    let number = 0;
    const put = (): void => {
      const key = Buffer.alloc(8);
      key.writeUInt32BE(number++, 4);
      void db.put(key, VALUE);
    };
    const all = (count: number): void => {
      for (let i = 0; i < count; i += 1) put();
    };
    const append = groups((count) =>
      mode === 'sync' ? db.transactionSync(() => all(count)) : db.batch(() => all(count)).then(() => undefined),
    );
    return { append, close: () => db.close() };
  },
});

const auditLog = (durability: 'committed' | 'flushed'): Arrangement => ({
  name: `audit log, ${durability}`,
  start: async (path) => {
    const log = await openAuditLog({
      path,
      host: 'host-1',
      clock: { now: () => Date.now() },
      durability: () => durability,
      token: createToken('Ed25519', randomBytes(32), generateKeyPairSync('ed25519')),
      events: { ...recordEvents(), committed() {}, backlog() {} },
    });
    const event = entry('acme', 1);
    return { append: () => log.append(event), close: () => log.close() };
  },
});

const ARRANGEMENTS: readonly Arrangement[] = [
  bareLmdb('LMDB bare, transactionSync, noSync (power loss may corrupt)', 'sync', { noSync: true }),
  bareLmdb('LMDB bare, transactionSync, default (fsync on the main thread)', 'sync', {}),
  bareLmdb('LMDB bare, batch, default (fsync on its thread)', 'async', {}),
  auditLog('committed'),
  auditLog('flushed'),
];

const measure = async (append: Append, inFlight: number): Promise<{ rate: number; p50: number }> => {
  const latencies: number[] = [];
  const end = performance.now() + SECONDS * 1000;
  const caller = async (): Promise<void> => {
    while (performance.now() < end) {
      const from = performance.now();
      await append();
      latencies.push(performance.now() - from);
    }
  };
  await Promise.all(Array.from({ length: inFlight }, caller));
  latencies.sort((a, b) => a - b);
  return {
    rate: Math.round(latencies.length / SECONDS),
    p50: Math.round((latencies[latencies.length >> 1] ?? 0) * 1000),
  };
};

console.log(
  `${new Date().toISOString().slice(0, 10)}, ${cpus().length} × ${cpus()[0]?.model}, Node ${process.version}\n`,
);
console.log('| arrangement | 1: appends/s | p50 µs | 8: appends/s | p50 µs | 64: appends/s | p50 µs |');
console.log('|---|--:|--:|--:|--:|--:|--:|');
for (const { name, start } of ARRANGEMENTS) {
  const cells: string[] = [];
  for (const inFlight of [1, 8, 64]) {
    const path = mkdtempSync(join(tmpdir(), 'mortise-bench-'));
    const { append, close } = await start(path);
    const { rate, p50 } = await measure(append, inFlight);
    cells.push(`${rate.toLocaleString('en')} | ${p50}`);
    await close();
    rmSync(path, { recursive: true });
  }
  console.log(`| ${name} | ${cells.join(' | ')} |`);
}
