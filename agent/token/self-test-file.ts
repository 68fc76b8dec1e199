// The file in the data folder that remembers the slow part of the self-test between starts. Losing it costs time only.
import { randomBytes } from 'node:crypto';
import { readFile, rename, writeFile } from 'node:fs/promises';

/** Atomic, so that a crash leaves the old file or the new one. */
export const selfTestFile = (path: string | undefined) => ({
  readCache: async (): Promise<string | undefined> => {
    if (path === undefined) return undefined;
    try {
      return await readFile(path, 'utf8');
    } catch {
      return undefined; // a cache that cannot be read is learned again
    }
  },
  writeCache: async (cache: string): Promise<void> => {
    if (path === undefined) return;
    const fresh = `${path}.${randomBytes(4).toString('hex')}`;
    try {
      await writeFile(fresh, cache, { mode: 0o600 });
      await rename(fresh, path);
    } catch {
      // A disk that is full or read-only costs some time at the next start, no more.
    }
  },
});
