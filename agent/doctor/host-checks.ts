// What the machine itself brings: Node, user, clock.
import type { Config } from '../config/config.ts';
import { type Check, fail, ok, warn } from './check.ts';

const LEAST_NODE = [24, 12] as const; // type stripping without a warning, OpenSSL 3.5
// The agent was written after this; a clock before it makes every policy and bearer token look not yet valid.
const EARLIEST_MS = Date.UTC(2026, 10, 1);
const LATEST_MS = Date.UTC(2100, 0, 1);

export const checkNode = (version = process.versions.node): Check => {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  const old = major < LEAST_NODE[0] || (major === LEAST_NODE[0] && minor < LEAST_NODE[1]);
  if (old) return fail('node', `Node ${version} is too old`, `install Node ${LEAST_NODE.join('.')} or later`);
  return ok('node', `Node ${version}, OpenSSL ${process.versions.openssl}`);
};

export const checkClock = (now = Date.now()): Check => {
  const time = new Date(now).toISOString();
  if (now < EARLIEST_MS || now > LATEST_MS) {
    return fail(
      'clock',
      `it says ${time}, which cannot be`,
      'set the clock and keep it by NTP (timedatectl set-ntp true)',
    );
  }
  return ok('clock', time);
};

export const checkUser = ({ allowRoot }: Config, uid = process.getuid?.() ?? -1): Check => {
  if (uid !== 0) return ok('user', `user ${uid}`);
  if (allowRoot) return warn('user', 'root, as MORTISE_ALLOW_ROOT allows', 'run the agent as a user of its own');
  return fail(
    'user',
    'root',
    'run the agent (and the doctor) as the user of the agent; for trials set MORTISE_ALLOW_ROOT=yes',
  );
};
