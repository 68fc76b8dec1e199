// A process that listens as an agent does and says so, for tests of what several processes do to one path.
import { loadLibc } from '../../../agent/server/libc.ts';
import { listenOnFd, listenOnPath, SocketError } from '../../../agent/server/socket.ts';

const where = process.argv[2] as string;
try {
  if (where.startsWith('fd:')) await listenOnFd(Number(where.slice(3)), (socket) => socket.end('process'));
  else await listenOnPath(loadLibc(), { path: where, mode: 0o600 }, (socket) => socket.end('process'));
  console.log('listening');
} catch (error) {
  console.log(error instanceof SocketError ? error.problem : error);
}
