// Builds the Debian packages with dpkg-deb. Invariant: contents, order, owners and times come from what is packaged and the
// build's time alone, so that a second build has the same bytes.
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmod, cp, lutimes, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { promisify } from 'node:util';
import { gzipSync } from 'node:zlib';
import { billOfMaterials } from './bill-of-materials.ts';
import { DEBIAN_PACKAGES, type DebianPackage, leftOut } from './debian-packages.ts';
import { maintainerScripts } from './debian-scripts.ts';
import { manualPages } from './manual.ts';
import { INSTALLED } from './programs.ts';
import type { Staged } from './stage.ts';

const run = promisify(execFile);
const SYSTEM_PATH = '/usr/sbin:/usr/bin:/sbin:/bin';
const UNITS = join(import.meta.dirname, '..');
const MAINTAINER = 'Mortise <mortise@localhost>';
const ARCHITECTURES: Readonly<Record<string, string>> = { x64: 'amd64', arm64: 'arm64' };

export const debianArchitecture = (): string => {
  const name = ARCHITECTURES[process.arch];
  if (name === undefined) throw new Error(`no packages are made for ${process.arch}`);
  return name;
};

/** The newest version of the C library that Node or an addon asks for. */
const neededGlibc = async (folder: string): Promise<string> => {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const binaries = entries.filter(({ name }) => name === 'node' || name.endsWith('.node'));
  let newest = [0, 0];
  for (const { parentPath, name } of binaries.filter((entry) => entry.isFile())) {
    const { stdout } = await run('objdump', ['-T', join(parentPath, name)], { maxBuffer: 256 * 1024 * 1024 });
    for (const [, major, minor] of stdout.matchAll(/GLIBC_(\d+)\.(\d+)/g)) {
      const version = [Number(major), Number(minor)];
      if (version[0] === newest[0] ? (version[1] ?? 0) > (newest[1] ?? 0) : (version[0] ?? 0) > (newest[0] ?? 0))
        newest = version;
    }
  }
  return newest.join('.');
};

/** Reproducible, and readable by zcat: no name and no time inside. */
const packed = (text: string): Buffer => gzipSync(text, { level: 9 });

const copyright = `Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: mortise

Files: *
Copyright: 2026 the authors of Mortise
License: Apache-2.0
 On Debian systems the text of this license is in /usr/share/common-licenses/Apache-2.0.
 What is bundled has licenses of its own: sbom.cdx.json beside this file names each with its license.
`;

/** What lintian finds and is meant so. */
const overrides = ({ name, part }: DebianPackage): string =>
  [
    '# No address of the project is published yet.',
    'bogus-mail-host *',
    'bogus-mail-host-in-debian-changelog *',
    ...(part === 'runtime'
      ? ['# The bytes of the pinned Node, which can be compared with those that its makers published.']
      : ['# Programs run under the Node that they are tested with, in mortise-runtime.']),
    ...(part === 'runtime'
      ? [
          'embedded-library *',
          'unstripped-binary-or-object *',
          'hardening-no-pie *',
          'hardening-no-fortify-functions *',
        ]
      : ['missing-dep-for-interpreter *', 'wrong-path-for-interpreter *', 'maintainer-script-calls-systemctl *']),
    ...(part === 'agent' ? ['unstripped-binary-or-object *'] : []),
  ]
    .map((line) => (line.startsWith('#') ? line : `${name}: ${line}`))
    .join('\n')
    .concat('\n');

interface Build {
  readonly staged: Staged;
  readonly seconds: number;
  readonly glibc: string;
  readonly pages: Readonly<Record<string, string>>;
}

const put = async (path: string, contents: string | Buffer, mode = 0o644): Promise<void> => {
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, contents, { mode });
};

const putDocuments = async (root: string, item: DebianPackage, { staged, seconds, pages }: Build): Promise<void> => {
  const { name, part, manual } = item;
  const documents = join(root, 'usr/share/doc', name);
  const date = new Date(seconds * 1000).toUTCString().replace('GMT', '+0000');
  const changes = `${name} (${staged.version}) unstable; urgency=medium\n\n  * Release ${staged.version}.\n\n -- ${MAINTAINER}  ${date}\n`;
  await put(join(documents, 'changelog.gz'), packed(changes));
  await put(join(documents, 'copyright'), copyright);
  await put(join(root, 'usr/share/lintian/overrides', name), overrides(item));
  const npm = staged.contents[part];
  await put(
    join(documents, 'sbom.cdx.json'),
    await billOfMaterials({ name, version: staged.version, type: 'application', seconds, npm }),
  );
  if (manual !== undefined) await put(join(root, 'usr/share/man', `${manual}.gz`), packed(pages[manual] ?? ''));
};

