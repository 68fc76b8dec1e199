// Tells when the policy files may have changed: at once by the kernel's notice where it works, and by the clock where it
// does not (network file systems, folders that come later). Notices in a burst count as one.
import { type FSWatcher, watch } from 'node:fs';

const SETTLE_MS = 100; // a publisher renames several files; each is whole, but together they make one change

export interface Watch {
  close(): void;
}

export const watchFolders = (input: {
  folders: readonly string[];
  /** 0: no polling. */
  intervalMs: number;
  changed: () => void;
}): Watch => {
  const watchers = new Map<string, FSWatcher>();
  let settling: NodeJS.Timeout | undefined;

  const notice = (): void => {
    settling ??= setTimeout(() => {
      settling = undefined;
      arm();
      input.changed();
    }, SETTLE_MS);
    settling.unref();
  };

  const disarm = (folder: string): void => {
    watchers.get(folder)?.close();
    watchers.delete(folder);
  };

  /** Watches what is not watched yet: a folder may come late, or be replaced. */
  const arm = (): void => {
    for (const folder of new Set(input.folders)) {
      if (watchers.has(folder)) continue;
      try {
        const watcher = watch(folder, { persistent: false }, (_event, name) => {
          if (name?.endsWith('.partial')) return;
          notice();
        });
        watcher.on('error', () => disarm(folder));
        watchers.set(folder, watcher);
      } catch {
        // Not there yet, or no watches left: the next poll arms again, and polling alone is enough.
      }
    }
  };

  const poll =
    input.intervalMs > 0
      ? setInterval(() => {
          arm();
          input.changed();
        }, input.intervalMs)
      : undefined;
  poll?.unref();
  arm();
  return {
    close: () => {
      clearInterval(poll);
      clearTimeout(settling);
      for (const folder of [...watchers.keys()]) disarm(folder);
    },
  };
};
