// The Unix socket that the agent listens on. Invariants: the socket is never reachable with another mode or group than
// configured; a path on which a process answers is never taken away from it; of agents that start at once, one wins.
//
// How: an flock on `.<name>.lock` beside the path is held for the agent's life (the kernel gives it back at death,
// however it comes). Under it, a leftover is told from a live socket of a foreign program by connect(2). The new
// socket is bound in a 0700 folder beside the path, gets its mode and group there, and rename(2) puts it in place.
import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import {
  chmod,
  chown,
  type FileHandle,
  lstat,
  mkdir,
  open,
  readFile,
  rename,
  rm,
  stat,
  unlink,
} from 'node:fs/promises';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { basename, dirname, isAbsolute, join } from 'node:path';
import type { Libc } from './libc.ts';

const PATH_LIMIT_BYTES = 107; // sun_path holds 108 with its NUL, unix(7)
const BACKLOG = 4096; // the kernel's own cap (net.core.somaxconn): beyond it a burst of clients gets EAGAIN

export interface SocketOptions {
  readonly path: string;
  readonly mode: number;
  /** Name (of /etc/group) or number; absent: the process's own group. */
  readonly group?: string | number;
}

export type SocketProblem = 'PATH' | 'FOLDER' | 'GROUP' | 'NOT_A_SOCKET' | 'IN_USE';

export class SocketError extends Error {
  readonly problem: SocketProblem;

  constructor(problem: SocketProblem, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'SocketError';
    this.problem = problem;
  }
}

export interface Listening {
  /** Stops accepting and removes the file if it is still this socket. Connections live on. */
  close(): Promise<void>;
}

const placeFor = (path: string): string => {
  if (!isAbsolute(path) || path.includes('\0'))
    throw new SocketError('PATH', `the socket path must be absolute: ${path}`);
  const folder = join(dirname(path), `.m${randomBytes(4).toString('hex')}`);
  const longest = Math.max(Buffer.byteLength(path), Buffer.byteLength(join(folder, 's')));
  if (longest > PATH_LIMIT_BYTES) {
    const over = longest - PATH_LIMIT_BYTES;
    throw new SocketError('PATH', `the socket path is ${over} bytes too long for a Unix socket: ${path}`);
  }
  return folder;
};

/** Whoever may rename in the folder may put a socket of their own in our place. */
const checkFolder = async (path: string): Promise<void> => {
  const folder = dirname(path);
  const found = await stat(folder).catch((cause: unknown) => {
    throw new SocketError('FOLDER', `the folder of the socket cannot be read: ${folder}`, cause);
  });
  if (!found.isDirectory()) throw new SocketError('FOLDER', `the folder of the socket is not a folder: ${folder}`);
  const sticky = (found.mode & 0o1000) !== 0; // as /tmp: only the owner of a file may rename it
  if ((found.mode & 0o022) !== 0 && !sticky) {
    throw new SocketError('FOLDER', `others may write to the folder of the socket (chmod go-w ${folder})`);
  }
  if (found.uid !== 0 && found.uid !== process.getuid?.()) {
    throw new SocketError('FOLDER', `the folder of the socket belongs to uid ${found.uid}: ${folder}`);
  }
};

const groupId = async (group: string | number): Promise<number> => {
  if (typeof group === 'number' || /^\d+$/.test(group)) return Number(group);
  const line = (await readFile('/etc/group', 'utf8')).split('\n').find((row) => row.startsWith(`${group}:`));
  const gid = Number(line?.split(':')[2]);
  if (line === undefined || !Number.isInteger(gid)) throw new SocketError('GROUP', `no such group: ${group}`);
  return gid;
};

/** The file stays when the agent ends: removing it would let two processes lock two files of one name. */
const takeLock = async (libc: Libc, path: string): Promise<FileHandle> => {
  const file = join(dirname(path), `.${basename(path)}.lock`);
  const handle = await open(file, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600).catch(
    (cause: unknown) => {
      throw new SocketError('FOLDER', `the lock file cannot be opened: ${file}`, cause);
    },
  );
  try {
    if (!libc.lockExclusive(handle.fd)) throw new SocketError('IN_USE', `another agent serves ${path}`);
    return handle;
  } catch (error) {
    await handle.close();
    throw error;
  }
};

/** Refused connections mean a leftover. Any other answer, also a full backlog (EAGAIN), means that somebody listens. */
const answers = (path: string): Promise<boolean> =>
  new Promise((resolve) => {
    const probe = connect(path);
    probe.once('connect', () => {
      probe.destroy();
      resolve(true);
    });
    probe.once('error', (error: NodeJS.ErrnoException) =>
      resolve(!['ECONNREFUSED', 'ENOENT'].includes(error.code ?? '')),
    );
  });

const checkPlace = async (path: string): Promise<void> => {
  const found = await lstat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw new SocketError('FOLDER', `the socket path cannot be read: ${path}`, error);
  });
  if (found === undefined) return;
  if (!found.isSocket()) throw new SocketError('NOT_A_SOCKET', `the socket path is taken by something else: ${path}`);
  if (await answers(path)) throw new SocketError('IN_USE', `another program answers on ${path}`);
};

const listenOn = (server: Server, where: { path: string } | { fd: number }): Promise<void> =>
  new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ ...where, backlog: BACKLOG }, () => {
      server.off('error', reject);
      resolve();
    });
  });

const stopListening = (server: Server): void => {
  // Resolves only when all connections are gone, which is for the caller to bring about: not awaited.
  server.close();
};

/** Binds, sets mode and group, and puts the socket in place; answers with its device and inode. */
const bindInPlace = async (
  server: Server,
  options: SocketOptions,
  folder: string,
): Promise<{ dev: number; ino: number }> => {
  const gid = options.group === undefined ? undefined : await groupId(options.group);
  await mkdir(folder, { mode: 0o700 });
  try {
    const temporary = join(folder, 's');
    await listenOn(server, { path: temporary });
    if (gid !== undefined) await chown(temporary, process.getuid?.() ?? 0, gid);
    await chmod(temporary, options.mode);
    const { dev, ino } = await lstat(temporary);
    await rename(temporary, options.path);
    return { dev, ino };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
};

export const listenOnPath = async (
  libc: Libc,
  options: SocketOptions,
  accept: (socket: Socket) => void,
): Promise<Listening> => {
  const folder = placeFor(options.path);
  await checkFolder(options.path);
  const lock = await takeLock(libc, options.path);
  // Paused: no byte of the peer is read before the kernel has said who it is.
  const server = createServer({ pauseOnConnect: true, allowHalfOpen: false }, accept);
  try {
    await checkPlace(options.path);
    const ours = await bindInPlace(server, options, folder);
    return {
      close: async () => {
        stopListening(server);
        const now = await lstat(options.path).catch(() => undefined); // gone: then there is nothing to remove
        if (now?.dev === ours.dev && now.ino === ours.ino) await unlink(options.path);
        await lock.close();
      },
    };
  } catch (error) {
    stopListening(server);
    await lock.close();
    throw error;
  }
};

/** Listens on a socket that somebody else made and owns, such as systemd (sd_listen_fds(3)). */
export const listenOnFd = async (fd: number, accept: (socket: Socket) => void): Promise<Listening> => {
  const server = createServer({ pauseOnConnect: true }, accept);
  await listenOn(server, { fd });
  return { close: async () => stopListening(server) };
};
