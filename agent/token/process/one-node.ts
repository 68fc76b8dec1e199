// Sees to it that the addons brought no second Node into the process. Debian's node-gyp links addons with Debian's own
// libnode; its symbols mix with those of the Node that runs, and the heap is corrupt sooner or later.
import { readFileSync } from 'node:fs';
import { TokenStartError } from '../start-error.ts';

const MAPS = '/proc/self/maps';

/** The path of a loaded libnode, by the kernel's list of what is mapped. */
export const loadedLibnode = (maps: string): string | undefined => /\S*\/libnode\.so\S*/.exec(maps)?.[0];

const readMaps = (): string => {
  try {
    return readFileSync(MAPS, 'latin1');
  } catch {
    return ''; // no /proc: nothing can be said, and nothing is claimed
  }
};

/** Call it when all addons are loaded. */
export const requireOneNode = (maps = readMaps()): void => {
  const path = loadedLibnode(maps);
  if (path !== undefined) throw new TokenStartError('second-node', `an addon has loaded ${path} into this process`);
};
