// Containers of a rendered pod as processes: namespaces by bubblewrap, users and groups by setpriv, volumes as the kubelet
// lays them out, and nothing of the machine but what a container image would have. As root.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  lchownSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Container, Mount } from './pods.ts';

const ROOT = join(import.meta.dirname, '../..');
/** Where a container has this checkout, in place of what an image would have. */
export const IMAGE = '/opt/mortise';
export const NODE = `${IMAGE}/node_modules/node/bin/node`;
const PATIENCE_MS = 60_000;

export interface User {
  readonly uid: number;
  readonly gid: number;
  readonly groups: readonly number[];
}

/** An emptyDir or a claim: of root, writable for the pod's group (SetVolumeOwnership of the kubelet). */
export const writableVolume = (path: string, fsGroup: number): void => {
  mkdirSync(path, { recursive: true });
  chownSync(path, 0, fsGroup);
  chmodSync(path, 0o2777);
};

/** A Secret, ConfigMap or projected token: files in a folder that a link names, so that all are replaced at once. */
export const atomicVolume = (
  path: string,
  files: Readonly<Record<string, string | Buffer>>,
  mode: number,
  fsGroup: number,
): void => {
  const data = `..${process.hrtime.bigint()}`;
  for (const [name, content] of Object.entries(files)) {
    const file = join(path, data, name);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, content);
    chmodSync(file, mode);
    chownSync(file, 0, fsGroup);
  }
  symlinkSync(data, join(path, '..data_tmp'));
  renameSync(join(path, '..data_tmp'), join(path, '..data'));
  for (const name of new Set(Object.keys(files).map((file) => file.split('/', 1)[0] as string))) {
    if (!readdirSync(path).includes(name)) symlinkSync(join('..data', name), join(path, name));
  }
};

/** Gives a folder and all in it to a user. */
export const giveTo = (path: string, { uid, gid }: Pick<User, 'uid' | 'gid'>): void => {
  execFileSync('chown', ['-R', `${uid}:${gid}`, path]);
  lchownSync(path, uid, gid);
};

const mountArguments = (mounts: readonly Mount[], volumes: string): string[] =>
  mounts.flatMap(({ name, mountPath, readOnly, subPath = '' }) => [
    readOnly === true ? '--ro-bind' : '--bind',
    join(volumes, name, subPath),
    mountPath,
  ]);

/** Bubblewrap would make them for root alone. */
const folderArguments = (paths: readonly string[]): string[] => {
  const folders = new Set<string>();
  for (const path of paths) for (let at = dirname(path); at !== '/'; at = dirname(at)) folders.add(at);
  return [...folders].sort().flatMap((folder) => ['--perms', '0755', '--dir', folder]);
};

export class RunningContainer implements AsyncDisposable {
  readonly lines: Record<string, unknown>[] = [];
  readonly #ended: Promise<number | null>;
  readonly #outer: ChildProcess;
  readonly #name: string;
  readonly #waiters = new Set<() => void>();
  #stderr = '';
  #isOver = false;

