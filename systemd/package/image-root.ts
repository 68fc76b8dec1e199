// The root file system of the image: the C and C++ libraries and OpenSSL of Debian, certificates of public CAs, and Mortise.
// No shell and no package manager: what is not there cannot be used. Each layer is a folder.
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cp, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { billOfMaterials, type DebianPackage } from './bill-of-materials.ts';
import { INSTALLED } from './programs.ts';
import type { Staged } from './stage.ts';

const run = promisify(execFile);
/** libssl: vendors' PKCS#11 modules and SoftHSM ask for it; Node has its own. Its name is another one from trixie on. */
const PACKAGES = ['libc6', 'libgcc-s1', 'libstdc++6', 'libssl3|libssl3t64', 'ca-certificates'];
/** A user that no image of a distribution has. */
export const IMAGE_USER = 65532;

const available = async (choice: string): Promise<string> => {
  for (const name of choice.split('|')) {
    const { stdout } = await run('apt-cache', ['policy', name]);
    if (/Candidate: \d/.test(stdout)) return name;
  }
  throw new Error(`apt has no package ${choice}; run apt-get update`);
};

/** Unpacks packages of the Debian that this is run on; says which. */
const unpackDebian = async (root: string): Promise<readonly DebianPackage[]> => {
  const folder = await mkdtemp(join(tmpdir(), 'mortise-debs-'));
  try {
    const names = await Promise.all(PACKAGES.map(available));
    await run('apt-get', ['download', '-qq', ...names], { cwd: folder });
    const files = (await readdir(folder)).sort();
    const packages: DebianPackage[] = [];
    for (const file of files) {
      const path = join(folder, file);
      // Debian's /lib is a link to /usr/lib, and some packages still name the link.
      await run('sh', [
        '-c',
        'dpkg-deb --fsys-tarfile "$1" | tar --keep-directory-symlink -x -C "$2"',
        'sh',
        path,
        root,
      ]);
      const { stdout } = await run('dpkg-deb', ['--field', path, 'Package', 'Version', 'Architecture']);
      const [name = '', version = '', architecture = ''] = [...stdout.matchAll(/: (.*)$/gm)].map((match) => match[1]);
      const sha256 = createHash('sha256')
        .update(await readFile(path))
        .digest('hex');
      packages.push({ name, version, architecture, sha256 });
    }
    return packages;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
};

const put = async (path: string, text: string): Promise<void> => {
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, text);
};

/** What the maintainer script of ca-certificates would do. */
const joinCertificates = async (root: string): Promise<void> => {
  const folder = join(root, 'usr/share/ca-certificates/mozilla');
  const names = (await readdir(folder)).filter((name) => name.endsWith('.crt')).sort();
  const texts = await Promise.all(names.map((name) => readFile(join(folder, name), 'utf8')));
  await put(join(root, 'etc/ssl/certs/ca-certificates.crt'), texts.join(''));
};

const makeBase = async (root: string): Promise<readonly DebianPackage[]> => {
  for (const name of ['bin', 'sbin', 'lib', 'lib64']) {
    await mkdir(join(root, 'usr', name), { recursive: true });
    await symlink(`usr/${name}`, join(root, name));
  }
  const packages = await unpackDebian(root);
  for (const path of ['usr/share/man', 'usr/share/locale', 'usr/share/lintian', 'usr/share/bug']) {
    await rm(join(root, path), { recursive: true, force: true });
  }
  await joinCertificates(root);
  await put(
    join(root, 'etc/passwd'),
    `root:x:0:0::/:/sbin/nologin\nmortise:x:${IMAGE_USER}:${IMAGE_USER}::/var/lib/mortise:/sbin/nologin\n`,
  );
  await put(join(root, 'etc/group'), `root:x:0:\nmortise:x:${IMAGE_USER}:\n`);
  await put(join(root, 'etc/nsswitch.conf'), 'passwd: files\ngroup: files\nhosts: files dns\n');
  for (const path of ['proc', 'dev', 'sys', 'run', 'tmp', 'etc/mortise/policy'])
    await mkdir(join(root, path), { recursive: true });
  return packages;
};

const LINKS = { 'usr/sbin/mortise-agent': 'agent', 'usr/sbin/mortise-registry': 'registry', 'usr/bin/mortise': 'cli' };

export interface Layer {
  readonly folder: string;
  readonly owner: number;
}

/** Makes the layers below `folder`, lowest first; the bill is also in the image. */
export const makeImageRoot = async (
  staged: Staged,
  seconds: number,
  folder: string,
): Promise<{ readonly layers: readonly Layer[]; readonly bill: string }> => {
  const [base, programs, own] = ['base', 'programs', 'own'].map((name) => join(folder, name)) as [
    string,
    string,
    string,
  ];
  const debian = await makeBase(base);
  await cp(staged.folder, join(programs, INSTALLED), { recursive: true });
  for (const [at, part] of Object.entries(LINKS)) {
    await mkdir(dirname(join(programs, at)), { recursive: true });
    await symlink(`../lib/mortise/${part}/main.js`, join(programs, at));
  }
  const npm = Object.values(staged.contents).flat();
  const { version } = staged;
  const bill = await billOfMaterials({ name: 'mortise', version, type: 'container', seconds, npm, debian });
  await put(join(programs, 'usr/share/doc/mortise/sbom.cdx.json'), bill);
  // What the user of the image may write to, where no volume is mounted over it.
  for (const path of ['var/lib/mortise', 'var/lib/mortise-registry', 'run/mortise']) {
    await mkdir(join(own, path), { recursive: true, mode: 0o700 });
  }
  const layers = [
    { folder: base, owner: 0 },
    { folder: programs, owner: 0 },
    { folder: own, owner: IMAGE_USER },
  ];
  return { layers, bill };
};
