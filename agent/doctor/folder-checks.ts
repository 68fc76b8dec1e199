// The data folder and the folder of the socket: there, ours, closed to others, with room.

import type { Stats } from 'node:fs';
import { access, constants, stat, statfs } from 'node:fs/promises';
import { type Config, socketFolder } from '../config/config.ts';
import { type Check, fail, ok, warn } from './check.ts';

const MIB = 1024 ** 2;
const LEAST_FREE_BYTES = 64 * MIB; // below this the audit log may refuse records any minute
const LITTLE_FREE_BYTES = 1024 * MIB;

const statOf = (path: string): Promise<Stats | string> =>
  stat(path).catch((error: NodeJS.ErrnoException) => error.code ?? 'unknown error');

const canWrite = (path: string): Promise<boolean> =>
  access(path, constants.W_OK | constants.X_OK).then(
    () => true,
    () => false,
  );

export const checkDataFolder = async ({ dataDir }: Config): Promise<Check> => {
  const found = await statOf(dataDir);
  if (found === 'ENOENT')
    return warn('data folder', `${dataDir} does not exist yet`, 'the agent makes it at its start if it may');
  if (typeof found === 'string')
    return fail('data folder', `${dataDir} cannot be looked at (${found})`, 'check MORTISE_DATA_DIR');
  const uid = process.getuid?.();
  if (!found.isDirectory()) return fail('data folder', `${dataDir} is not a folder`, 'check MORTISE_DATA_DIR');
  if (found.uid !== uid)
    return fail('data folder', `${dataDir} belongs to user ${found.uid}`, `chown it to user ${uid}`);
  if (!(await canWrite(dataDir)))
    return fail('data folder', `${dataDir} cannot be written`, 'check its mode and mount');
  const { bavail, bsize } = await statfs(dataDir);
  const free = bavail * bsize;
  const room = `${Math.round(free / MIB)} MiB free`;
  if (free < LEAST_FREE_BYTES)
    return fail('data folder', `${dataDir}: ${room}`, 'make room: without it nothing can be recorded');
  if ((found.mode & 0o077) !== 0)
    return warn('data folder', `others may look into ${dataDir}`, `chmod 0700 ${dataDir}`);
  if (free < LITTLE_FREE_BYTES)
    return warn('data folder', `${dataDir}: ${room}`, 'make room before the audit log fills it');
  return ok('data folder', `${dataDir}: ${room}`);
};

export const checkSocketFolder = async (config: Config): Promise<Check> => {
  if (config.listenFd !== undefined) return ok('socket', 'handed over by systemd');
  const folder = socketFolder(config);
  const found = await statOf(folder);
  if (typeof found === 'string') {
    return fail(
      'socket',
      `the folder ${folder} cannot be looked at (${found})`,
      'make it (RuntimeDirectory=mortise), or set MORTISE_SOCKET_PATH',
    );
  }
  if (!(await canWrite(folder)))
    return fail('socket', `${folder} cannot be written`, `chown it to user ${process.getuid?.()}`);
  const sticky = (found.mode & 0o1000) !== 0;
  if ((found.mode & 0o022) !== 0 && !sticky)
    return fail('socket', `others may write to ${folder}`, `chmod go-w ${folder}`);
  const mode = config.socket.mode.toString(8).padStart(4, '0');
  const group = config.socket.group === undefined ? '' : `, group ${config.socket.group}`;
  if ((config.socket.mode & 0o002) !== 0) {
    return warn(
      'socket',
      `${config.socket.path}, mode ${mode}: every user may connect`,
      'fine where policy maps no uid that you do not know; else MORTISE_SOCKET_MODE=0660',
    );
  }
  return ok('socket', `${config.socket.path}, mode ${mode}${group}`);
};