  constructor(name: string, outer: ChildProcess) {
    this.#name = name;
    this.#outer = outer;
    this.#ended = new Promise((resolve) => {
      outer.once('close', (code) => {
        this.#isOver = true;
        this.#look();
        resolve(code);
      });
    });
    outer.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr += text;
    });
    createInterface({ input: outer.stdout as NodeJS.ReadableStream }).on('line', (line) => {
      try {
        this.lines.push(JSON.parse(line));
      } catch {
        this.#stderr += `${line}\n`;
      }
      this.#look();
    });
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  get stderr(): string {
    return this.#stderr;
  }

  /** The first line from `from` on that fits; rejects where the container ends, or patience does, without it. */
  said(what: string, fits: (line: Record<string, unknown>) => boolean, from = 0): Promise<Record<string, unknown>> {
    return new Promise((resolve, reject) => {
      const fail = (why: string): void => {
        clearTimeout(timer);
        this.#waiters.delete(look);
        const last = this.lines.slice(-10).map((line) => JSON.stringify(line));
        reject(new Error(`${this.#name} ${why} before it said ${what}:\n${last.join('\n')}\n${this.#stderr}`));
      };
      const look = (): void => {
        const found = this.lines.slice(from).find(fits);
        if (found === undefined) {
          if (this.#isOver) fail('ended');
          return;
        }
        clearTimeout(timer);
        this.#waiters.delete(look);
        resolve(found);
      };
      const timer = setTimeout(() => fail('took too long'), PATIENCE_MS);
      this.#waiters.add(look);
      look();
    });
  }

  /** Its exit code, once it has ended; rejects where that takes too long. */
  async exit(): Promise<number | null> {
    const late = Promise.withResolvers<never>();
    const timer = setTimeout(
      () => late.reject(new Error(`${this.#name} has not ended:\n${this.#stderr}`)),
      PATIENCE_MS,
    );
    try {
      return await Promise.race([this.#ended, late.promise]);
    } finally {
      clearTimeout(timer);
    }
  }

  /** To the container's first process. */
  signal(name: NodeJS.Signals): void {
    const inner = this.#inner();
    if (inner === undefined) throw new Error(`${this.#name} has no process`);
    process.kill(inner, name);
  }

  /** All that is in it ends with its first process: that is what a process namespace is for. */
  async [Symbol.asyncDispose](): Promise<void> {
    const inner = this.#isOver ? undefined : this.#inner();
    if (inner !== undefined) process.kill(inner, 'SIGKILL');
    else if (!this.#isOver) this.#outer.kill('SIGKILL');
    await this.exit();
  }

  #inner(): number | undefined {
    const { pid } = this.#outer;
    try {
      const [inner = ''] = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ');
      return inner === '' ? undefined : Number(inner);
    } catch {
      return undefined; // it ended meanwhile
    }
  }

  #look(): void {
    for (const waiter of [...this.#waiters]) waiter();
  }
}

export interface RunOptions {
  readonly volumes: string;
  readonly user: User;
  readonly env: Readonly<Record<string, string>>;
  /** Capabilities that are left to a container of root. */
  readonly capabilities?: readonly string[];
  /** In place of the container's own command. */
  readonly command?: readonly string[];
}

/** Starts a container. Its network is the machine's: pods share one as well. */
export const startContainer = (container: Container, options: RunOptions): RunningContainer => {
  const {
    volumes,
    user,
    env,
    capabilities = [],
    command = [...(container.command ?? []), ...(container.args ?? [])],
  } = options;
  const expanded = command.map((word) => word.replaceAll(/\$\(([A-Z_]+)\)/g, (_, name) => env[name] ?? ''));
  const args = [
    ...['--unshare-pid', '--unshare-ipc', '--unshare-uts', '--as-pid-1', '--new-session', '--clearenv'],
    ...['--tmpfs', '/', '--ro-bind', '/usr', '/usr', '--proc', '/proc', '--dev', '/dev'],
    ...['lib', 'lib64', 'bin', 'sbin'].flatMap((name) => ['--symlink', `usr/${name}`, `/${name}`]),
    ...folderArguments([IMAGE, ...(container.volumeMounts ?? []).map(({ mountPath }) => mountPath)]),
    ...['--ro-bind', ROOT, IMAGE],
    ...mountArguments(container.volumeMounts ?? [], volumes),
    ...['--remount-ro', '/'],
    ...Object.entries({ PATH: '/usr/bin:/bin', ...env }).flatMap(([name, value]) => ['--setenv', name, value]),
    ...['--', 'setpriv', `--reuid=${user.uid}`, `--regid=${user.gid}`],
    ...(user.groups.length > 0 ? [`--groups=${user.groups.join(',')}`] : ['--clear-groups']),
    ...[
      '--no-new-privs',
      `--bounding-set=${['-all', ...capabilities.map((name) => `+${name.toLowerCase()}`)].join(',')}`,
      '--inh-caps=-all',
      '--',
      ...expanded,
    ],
  ];
  return new RunningContainer(container.name, spawn('bwrap', args, { stdio: ['ignore', 'pipe', 'pipe'] }));
};
