// Tells systemd how the service is (sd_notify(3), Type=notify). Invariant: where nobody asked (no NOTIFY_SOCKET) nothing
// happens, and a failure to tell never fails the agent.
import koffi from 'koffi';

const AF_UNIX = 1;
const SOCK_DGRAM_CLOEXEC = 2 | 0o2000000; // bits/socket.h
const MSG_NOSIGNAL_DONTWAIT = 0x4000 | 0x40;
const SUN_PATH = 2; // offset in struct sockaddr_un

const sockaddr = (path: string): Buffer => {
  const name = Buffer.from(path.startsWith('@') ? `\0${path.slice(1)}` : path);
  const address = Buffer.alloc(SUN_PATH + name.length + (path.startsWith('@') ? 0 : 1));
  address.writeUInt16LE(AF_UNIX, 0);
  name.copy(address, SUN_PATH);
  return address;
};

/** Sends one datagram such as "READY=1"; Node has no Unix datagram sockets. Returns whether it was sent. */
export const notifySystemd = (socketPath: string | undefined, state: string): boolean => {
  if (socketPath === undefined) return false;
  const libc = koffi.load('libc.so.6');
  const socket = libc.func('int socket(int domain, int type, int protocol)');
  const sendto = libc.func(
    'long sendto(int fd, const uint8_t *data, size_t length, int flags, const uint8_t *address, uint32_t size)',
  );
  const close = libc.func('int close(int fd)');
  const fd = socket(AF_UNIX, SOCK_DGRAM_CLOEXEC, 0) as number;
  if (fd < 0) return false;
  try {
    const data = Buffer.from(state);
    const address = sockaddr(socketPath);
    return sendto(fd, data, data.length, MSG_NOSIGNAL_DONTWAIT, address, address.length) === data.length;
  } finally {
    close(fd);
  }
};

export interface SystemdOptions {
  /** NOTIFY_SOCKET. */
  readonly notifySocket: string | undefined;
  /** WatchdogSec=, in milliseconds. */
  readonly watchdogMs: number | undefined;
}

/** The life of a service as it is told to systemd. Disposing of it ends the signs of life. */
export class SystemdNotifier implements Disposable {
  readonly #socket: string | undefined;
  readonly #alive: NodeJS.Timeout | undefined;

  constructor({ notifySocket, watchdogMs }: SystemdOptions) {
    this.#socket = notifySocket;
    if (notifySocket === undefined || watchdogMs === undefined) return;
    // From the event loop that answers the calls, so a loop that hangs is silent. Half the time is what systemd advises.
    this.#alive = setInterval(() => this.tell('WATCHDOG=1'), watchdogMs / 2).unref();
  }

  tell(state: string): void {
    notifySystemd(this.#socket, state);
  }

  /** RELOADING=1 until `act` has ended, however it does. */
  async reload(act: () => Promise<void>): Promise<void> {
    // The time on the monotonic clock tells systemd that the READY=1 to come belongs to this reload.
    this.tell(`RELOADING=1\nMONOTONIC_USEC=${process.hrtime.bigint() / 1000n}`);
    try {
      await act();
    } finally {
      this.tell('READY=1');
    }
  }

  [Symbol.dispose](): void {
    clearInterval(this.#alive);
  }
}
