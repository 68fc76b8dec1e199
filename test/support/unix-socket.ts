// Unix sockets as a supervisor makes them: a listening one to hand over to a child, and the datagram socket that
// sd_notify(3) writes to. Node makes neither without reading from it itself.
import koffi from 'koffi';

export const SOCK_STREAM = 1;
export const SOCK_DGRAM = 2;
const AF_UNIX = 1;
const BACKLOG = 16;

/** Binds a socket at `path`, and listens on it where it is a stream; gives back its descriptor. */
export const listeningSocket = (path: string, type: typeof SOCK_STREAM | typeof SOCK_DGRAM): number => {
  const libc = koffi.load('libc.so.6');
  const socket = libc.func('int socket(int domain, int type, int protocol)');
  const bind = libc.func('int bind(int fd, const uint8_t *address, uint32_t size)');
  const listen = libc.func('int listen(int fd, int backlog)');
  const address = Buffer.concat([Buffer.from([AF_UNIX, 0]), Buffer.from(`${path}\0`)]);
  const fd = socket(AF_UNIX, type, 0) as number;
  if (fd < 0 || bind(fd, address, address.length) !== 0) throw new Error(`cannot bind ${path}`);
  if (type === SOCK_STREAM && listen(fd, BACKLOG) !== 0) throw new Error(`cannot listen on ${path}`);
  return fd;
};

/** The next datagram; throws where there is none. */
export const readDatagram = (fd: number): string => {
  const recv = koffi.load('libc.so.6').func('long recv(int fd, _Out_ uint8_t *data, size_t size, int flags)');
  const MSG_DONTWAIT = 0x40;
  const data = Buffer.alloc(4096);
  const length = Number(recv(fd, data, data.length, MSG_DONTWAIT));
  if (length < 0) throw new Error('no datagram');
  return data.toString('utf8', 0, length);
};
