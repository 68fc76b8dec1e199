// A Debian in a folder that is booted: its own systemd as process 1, in namespaces of its own (systemd-nspawn --boot). A copy
// of a root that debootstrap made once; what happens in it leaves nothing behind.
import { type ChildProcess, execFile, execFileSync, spawn, spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const MAKE = join(import.meta.dirname, 'debian-root.sh');
const MAKE_MS = 15 * 60_000;
const BOOT_MS = 90_000;
const RUN_MS = 60_000;
/** The root has systemd and a token; nothing that our packages bring or would have to fetch. */
const PACKAGES = 'systemd,systemd-sysv,dbus,softhsm2,libstdc++6';

const installed = (program: string): boolean =>
  spawnSync('sh', ['-c', `command -v ${program}`], { stdio: 'ignore' }).status === 0;

/** Why no Debian can be booted here; false where one can. */
export const cannotBoot = (): string | false => {
  if (process.getuid?.() !== 0) return 'needs to be root, for debootstrap and systemd-nspawn';
  if (!existsSync('/sys/fs/cgroup')) return 'needs control groups';
  return installed('systemd-nspawn') ? false : 'needs systemd-nspawn (Debian package systemd-container)';
};

const makeRoot = async (): Promise<string> => {
  const folder = join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'mortise/debian-bookworm-systemd');
  execFileSync('sh', [MAKE, 'bookworm', folder, PACKAGES], {
    timeout: MAKE_MS,
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  return folder;
};

/** The process that is 1 inside: the only child of nspawn, once it runs systemd. */
const leaderOf = (nspawn: number): number | undefined => {
  const children = readFileSync(`/proc/${nspawn}/task/${nspawn}/children`, 'utf8').trim();
  const leader = Number(children.split(' ')[0]);
  if (!(leader > 0)) return undefined;
  try {
    return readFileSync(`/proc/${leader}/comm`, 'utf8').startsWith('systemd\n') ? leader : undefined;
  } catch {
    return undefined; // it has ended since
  }
};

export class BootedDebian implements AsyncDisposable {
  /** The root folder, as seen from outside. */
  readonly root: string;
  #nspawn: ChildProcess | undefined;
  #leader: number | undefined;
  #console = '';

  private constructor(root: string) {
    this.root = root;
  }

  /** A copy of the root, not booted yet. */
  static async make(): Promise<BootedDebian> {
    const source = await makeRoot();
    const root = await mkdtemp(join(tmpdir(), 'mortise-booted-'));
    execFileSync('cp', ['-a', '--reflink=auto', `${source}/.`, root]);
    return new BootedDebian(root);
  }

  /** Before it is booted: a script under chroot. */
  prepare(script: string): string {
    return execFileSync('chroot', [this.root, '/bin/sh', '-euc', script], {
      timeout: RUN_MS,
      stdio: ['ignore', 'pipe', 'ignore'],
      encoding: 'utf8',
      env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', HOME: '/root', DEBIAN_FRONTEND: 'noninteractive' },
    });
  }

  /** Resolves when systemd inside has nothing more to start. */
  async boot(): Promise<void> {
    const name = `mortise-${randomUUID().slice(0, 8)}`;
    const options = [
      '--boot',
      '--register=no',
      '--keep-unit',
      '--private-network',
      '--console=pipe',
      '--link-journal=no',
    ];
    this.#nspawn = spawn('systemd-nspawn', [...options, `--directory=${this.root}`, `--machine=${name}`], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    for (const stream of [this.#nspawn.stdout, this.#nspawn.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        this.#console = (this.#console + text).slice(-8000);
      });
    }
    const until = performance.now() + BOOT_MS;
    for (;;) {
      if (this.#nspawn.exitCode !== null) throw new Error(`it did not boot:\n${this.#console}`);
      if (performance.now() > until) throw new Error(`it has not booted within ${BOOT_MS} ms:\n${this.#console}`);
      this.#leader = leaderOf(this.#nspawn.pid as number);
      const state =
        this.#leader === undefined ? '' : await this.run('systemctl is-system-running || true').catch(() => '');
      if (/^(running|degraded)$/m.test(state)) return;
      await sleep(100);
    }
  }

  /** A path inside, as a process outside reaches it. It changes with each boot. */
  path(inside: string): string {
    return `/proc/${this.#leader}/root${inside}`;
  }

  /** Standard output of a script that runs inside and has to succeed. */
  run(script: string, { timeoutMs = RUN_MS }: { readonly timeoutMs?: number } = {}): Promise<string> {
    const enter = ['--target', String(this.#leader), '--mount', '--uts', '--ipc', '--net', '--pid', '--root', '--wd=/'];
    return new Promise((resolve, reject) => {
      const env = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', HOME: '/root' };
      const done = (error: Error | null, stdout: string, stderr: string): void => {
        if (error === null) resolve(stdout);
        else reject(new Error(`${script}\n${error.message}\n${stdout}${stderr}`));
      };
      execFile(
        'nsenter',
        [...enter, '/bin/sh', '-euc', script],
        { timeout: timeoutMs, env, cwd: '/', encoding: 'utf8' },
        done,
      );
    });
  }

  /** What the journal has of a unit, its newest lines. */
  journal(unit: string): Promise<string> {
    return this.run(`journalctl --no-pager --lines=60 --unit=${unit} --output=cat`);
  }

  async shutDown(): Promise<void> {
    const nspawn = this.#nspawn;
    if (nspawn === undefined) return;
    this.#nspawn = undefined;
    const ended = nspawn.exitCode === null ? once(nspawn, 'exit', { signal: AbortSignal.timeout(BOOT_MS) }) : undefined;
    ended?.catch(() => undefined); // it is awaited below
    await this.run('systemctl poweroff').catch(() => undefined); // the end of it takes the call along
    try {
      await ended;
    } catch {
      nspawn.kill('SIGKILL');
      if (this.#leader !== undefined) process.kill(this.#leader, 'SIGKILL');
      throw new Error(`it did not shut down:\n${this.#console}`);
    }
  }

  async reboot(): Promise<void> {
    await this.shutDown();
    await this.boot();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.shutDown().catch(() => undefined); // it was killed then
    await rm(this.root, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
  }
}
