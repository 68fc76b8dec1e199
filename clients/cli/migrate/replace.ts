// One file takes the place of another. Invariant: at every moment the name leads to the whole old file or the whole new
// one, both of which were on the disk before; a file that somebody changed meanwhile is not touched.
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { type FileHandle, link, lstat, open, rename, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { TEMPORARY_PREFIX } from './walk.ts';

/** What tells a file from a changed one. */
export interface Identity {
  readonly ino: bigint;
  readonly size: bigint;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly nlink: bigint;
}

/** The file cannot be replaced so that its users notice nothing. */
export class NotReplaceable extends Error {}
/** Somebody wrote the file while it was moved. */
export class Changed extends Error {}

export const identityOf = async (path: string): Promise<Identity> => {
  const { ino, size, mtimeNs, ctimeNs, mode, uid, gid, nlink } = await lstat(path, { bigint: true });
  return { ino, size, mtimeNs, ctimeNs, nlink, mode: Number(mode & 0o7777n), uid: Number(uid), gid: Number(gid) };
};

export const sha256Of = async (path: string): Promise<string> => {
  const hash = createHash('sha256');
  for await (const piece of createReadStream(path)) hash.update(piece as Buffer);
  return hash.digest('hex');
};

/** The temporary name of the new file: the same in every run of the campaign, so that a killed one leaves no litter. */
export const temporaryOf = (path: string, campaign: string): string => {
  const name = createHash('sha256').update(`${campaign}\0${path}`).digest('hex').slice(0, 32);
  return join(dirname(path), `${TEMPORARY_PREFIX}${name}`);
};

export const removeIfThere = async (path: string): Promise<void> => {
  await unlink(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error;
  });
};

const keepOwner = async (file: FileHandle, { uid, gid }: Identity): Promise<void> => {
  const made = await file.stat();
  if (made.uid === uid && made.gid === gid) return;
  await file.chown(uid, gid).catch((cause: Error) => {
    throw new NotReplaceable(`its owner cannot be kept: ${cause.message}`);
  });
};

/** Gives the new file mode and owner of the old one, and waits until it is on the disk. */
export const finishBeside = async (file: FileHandle, old: Identity): Promise<void> => {
  await keepOwner(file, old);
  await file.chmod(old.mode);
  await file.sync();
};

export const refuseLinked = ({ nlink }: Identity): void => {
  if (nlink > 1n) throw new NotReplaceable('it has other names (hard links), which would keep the old content');
};

/** Writes the new content beside the old file, on the disk when it resolves. Answers its hash and size. */
export const writeBeside = async (
  temporary: string,
  old: Identity,
  pieces: AsyncIterable<Uint8Array>,
): Promise<{ readonly sha256: string; readonly bytes: number }> => {
  refuseLinked(old);
  await removeIfThere(temporary);
  const file = await open(temporary, 'wx', 0o600);
  try {
    const hash = createHash('sha256');
    let bytes = 0;
    for await (const piece of pieces) {
      hash.update(piece);
      bytes += piece.length;
      await file.writeFile(piece); // from where the last one ended
    }
    await finishBeside(file, old);
    return { sha256: hash.digest('hex'), bytes };
  } catch (error) {
    await removeIfThere(temporary);
    throw error;
  } finally {
    await file.close();
  }
};

const syncFolder = async (path: string): Promise<void> => {
  const folder = await open(dirname(path), 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
};

/** Somebody who writes between this look and the rename loses that write; writers should be told of a campaign. */
export const refuseChanged = async (path: string, old: Identity): Promise<void> => {
  const now = await identityOf(path);
  const same = (['ino', 'size', 'mtimeNs', 'ctimeNs'] as const).every((name) => now[name] === old[name]);
  if (!same) throw new Changed('it was written while it was moved');
};

/** Takes back the second name that a killed run gave to a file which it then did not replace. */
export const dropSecondName = async (path: string, keptSuffix: string): Promise<void> => {
  const kept = `${path}${keptSuffix}`;
  const [file, other] = await Promise.all(
    [path, kept].map((name) =>
      identityOf(name).catch((error: NodeJS.ErrnoException) => {
        if (error.code === 'ENOENT') return undefined;
        throw error;
      }),
    ),
  );
  if (file !== undefined && file.ino === other?.ino) await unlink(kept);
};

/** Puts the new file in place; with a suffix the old one stays beside it. */
export const putInPlace = async (temporary: string, path: string, keptSuffix: string | undefined): Promise<void> => {
  if (keptSuffix !== undefined) {
    await link(path, `${path}${keptSuffix}`).catch(async (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error;
      const [ours, there] = await Promise.all([sha256Of(path), sha256Of(`${path}${keptSuffix}`)]);
      if (ours !== there) throw new NotReplaceable(`${path}${keptSuffix} exists`);
    });
  }
  await rename(temporary, path);
  await syncFolder(path);
};
