// A PostgreSQL server of the tests' own: a cluster in a folder of its own, on a Unix socket alone, never as root, and gone
// with the test process. Databases in it are migrated by one role and used by another.
import { execFile, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, readdirSync } from 'node:fs';
import { chown, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Client } from 'pg';
import { migrate } from '../../registry/store/postgres/connections.ts';

const run = promisify(execFile);
const VERSIONS = '/usr/lib/postgresql';
const WAIT_MS = 30_000;
export const RUNTIME_ROLE = 'registry_runtime';

export interface TestDatabase {
  /** Of the superuser, for looking at what no role of the registry sees. */
  readonly superUrl: string;
  readonly ownerUrl: string;
  readonly url: string;
}

export interface TestPostgres extends AsyncDisposable {
  /** A database of its own; migrated unless said otherwise. */
  database(options?: { readonly migrated?: boolean }): Promise<TestDatabase>;
  query(url: string, text: string): Promise<Record<string, unknown>[]>;
}

/** Folder of the server's programs, or undefined where it is not installed. */
const programs = (): string | undefined => {
  const versions = existsSync(VERSIONS) ? readdirSync(VERSIONS) : [];
  return versions
    .sort((a, b) => Number(b) - Number(a))
    .map((version) => join(VERSIONS, version, 'bin'))
    .find((folder) => existsSync(join(folder, 'initdb')));
};

/** The user that the server runs as: not root, whom it refuses. */
const asUser = async (folder: string): Promise<readonly string[]> => {
  if (process.getuid?.() !== 0) return [];
  const { stdout: uid } = await run('id', ['-u', 'postgres']);
  const { stdout: gid } = await run('id', ['-g', 'postgres']);
  await chown(folder, Number(uid), Number(gid));
  return ['setpriv', `--reuid=${uid.trim()}`, `--regid=${gid.trim()}`, '--clear-groups', '--pdeathsig=INT', '--'];
};

const startServer = async (command: readonly string[]): Promise<() => Promise<void>> => {
  const [program, ...args] = command as [string, ...string[]];
  const server = spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe'], cwd: '/' });
  const ended = new Promise<void>((resolve) => void server.once('exit', () => resolve()));
  let said = '';
  const ready = Promise.withResolvers<void>();
  const timer = setTimeout(() => ready.reject(new Error(`PostgreSQL was not ready in time: ${said}`)), WAIT_MS);
  server.once('error', ready.reject);
  server.once('exit', () => ready.reject(new Error(`PostgreSQL ended: ${said}`)));
  server.stderr.on('data', (data: Buffer) => {
    said = `${said}${data}`.slice(-4096);
    if (said.includes('ready to accept connections')) ready.resolve();
  });
  try {
    await ready.promise;
  } finally {
    clearTimeout(timer);
  }
  return async () => {
    server.kill('SIGINT');
    const kill = setTimeout(() => server.kill('SIGKILL'), WAIT_MS);
    await ended;
    clearTimeout(kill);
  };
};

const query = async (url: string, text: string): Promise<Record<string, unknown>[]> => {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    const result = await client.query(text);
    return (Array.isArray(result) ? result.at(-1) : result).rows;
  } finally {
    await client.end();
  }
};

const SETTINGS = ['listen_addresses=', 'max_connections=60', 'shared_buffers=32MB'];

/** Starts a server. Rejects where it is not installed: a suite that does not run proves nothing. */
export const startPostgres = async (
  options: {
    /** "name=value", over the small ones of tests. */
    readonly settings?: readonly string[];
    /** Where its folder goes; by default among the temporary ones. */
    readonly parent?: string;
  } = {},
): Promise<TestPostgres> => {
  const bin = programs();
  if (bin === undefined) throw new Error('PostgreSQL is not installed; run npm run setup');
  const folder = await mkdtemp(join(options.parent ?? tmpdir(), 'mortise-pg-'));
  const prefix = await asUser(folder);
  const data = join(folder, 'data');
  const [initdb, ...args] = [...prefix, join(bin, 'initdb')];
  const flags = ['--username=super', '--auth=trust', '--encoding=UTF8', '--locale=C', '--no-sync', '-D', data];
  await run(initdb as string, [...args, ...flags], { cwd: '/', timeout: WAIT_MS });
  const settings = [...SETTINGS, ...(options.settings ?? [])].flatMap((text) => ['-c', text]);
  const stop = await startServer([...prefix, join(bin, 'postgres'), '-D', data, '-k', folder, ...settings]);
  const urlOf = (role: string, name: string): string => `postgres://${role}@${encodeURIComponent(folder)}/${name}`;
  await query(
    urlOf('super', 'postgres'),
    `CREATE ROLE registry_owner LOGIN; CREATE ROLE ${RUNTIME_ROLE} LOGIN NOSUPERUSER NOBYPASSRLS`,
  );
  return {
    query,
    database: async ({ migrated = true } = {}) => {
      const name = `registry_${randomBytes(6).toString('hex')}`;
      await query(urlOf('super', 'postgres'), `CREATE DATABASE ${name} OWNER registry_owner`);
      const ownerUrl = urlOf('registry_owner', name);
      if (migrated) await migrate({ url: ownerUrl, runtimeRole: RUNTIME_ROLE });
      return { superUrl: urlOf('super', name), ownerUrl, url: urlOf(RUNTIME_ROLE, name) };
    },
    [Symbol.asyncDispose]: async () => {
      await stop();
      await rm(folder, { recursive: true, force: true });
    },
  };
};