const putFiles = async (root: string, item: DebianPackage, { folder }: Staged): Promise<void> => {
  const excluded = leftOut(item).map((path) => join(folder, path));
  for (const path of item.programs) {
    const filter = (source: string): boolean => !excluded.includes(source);
    await cp(join(folder, path), join(root, INSTALLED, path), { recursive: true, filter });
  }
  for (const [at, target] of Object.entries(item.links ?? {})) {
    await mkdir(dirname(join(root, at)), { recursive: true });
    await symlink(target, join(root, at));
  }
  for (const [source, to] of Object.entries(item.files ?? {})) {
    await put(join(root, to), await readFile(join(UNITS, source)));
  }
  for (const path of item.folders ?? []) await mkdir(join(root, path), { recursive: true });
};

interface Entry {
  readonly path: string;
  readonly kind: 'file' | 'folder' | 'link';
}

const entriesOf = async (root: string): Promise<Entry[]> => {
  const entries = await readdir(root, { recursive: true, withFileTypes: true });
  return entries.map((entry) => ({
    path: join(entry.parentPath, entry.name),
    kind: entry.isDirectory() ? 'folder' : entry.isSymbolicLink() ? 'link' : 'file',
  }));
};

/** Modes do not depend on the umask, and no time is later than the build's. */
const settle = async (root: string, seconds: number): Promise<void> => {
  for (const { path, kind } of [...(await entriesOf(root)), { path: root, kind: 'folder' as const }]) {
    if (kind === 'folder') await chmod(path, 0o755);
    if (path.endsWith('.node')) await chmod(path, 0o644); // a library
    await lutimes(path, seconds, seconds);
  }
};

const putControl = async (root: string, item: DebianPackage, { staged, glibc }: Build): Promise<void> => {
  const { name, depends, recommends = [], summary, description } = item;
  const fill = (list: readonly string[]): string =>
    list.join(', ').replaceAll(/@(version|glibc)@/g, (_, word) => (word === 'glibc' ? glibc : staged.version));
  const files = (await entriesOf(root))
    .filter(({ kind }) => kind === 'file')
    .map(({ path }) => path)
    .sort();
  let bytes = 0;
  let sums = '';
  for (const path of files) {
    const contents = await readFile(path);
    bytes += contents.length;
    sums += `${createHash('md5').update(contents).digest('hex')}  ${relative(root, path)}\n`;
  }
  const control = [
    `Package: ${name}`,
    'Source: mortise',
    `Version: ${staged.version}`,
    `Architecture: ${debianArchitecture()}`,
    `Maintainer: ${MAINTAINER}`,
    `Installed-Size: ${Math.ceil(bytes / 1024)}`,
    `Depends: ${fill(depends)}`,
    ...(recommends.length > 0 ? [`Recommends: ${fill(recommends)}`] : []),
    'Section: admin',
    'Priority: optional',
    `Description: ${summary}`,
    ...description.map((line) => ` ${line}`),
  ];
  const folder = join(root, 'DEBIAN');
  await put(join(folder, 'control'), `${control.join('\n')}\n`);
  await put(join(folder, 'md5sums'), sums);
  const configuration = Object.values(item.files ?? {}).filter((path) => path.startsWith('/etc/'));
  if (configuration.length > 0) await put(join(folder, 'conffiles'), `${configuration.join('\n')}\n`);
  for (const [script, text] of Object.entries(maintainerScripts(item))) await put(join(folder, script), text, 0o755);
};

const buildOne = async (item: DebianPackage, build: Build, out: string): Promise<string> => {
  const { staged, seconds } = build;
  const root = await mkdtemp(join(tmpdir(), 'mortise-deb-'));
  try {
    await putFiles(root, item, staged);
    await putDocuments(root, item, build);
    await putControl(root, item, build);
    await settle(root, seconds);
    const file = join(out, `${item.name}_${staged.version}_${debianArchitecture()}.deb`);
    // One thread: how xz cuts the work into blocks would otherwise depend on the machine.
    const options = ['--root-owner-group', '-Zxz', '-z1', '--threads-max=1', '--build', root, file];
    await run('dpkg-deb', options, { env: { PATH: SYSTEM_PATH, SOURCE_DATE_EPOCH: String(seconds) } });
    return file;
  } finally {
    await rm(root, { recursive: true, force: true });
  }
};

/** Writes all packages into `out`; gives back their paths. */
export const buildDebianPackages = async (staged: Staged, seconds: number, out: string): Promise<readonly string[]> => {
  await mkdir(out, { recursive: true });
  const build = {
    staged,
    seconds,
    glibc: await neededGlibc(staged.folder),
    pages: await manualPages(staged, seconds),
  };
  const files: string[] = [];
  for (const item of DEBIAN_PACKAGES) files.push(await buildOne(item, build, out));
  return files;
};
