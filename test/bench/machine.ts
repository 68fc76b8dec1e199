// What a figure depends on besides the code: machine, versions, and how busy the machine was with other things.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { cpus, loadavg, release, totalmem } from 'node:os';
import { join } from 'node:path';
import { SOFTHSM_LIBRARY } from '../support/softhsm.ts';

const ROOT = join(import.meta.dirname, '../..');
// biome-ignore lint/suspicious/noTemplateCurlyInString: a format of dpkg-query
const DPKG_VERSION = '-f=${Version}';
const PACKAGES = ['@grpc/grpc-js', 'lmdb', 'pkcs11js'] as const;

const output = (program: string, ...args: string[]): string => {
  try {
    return execFileSync(program, args, { cwd: ROOT, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  } catch {
    return 'unknown'; // a figure without it is still a figure
  }
};

const packageVersion = (name: string): string =>
  (JSON.parse(readFileSync(join(ROOT, 'node_modules', name, 'package.json'), 'utf8')) as { version: string }).version;

export const describeMachine = (): readonly (readonly [string, string])[] => [
  ['date', `${new Date().toISOString().slice(0, 16).replace('T', ' ')} UTC`],
  ['commit', output('git', 'describe', '--always', '--dirty')],
  ['processor', `${cpus().length} × ${cpus()[0]?.model ?? 'unknown'}`],
  ['memory', `${Math.round(totalmem() / 2 ** 30)} GiB`],
  ['system', `Linux ${release()}`],
  ['Node', `${process.version}, OpenSSL ${process.versions.openssl}`],
  ['SoftHSM', `${output('dpkg-query', '-W', DPKG_VERSION, 'libsofthsm2')} (${SOFTHSM_LIBRARY}, files)`],
  ['packages', PACKAGES.map((name) => `${name} ${packageVersion(name)}`).join(', ')],
  [
    'load average at the start',
    loadavg()
      .map((load) => load.toFixed(1))
      .join(', '),
  ],
];
