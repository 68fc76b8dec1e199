// LMDB under the audit store: how it is opened, how a batch of puts gets into it, and which frames of the journal it has.
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { open, type RootDatabase } from 'lmdb';
import { type Frame, NONCE_BYTES, type Put, readFrames } from './journal.ts';

export type Database = RootDatabase<Buffer, Buffer>;

export const JOURNALS = ['journal-0', 'journal-1'] as const;
const APPLIED_KEY = Buffer.from('w'); // journal nonce, then the sequence of the last frame that LMDB has

export const openLmdb = (path: string, readOnly: boolean): Database =>
  open<Buffer, Buffer>({
    path,
    encoding: 'binary',
    keyEncoding: 'binary',
    readOnly,
    maxReaders: 64,
    // Left on, lmdb makes a promise of its own for each turn, whose rejection on a full disk nobody could handle.
    eventTurnBatching: false,
  });

/** The nonce of the journal and the last frame applied; a nonce that no file has where there was no journal yet. */
export const readApplied = (db: Database): { readonly nonce: Buffer; readonly sequence: number } => {
  const value = db.get(APPLIED_KEY);
  if (value?.length !== NONCE_BYTES + 8) return { nonce: randomBytes(NONCE_BYTES), sequence: 0 };
  return { nonce: Buffer.from(value.subarray(0, NONCE_BYTES)), sequence: Number(value.readBigUInt64BE(NONCE_BYTES)) };
};

/** Committed frames that LMDB does not have yet, in order; a gap ends them. */
export const unapplied = (path: string, nonce: Buffer, sequence: number): Frame[] => {
  const frames = JOURNALS.flatMap((name) => readFrames(join(path, name), nonce))
    .filter((frame) => frame.sequence > sequence)
    .sort((a, b) => a.sequence - b.sequence);
  const gap = frames.findIndex((frame, i) => frame.sequence !== sequence + 1 + i);
  return gap < 0 ? frames : frames.slice(0, gap);
};

/** One LMDB transaction, on the disk when it resolves: committed and synced by lmdb's own thread. */
export const applyPuts = async (db: Database, puts: readonly Put[], nonce: Buffer, sequence: number): Promise<void> => {
  const applied = Buffer.alloc(NONCE_BYTES + 8);
  nonce.copy(applied);
  applied.writeBigUInt64BE(BigInt(sequence), NONCE_BYTES);
  try {
    await db.batch(() => {
      for (const { key, value } of puts) void db.put(key, value); // settles with the batch
      void db.put(APPLIED_KEY, applied);
    });
    await db.flushed;
  } catch (thrown) {
    const cause: unknown = await Promise.resolve((thrown as { commitError?: Promise<never> }).commitError).catch(
      (error: unknown) => error,
    );
    throw new Error((cause as Error | undefined)?.message ?? (thrown as Error).message, { cause: cause ?? thrown });
  }
};
