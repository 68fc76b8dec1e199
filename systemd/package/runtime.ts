// What lies beside the bundles: the pinned Node and the packages with native code, of which only the files that are
// loaded are taken. Invariant: an exact list, so that a new version that needs another file fails at its first start.
import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { SHARED_FILES } from './programs.ts';

const MODULES = join(import.meta.dirname, '../../node_modules');
const PLATFORM = `linux-${process.arch}`;

type Files = Readonly<Record<string, readonly string[]>>;

/** For lmdb and koffi: every program but the CLI needs them. */
const SHARED: Files = {
  koffi: ['package.json', 'LICENSE.txt', 'index.js', 'src/koffi/index.js', 'src/koffi/src/static.js'],
  [`@koromix/koffi-${PLATFORM}`]: ['package.json', 'index.js', `${PLATFORM.replace('-', '_')}/koffi.node`],
  lmdb: [
    ...['package.json', 'LICENSE', 'node-index.js', 'open.js', 'native.js', 'caching.js', 'write.js', 'util/when.js'],
    ...['read.js', 'keys.js', 'index.js', 'level.js', 'dict/dict.txt'],
  ],
  [`@lmdb/lmdb-${PLATFORM}`]: ['package.json', 'index.js', 'node.napi.glibc.node'],
  '@harperfast/extended-iterable': ['package.json', 'LICENSE', 'index.js'],
  msgpackr: [
    ...['package.json', 'LICENSE', 'node-index.js', 'pack.js', 'unpack.js', 'struct.js', 'stream.js', 'iterators.js'],
  ],
  'weak-lru-cache': ['package.json', 'index.js', 'LRFUExpirer.js'],
  'ordered-binary': ['package.json', 'LICENSE', 'index.js'],
  'node-gyp-build-optional-packages': ['package.json', 'LICENSE', 'index.js', 'node-gyp-build.js'],
  'detect-libc': [
    ...['package.json', 'LICENSE', 'lib/detect-libc.js', 'lib/process.js', 'lib/filesystem.js', 'lib/elf.js'],
  ],
};
const TOKEN: Files = { pkcs11js: ['package.json', 'LICENSE', 'index.js', 'build/Release/pkcs11.node'] };

const copy = async (from: string, to: string): Promise<void> => {
  await mkdir(dirname(to), { recursive: true });
  await copyFile(from, to);
};

const copyModules = async (files: Files, folder: string): Promise<void> => {
  for (const [name, paths] of Object.entries(files)) {
    for (const path of paths) {
      await copy(join(MODULES, name, path), join(folder, 'node_modules', name, path));
    }
  }
};

/** Node, and what all programs share, below `folder`. */
export const copyRuntime = async (folder: string, version: string): Promise<readonly string[]> => {
  await copy(join(MODULES, 'node/bin/node'), join(folder, 'bin/node'));
  for (const [source, place] of Object.entries(SHARED_FILES))
    await copy(join(MODULES, '..', source), join(folder, place));
  await copyModules(SHARED, folder);
  await writeFile(join(folder, 'package.json'), `${JSON.stringify({ name: 'mortise', version, type: 'module' })}\n`);
  return ['node', ...Object.keys(SHARED)];
};

/** The binding to PKCS#11, which only the token process loads. */
export const copyTokenBinding = async (folder: string): Promise<readonly string[]> => {
  await copyModules(TOKEN, folder);
  return Object.keys(TOKEN);
};

/** The version of the project, which is that of every package. */
export const projectVersion = async (): Promise<string> => {
  const { version } = JSON.parse(await readFile(join(MODULES, '../package.json'), 'utf8')) as { version: string };
  return version;
};
