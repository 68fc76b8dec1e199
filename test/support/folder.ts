// Throw-away folders for tests; removed when the test ends.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';

export const temporaryFolder = (t: Pick<TestContext, 'after'>): string => {
  const folder = mkdtempSync(join(tmpdir(), 'mortise-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
};

/** A file system of its own, to fill up; undefined where this process may not mount one. */
export const smallFileSystem = (t: Pick<TestContext, 'after'>, size: string): string | undefined => {
  const folder = mkdtempSync(join(tmpdir(), 'mortise-'));
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs', folder], { stdio: 'ignore' });
  } catch {
    rmSync(folder, { recursive: true });
    return undefined;
  }
  t.after(() => {
    execFileSync('umount', ['-l', folder]);
    rmSync(folder, { recursive: true });
  });
  return folder;
};
