// Other Debians in a folder, for modules and programs that this one does not have yet: made once by debootstrap, entered by
// chroot in namespaces of their own, with this checkout at /mortise. Nothing that runs inside changes the folder's modules.
import { execFile, spawn } from 'node:child_process';
import { homedir } from 'node:os';
import { join } from 'node:path';

const REPOSITORY = join(import.meta.dirname, '../../..');
const MAKE = join(import.meta.dirname, 'debian-root.sh');
const MAKE_MS = 15 * 60_000;

/** Why tests inside a Debian root cannot run here; false where they can. */
export const needsRoot: string | false =
  process.getuid?.() === 0 ? false : 'needs to be root, for debootstrap, mount and chroot';

export interface DebianRoot {
  readonly suite: 'sid' | 'trixie' | 'bookworm';
  readonly packages: readonly string[];
}

/** NSS softokn and openCryptoki whose tokens offer PKCS #11 3.2. */
export const SID: DebianRoot = { suite: 'sid', packages: ['libnss3', 'libnss3-tools', 'opencryptoki'] };
/** OpenSSL 3.5, the first with ML-KEM, ML-DSA and SLH-DSA. */
export const TRIXIE: DebianRoot = { suite: 'trixie', packages: ['openssl'] };

/** Older modules, with what makes tokens of them, and a TPM in software. */
export const BOOKWORM: DebianRoot = {
  suite: 'bookworm',
  packages: [
    'libnss3',
    'libnss3-tools',
    'opencryptoki',
    'libtpm2-pkcs11-1',
    'libtpm2-pkcs11-tools',
    'tpm2-tools',
    'swtpm',
    'tpm2-abrmd',
    'libtss2-tcti-tabrmd0',
    'dbus',
  ],
};

/** The folder, after minutes at the first time. */
export const debianRoot = async ({ suite, packages }: DebianRoot): Promise<string> => {
  const cache = process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache');
  const folder = join(cache, 'mortise', `debian-${suite}`);
  const options = { timeout: MAKE_MS, maxBuffer: 64 * 1024 * 1024 };
  await new Promise<void>((resolve, reject) => {
    execFile('sh', [MAKE, suite, folder, packages.join(',')], options, (error, stdout, stderr) => {
      if (error === null) resolve();
      else reject(new Error(`Debian ${suite} could not be made in ${folder}: ${stderr}\n${stdout.slice(-2000)}`));
    });
  });
  return folder;
};

// What programs write goes to memory: /tmp, and where openCryptoki keeps its tokens.
const ENTER = `set -e
root=$1 repository=$2
mount --bind "$repository" "$root/mortise"
mount -o remount,bind,ro "$root/mortise"
mount -t proc proc "$root/proc"
mount --bind /dev "$root/dev"
for folder in dev/shm run tmp; do mount -t tmpfs -o mode=1777 tmpfs "$root/$folder"; done
[ ! -d "$root/var/lib/opencryptoki" ] || mount -t tmpfs tmpfs "$root/var/lib/opencryptoki"
[ -z "$3" ] || mount --bind "$3" "$root/mnt"
exec chroot "$root" /bin/sh -eu -c "cd /mortise; $4"`;

export interface InsideRun {
  readonly exitCode: number;
  /** Standard output and error as they came. */
  readonly output: string;
}

/** Runs a shell script inside; it and all it started are killed after `timeoutMs`. `shared` is a folder to be /mnt. */
export const runInside = (
  root: string,
  script: string,
  { timeoutMs, shared = '' }: { readonly timeoutMs: number; readonly shared?: string },
): Promise<InsideRun> =>
  new Promise((resolve, reject) => {
    const namespaces = ['--mount', '--pid', '--ipc', '--fork', '--kill-child', 'sh', '-c', ENTER, 'sh'];
    const child = spawn('unshare', [...namespaces, root, REPOSITORY, shared, script], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', HOME: '/tmp' },
      timeout: timeoutMs,
      killSignal: 'SIGKILL',
    });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        output += text;
      });
    }
    child.once('error', reject);
    child.once('close', (code, signal) => {
      if (code !== null) resolve({ exitCode: code, output });
      else reject(new Error(`ended by ${signal}; it may take ${timeoutMs} ms. It wrote:\n${output.slice(-4000)}`));
    });
  });

/** The output of a script that has to succeed. */
export const outputInside = async (...args: Parameters<typeof runInside>): Promise<string> => {
  const { exitCode, output } = await runInside(...args);
  if (exitCode !== 0) throw new Error(`exit code ${exitCode}:\n${output.slice(-8000)}`);
  return output;
};
