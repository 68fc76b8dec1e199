// One writer per audit folder: a claim file names the living process that writes. A claim of a dead process, of an
// earlier boot, or of another process that got the same pid is taken over.
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { AgentError } from '../errors.ts';

export interface FolderClaim {
  release(): void;
}

/** pid, start time in clock ticks (field 22 of /proc/<pid>/stat) and boot id: no two processes share all three. */
const identityOf = (pid: number): string | undefined => {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const started = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]; // the command before it may hold any byte
    return `${pid} ${started} ${readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()}`;
  } catch {
    return undefined; // no such process, or no /proc to ask
  }
};

const readClaim = (file: string): string | undefined => {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return undefined; // nobody has claimed it
  }
};

export const claimFolder = (path: string): FolderClaim => {
  const file = join(path, 'writer');
  const mine = identityOf(process.pid) ?? String(process.pid);
  const held = readClaim(file);
  if (held !== undefined && held !== '' && identityOf(Number(held.split(' ')[0])) === held) {
    throw new AgentError('AUDIT_UNAVAILABLE', {
      message: `the audit store in ${path} is being written by process ${held.split(' ')[0]}`,
    });
  }
  writeFileSync(file, mine, { mode: 0o600 });
  return { release: () => rmSync(file, { force: true }) };
};
