// Secrets, which come from files alone. Invariant: a secret is a Buffer that its consumer wipes; its bytes reach no
// string, log line, error or environment variable, and a file that others can read or change is refused.
import { type FileHandle, open } from 'node:fs/promises';

const MAX_SECRET_BYTES = 4096; // PKCS#11 PINs are at most 255 bytes on known tokens; the rest is room for other secrets
const OTHERS = 0o007;
const GROUP_WRITE = 0o020;
const GROUP_ANY = 0o070;

/** What is wrong with a secret file, with the remedy. `cause` is a system error at most. */
export class SecretError extends Error {
  readonly remedy: string;

  constructor(message: string, remedy: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'SecretError';
    this.remedy = remedy;
  }
}

/**
 * Owner: this user or root. Others: nothing. Group: nothing, but a file of root may be group-readable, which is how
 * systemd (an ACL shows as group bits) and Kubernetes (fsGroup) hand a secret to an unprivileged service.
 */
const checkMode = (path: string, { uid, mode }: { uid: number; mode: number }): void => {
  const shown = (mode & 0o777).toString(8).padStart(4, '0');
  if (uid !== 0 && uid !== process.getuid?.()) {
    throw new SecretError(
      `${path} belongs to user ${uid}, who could change it`,
      `chown it to user ${process.getuid?.()} or root`,
    );
  }
  const group = uid === 0 ? GROUP_WRITE : GROUP_ANY;
  if ((mode & (OTHERS | group)) !== 0) {
    throw new SecretError(`${path} has mode ${shown}: others can read or change it`, `chmod 0400 ${path}`);
  }
};

/** Reads an open file from its beginning as `readSecret` does; `path` is for people. The caller has looked at its mode. */
export const readOpenSecret = async (file: FileHandle, path: string, maxBytes = MAX_SECRET_BYTES): Promise<Buffer> => {
  const buffer = Buffer.alloc(maxBytes + 1);
  let length = 0;
  while (length < buffer.length) {
    const { bytesRead } = await file.read(buffer, length, buffer.length - length, length);
    if (bytesRead === 0) break;
    length += bytesRead;
  }
  const tooLong = length > maxBytes;
  if (length > 0 && buffer[length - 1] === 0x0a) length -= 1;
  if (length > 0 && buffer[length - 1] === 0x0d) length -= 1;
  // A part of the large buffer, not a copy: V8 keeps buffers of up to 64 bytes in its heap, where the collector moves them
  // and leaves copies.
  if (!tooLong && length > 0) return buffer.subarray(0, length);
  buffer.fill(0);
  throw tooLong
    ? new SecretError(`${path} is longer than ${maxBytes} bytes`, 'put nothing but the secret in it')
    : new SecretError(`${path} is empty`, 'put the secret in it');
};

const openSecret = async (path: string): Promise<FileHandle> => {
  try {
    return await open(path, 'r');
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'ENOENT') throw new SecretError(`${path} does not exist`, 'create it, mode 0400', cause);
    if (code === 'EACCES') {
      throw new SecretError(`${path} cannot be read by user ${process.getuid?.()}`, `chown it to that user`, cause);
    }
    throw new SecretError(`${path} cannot be opened (${code})`, 'see the cause', cause);
  }
};

/**
 * Reads a secret of up to `maxBytes` from a file, without its trailing newline. The caller wipes the Buffer.
 *
 * @throws {SecretError}
 */
export const readSecret = async (path: string, maxBytes = MAX_SECRET_BYTES): Promise<Buffer> => {
  const file = await openSecret(path);
  try {
    // The mode is that of the open file, so it cannot be exchanged between check and read.
    const stat = await file.stat();
    if (!stat.isFile()) throw new SecretError(`${path} is not a regular file`, 'name a file');
    checkMode(path, stat);
    return await readOpenSecret(file, path, maxBytes);
  } finally {
    await file.close();
  }
};

/** Checks that a secret could be read, without keeping it. */
export const checkSecret = async (path: string): Promise<void> => {
  (await readSecret(path)).fill(0);
};
