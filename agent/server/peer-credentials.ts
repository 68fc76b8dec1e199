// Who is at the other end of an accepted Unix socket (SO_PEERCRED). Invariant: an answer, or an exception and no
// connection; the credentials are those of connect(2), also where the socket was passed on later.
import type { Socket } from 'node:net';
import type { Peer } from '../operations/ports/call.ts';
import type { Libc } from './libc.ts';

const NO_UID = 0xffff_ffff; // (uid_t) -1: the kernel knows no peer, as on a socket that is not connected

export const peerOf = (libc: Libc, socket: Socket): Peer => {
  // The handle of net.Socket is not documented; where a future Node hides it, connections are refused.
  const fd = (socket as { _handle?: { fd?: unknown } })._handle?.fd;
  if (typeof fd !== 'number' || !Number.isInteger(fd) || fd < 0)
    throw new Error('the accepted socket has no descriptor');
  const { uid, gid, pid } = libc.peerCredentials(fd);
  if (uid === NO_UID || gid === NO_UID) throw new Error('the kernel knows no peer of this socket');
  return Object.freeze({ uid, gid, pid });
};
