// What the registry has to reach, and one result for each.
import { atLeast, atMost, type Bar, type BarResult, below } from '../bars.ts';

const WITHIN_A_SECOND = { unit: 's', bar: '< 1 s', holds: below(1) };

export const BARS = {
  memory: {
    name: 'resident memory of the registry per connected host',
    unit: 'KiB',
    bar: '≤ 512 KiB',
    holds: atMost(512),
  },
  policyLmdb: { name: 'a policy, from publishing to the last host, LMDB', ...WITHIN_A_SECOND },
  policyPostgres: { name: 'a policy, from publishing to the last host, PostgreSQL', ...WITHIN_A_SECOND },
  revocationLmdb: { name: "a key's revocation, from the call to the last host, LMDB", ...WITHIN_A_SECOND },
  revocationPostgres: { name: "a key's revocation, from the call to the last host, PostgreSQL", ...WITHIN_A_SECOND },
  storm: {
    name: 'after a restart, from READY until the last host is back',
    unit: 's',
    bar: '≤ 31 s: the longest pause of a host, and a second',
    holds: atMost(31),
  },
  ingestPostgres: {
    name: 'ledger ingest over gRPC, PostgreSQL',
    unit: 'records/s',
    bar: '≥ 0.3 of a plain COPY into the same table',
    holds: atLeast(0.3),
  },
  ingestLmdb: {
    name: 'ledger ingest over gRPC, LMDB',
    unit: 'records/s',
    bar: '≥ 0.3 of the same COPY',
    holds: atLeast(0.3),
  },
  growthIngestLmdb: {
    name: 'time to take a record, LMDB, long ledger ÷ short',
    unit: 'µs',
    bar: '≤ 1.2 ×',
    holds: atMost(1.2),
  },
  growthIngestPostgres: {
    name: 'time to take a record, PostgreSQL, long ledger ÷ short',
    unit: 'µs',
    bar: '≤ 1.2 ×',
    holds: atMost(1.2),
  },
  growthQueryLmdb: {
    name: 'time of a query, LMDB, long ledger ÷ short, the worst kind',
    unit: 'ms',
    bar: '≤ 1.2 ×',
    holds: atMost(1.2),
  },
  growthQueryPostgres: {
    name: 'time of a query, PostgreSQL, long ledger ÷ short, the worst kind',
    unit: 'ms',
    bar: '≤ 1.2 ×',
    holds: atMost(1.2),
  },
} as const satisfies Record<string, Bar>;

/** In the order of the table of bars. */
export const inOrder = (bars: readonly BarResult[]): BarResult[] =>
  Object.values(BARS).flatMap(({ name }) => bars.filter((bar) => bar.name === name));
