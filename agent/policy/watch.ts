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

  const disarm = (): void => {
    for (const watcher of watchers.values()) watcher.close();
    watchers.clear();
  };

  /** Anew each time: a folder may come late, or another one may have taken its place. */
  const arm = (): void => {
    disarm();
    for (const folder of new Set(input.folders)) {
      try {
        const watcher = watch(folder, { persistent: false }, notice);
        watcher.on('error', () => watcher.close());
        watchers.set(folder, watcher);
      } catch {
        // Not there yet, or no watches left: the next poll tries again, and polling alone is enough.
      }
    }
  };

  // Armed before the files are read, so that what changes meanwhile is noticed.
  const look = (): void => {
    clearTimeout(settling);
    settling = undefined;
    arm();
    input.changed();
  };

  const notice = (): void => {
    settling ??= setTimeout(look, SETTLE_MS);
  };

  const poll = input.intervalMs > 0 ? setInterval(look, input.intervalMs) : undefined;
  poll?.unref();
  arm();
  return {
    close: () => {
      clearInterval(poll);
      clearTimeout(settling);
      disarm();
    },
  };
};
