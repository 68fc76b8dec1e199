// Remembers the jti of single-use tokens until their exp, on disk, so that a restart forgets none. Invariant: of two
// calls with one jti exactly one gets true, and it is written to the disk before anybody learns; a store that cannot
// be written lets nobody in.
import { hash } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { open } from 'lmdb';
import type { Clock } from '../clock.ts';
import { AgentError } from '../errors.ts';

const SWEEP_MS = 60_000;
const SWEEP_BATCH = 10_000; // rows deleted per transaction, so that a sweep does not hold up takers

export interface ReplayMemory {
  /** True for the first use of the token; STORE_UNAVAILABLE where it cannot be remembered. */
  take(token: { readonly issuer: string; readonly id: string; readonly expiresAt: number }): Promise<boolean>;
  /** Forgets what has expired; runs by itself once a minute. Answers how many. */
  sweep(): Promise<number>;
  close(): Promise<void>;
}

/** lmdb puts the reason of a failed commit into a second promise, whose rejection would end the process if unheard. */
const causeOf = (thrown: unknown): Promise<unknown> =>
  Promise.resolve((thrown as { commitError?: Promise<never> }).commitError ?? thrown).catch(
    (reason: unknown) => reason,
  );

/** Resolves when all is on the disk. */
const committed = async (writes: readonly Promise<boolean>[]): Promise<void> => {
  const results = await Promise.allSettled(writes);
  const causes = await Promise.all(results.map((row) => row.status === 'rejected' && causeOf(row.reason)));
  const cause = causes.find((row) => row !== false);
  if (cause !== undefined) throw cause;
};

export const openReplayMemory = (parts: { readonly folder: string; readonly clock: Clock }): ReplayMemory => {
  mkdirSync(parts.folder, { recursive: true, mode: 0o700 });
  // overlappingSync would resolve a commit before it is on the disk; eventTurnBatching makes a promise of its own per
  // turn, whose rejection on a full disk nobody can catch.
  const root = open({
    path: parts.folder,
    noSubdir: false,
    maxDbs: 2,
    overlappingSync: false,
    eventTurnBatching: false,
  });
  const seen = root.openDB<number, string>({ name: 'seen' });
  const byExpiry = root.openDB<boolean, [number, string]>({ name: 'by-expiry' });

  const pending = new Set<string>(); // taken, and not yet to be seen in the store

  const sweep = async (): Promise<number> => {
    const due = [...byExpiry.getKeys({ end: [parts.clock.now()], limit: SWEEP_BATCH })];
    if (due.length === 0) return 0;
    await committed(due.flatMap((row) => [byExpiry.remove(row), seen.remove(row[1])]));
    return due.length;
  };

  const timer = setInterval(() => {
    // What one sweep cannot delete stays due for the next; takers report a broken store themselves.
    sweep().catch(() => undefined);
  }, SWEEP_MS);
  timer.unref();

  return {
    take: async ({ issuer, id, expiresAt }) => {
      const key = hash('sha256', JSON.stringify([issuer, id]), 'base64url');
      if (pending.has(key) || seen.get(key) !== undefined) return false;
      pending.add(key);
      try {
        await committed([byExpiry.put([expiresAt, key], true), seen.put(key, expiresAt)]);
        return true;
      } catch (cause) {
        throw new AgentError('STORE_UNAVAILABLE', { cause });
      } finally {
        pending.delete(key);
      }
    },
    sweep,
    close: async () => {
      clearInterval(timer);
      await root.close();
    },
  };
};
