// The two system calls that Node does not offer: getsockopt(SO_PEERCRED) and flock. Invariant: a call that fails
// throws; nothing is ever guessed.
import koffi from 'koffi';

const SOL_SOCKET = 1; // asm-generic/socket.h: x86-64 and arm64
const SO_PEERCRED = 17;
const LOCK_EX_NB = 2 | 4; // LOCK_EX | LOCK_NB, sys/file.h
const UCRED_BYTES = 12;

export interface Libc {
  /** The peer of a connected Unix socket as the kernel noted it at connect(2). */
  peerCredentials(fd: number): { readonly pid: number; readonly uid: number; readonly gid: number };
  /** Takes the exclusive lock of an open file; false where another process has it. Closing the file gives it back. */
  lockExclusive(fd: number): boolean;
}

export const loadLibc = (): Libc => {
  const library = koffi.load('libc.so.6');
  const getsockopt = library.func(
    'int getsockopt(int fd, int level, int name, _Out_ uint8_t *value, _Inout_ uint32_t *length)',
  );
  const flock = library.func('int flock(int fd, int operation)');
  return {
    peerCredentials: (fd) => {
      const ucred = Buffer.alloc(UCRED_BYTES);
      const length = [UCRED_BYTES];
      if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, ucred, length) !== 0 || length[0] !== UCRED_BYTES) {
        throw new Error(`getsockopt(SO_PEERCRED) failed, errno ${koffi.errno()}`);
      }
      return { pid: ucred.readInt32LE(0), uid: ucred.readUInt32LE(4), gid: ucred.readUInt32LE(8) };
    },
    lockExclusive: (fd) => {
      if (flock(fd, LOCK_EX_NB) === 0) return true;
      if (koffi.errno() === koffi.os.errno['EWOULDBLOCK'] || koffi.errno() === koffi.os.errno['EAGAIN']) return false;
      throw new Error(`flock failed, errno ${koffi.errno()}`);
    },
  };
};
