// A path to a server that is slow, or swallows everything: a TCP proxy on the loopback. Invariant: bytes stay in order, and
// nothing is lost but what is swallowed on purpose.
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';

export interface SlowPath extends AsyncDisposable {
  readonly port: number;
  /** Milliseconds that each piece takes, in each direction. */
  delay(ms: number): void;
  /** From now on nothing arrives any more and nobody is told; or it does again, for new connections. */
  swallow(swallows: boolean): void;
}

export const makeSlowPath = async (to: number): Promise<SlowPath> => {
  let delayMs = 0;
  let swallows = false;
  const open = new Set<Socket>();
  const dead = new WeakSet<Socket>();
  const carry = (from: Socket, into: Socket): void => {
    let behind = Promise.resolve();
    const later = (work: () => void): void => {
      const at = Date.now() + delayMs;
      behind = behind.then(() => new Promise((resolve) => setTimeout(() => resolve(work()), at - Date.now())));
    };
    from.on('data', (bytes) => later(() => !swallows && !dead.has(into) && into.writable && void into.write(bytes)));
    from.once('close', () => later(() => !swallows && !dead.has(into) && void into.end()));
    from.on('error', () => undefined);
  };
  const server = createServer((near) => {
    const far = connect(to, '127.0.0.1');
    for (const socket of [near, far]) {
      open.add(socket);
      socket.once('close', () => open.delete(socket));
    }
    carry(near, far);
    carry(far, near);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    port: (server.address() as AddressInfo).port,
    delay: (ms) => {
      delayMs = ms;
    },
    swallow: (now) => {
      swallows = now;
      if (now) for (const socket of open) dead.add(socket);
    },
    [Symbol.asyncDispose]: async () => {
      for (const socket of open) socket.destroy();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
};
