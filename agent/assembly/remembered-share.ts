// What the registry last said of a token's sessions, in a file of the data folder: for the next start, and for the doctor.
// Invariant: a file that is damaged or cannot be written is as none.
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export type RememberedShare =
  | { readonly limited: false }
  | { readonly limited: true; readonly share: number; readonly total: number; readonly hosts: number };

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

export const shareFile = (dataDir: string, token: string): string => join(dataDir, `token-sessions-${token}`);

/** Undefined where nothing is known. */
export const readShare = (file: string): RememberedShare | undefined => {
  try {
    const { limited, share, total, hosts } = JSON.parse(readFileSync(file, 'utf8')) as Record<string, unknown>;
    if (limited === false) return { limited };
    return limited === true && isCount(share) && isCount(total) && isCount(hosts)
      ? { limited, share, total, hosts }
      : undefined;
  } catch {
    return undefined;
  }
};

/** False where it could not be written: the next start begins with the fallback. */
export const writeShare = (file: string, share: RememberedShare): boolean => {
  try {
    writeFileSync(`${file}.new`, JSON.stringify(share), { mode: 0o600 });
    renameSync(`${file}.new`, file);
    return true;
  } catch {
    return false;
  }
};
