// Verifies a batch against the state of its log, before anything of it is stored: canonical form, tenant, host, order of
// event ids, MAC at its very position, and the tree against each checkpoint.
import { createHmac, type KeyObject, timingSafeEqual } from 'node:crypto';
import { type AuditRecord, decodeAuditRecord, macInput, parseEventId } from '../../proto/documents/audit-record.ts';
import { DocumentError } from '../../proto/documents/canonical.ts';
import { type Checkpoint, verifyCheckpoint } from '../../proto/documents/checkpoint.ts';
import type { PublicJwk } from '../../proto/documents/key-record.ts';
import { EMPTY_ROOT } from '../../proto/documents/merkle.ts';
import { LogRefusal } from './refusal.ts';
import type { LedgerStore, LogAppend, LogRow, RecordFacts } from './store.ts';
import { GrowingTree, leafOf, storedTree } from './tree.ts';

export interface RecordBytes {
  readonly record: Buffer;
  readonly mac: Buffer;
}

export interface Batch {
  readonly origin: string;
  readonly from: number;
  readonly records: readonly RecordBytes[];
  readonly checkpoints: readonly string[];
}

export type MacKeyOf = (epoch: number) => Promise<KeyObject | undefined>;

export interface VerifiedBatch extends Pick<LogAppend, 'records' | 'nodes'> {
  readonly log: Pick<LogRow, 'size' | 'frontier' | 'lastEpoch' | 'lastSequence'>;
  /** In order of size. */
  readonly checkpoints: readonly { readonly checkpoint: Checkpoint; readonly text: string }[];
}

const decode = (bytes: Buffer, index: number): AuditRecord => {
  try {
    return decodeAuditRecord(bytes).record;
  } catch (cause) {
    if (!(cause instanceof DocumentError)) throw cause;
    throw new LogRefusal('LEDGER_EDITED', index, `not a record: ${cause.message}`);
  }
};

export const macFits = (key: KeyObject, { record, mac }: RecordBytes, index: number): boolean => {
  const expected = createHmac('sha256', key).update(macInput(record, index)).digest();
  return mac.length === expected.length && timingSafeEqual(expected, mac);
};

const factsOf = (record: AuditRecord, epoch: number, sequence: number): RecordFacts => {
  const { time, key, principal, operation, outcome, correlationId } = record;
  return { time, key, principal, operation, outcome, correlationId, event: `${epoch}/${sequence}` };
};

/** The records of the batch that the log has already are the same; answers how many they are. */
const compareKnown = async (store: LedgerStore, log: LogRow, batch: Batch): Promise<number> => {
  if (batch.from > log.size) {
    throw new LogRefusal('LEDGER_GAP', log.size, `records ${log.size} to ${batch.from - 1} were left out`);
  }
  const known = Math.min(log.size - batch.from, batch.records.length);
  if (known === 0) return 0;
  const stored = await store.records({ origin: log.origin, from: batch.from, limit: known });
  for (const [at, { record, mac }] of batch.records.slice(0, known).entries()) {
    const row = stored[at];
    if (row?.record.equals(record) && row.mac.equals(mac)) continue;
    throw new LogRefusal('LEDGER_FORKED', batch.from + at, 'the ledger has another record at this position');
  }
  return known;
};

const readCheckpoints = (log: LogRow, batch: Batch, size: number): VerifiedBatch['checkpoints'] => {
  const jwk = JSON.parse(log.publicJwk) as PublicJwk;
  return batch.checkpoints.map((text) => {
    try {
      const checkpoint = verifyCheckpoint(text, jwk);
      if (checkpoint.origin !== log.origin) throw new DocumentError('it is of another log');
      if (checkpoint.size > size) throw new DocumentError('it is of more records than were handed in');
      return { checkpoint, text };
    } catch (cause) {
      if (!(cause instanceof DocumentError)) throw cause;
      throw new LogRefusal('CHECKPOINT_INVALID', size, `a checkpoint does not verify: ${cause.message}`);
    }
  });
};

const appendRecords = async (
  log: LogRow,
  fresh: readonly RecordBytes[],
  options: { readonly macKeyOf: MacKeyOf; readonly now: number; readonly rootAt: Map<number, Buffer> },
) => {
  const [host, tenant] = log.origin.split('/');
  const tree = new GrowingTree(log.size, log.frontier);
  const records: LogAppend['records'][number][] = [];
  let last = { epoch: log.lastEpoch, sequence: log.lastSequence };
  for (const bytes of fresh) {
    const index = tree.size;
    const edited = (why: string): LogRefusal => new LogRefusal('LEDGER_EDITED', index, why);
    const record = decode(bytes.record, index);
    const id = parseEventId(record.eventId);
    if (record.tenant !== tenant || id.host !== host) throw edited('the record is one of another log');
    if (id.epoch < last.epoch || (id.epoch === last.epoch && id.sequence <= last.sequence)) {
      throw edited('the record is not in the order of event ids');
    }
    const key = await options.macKeyOf(id.epoch);
    if (key === undefined) throw new LogRefusal('LEDGER_UNSEALED', index, `no MAC key for epoch ${id.epoch}`);
    if (!macFits(key, bytes, index)) throw edited('the MAC does not fit the record at this position');
    last = id;
    tree.append(leafOf(bytes));
    if (options.rootAt.has(index + 1)) options.rootAt.set(index + 1, tree.frontier.root());
    records.push({
      row: { index, ...bytes, ingestedAt: options.now },
      facts: factsOf(record, id.epoch, id.sequence),
    });
  }
  const { size, nodes: frontier } = tree.frontier;
  return {
    records,
    nodes: tree.nodes,
    log: { size, frontier: [...frontier], lastEpoch: last.epoch, lastSequence: last.sequence },
  };
};

/** Throws LogRefusal; then nothing of the batch may be stored. */
export const verifyBatch = async (options: {
  readonly store: LedgerStore;
  readonly log: LogRow;
  readonly batch: Batch;
  readonly macKeyOf: MacKeyOf;
  readonly now: number;
}): Promise<VerifiedBatch> => {
  const { store, log, batch, macKeyOf, now } = options;
  const known = await compareKnown(store, log, batch);
  const fresh = batch.records.slice(known);
  const checkpoints = readCheckpoints(log, batch, log.size + fresh.length);
  const rootAt = new Map(checkpoints.map(({ checkpoint }) => [checkpoint.size, Buffer.alloc(0)]));
  const verified = await appendRecords(log, fresh, { macKeyOf, now, rootAt });
  const tree = storedTree(store, log.origin);
  for (const { checkpoint } of checkpoints) {
    const { size } = checkpoint;
    const stored = size === 0 ? EMPTY_ROOT : size <= log.size ? await tree.root(0, size) : rootAt.get(size);
    if (stored?.equals(checkpoint.root)) continue;
    throw new LogRefusal('LEDGER_FORKED', size, 'a checkpoint has another root than the records of the ledger');
  }
  return { ...verified, checkpoints: [...checkpoints].sort((a, b) => a.checkpoint.size - b.checkpoint.size) };
};
