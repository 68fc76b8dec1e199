// Charts as manifests: by helm where it is on the PATH, else by the renderer beside this file, on Debian's Go and sprig.
import { execFile, execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const CACHE = join(homedir(), '.cache/mortise');
const SOURCE = join(import.meta.dirname, 'renderer.go');
export const CHARTS = join(import.meta.dirname, '../../helm');
const PATIENCE_MS = 120_000;

export interface Manifest {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly labels?: Readonly<Record<string, string>> };
  readonly [field: string]: unknown;
}

const hasHelm = (): boolean => {
  try {
    execFileSync('helm', ['version', '--short'], { stdio: 'ignore', timeout: PATIENCE_MS });
    return true;
  } catch {
    return false;
  }
};

/** The renderer's program, built once for each version of its source. */
const buildRenderer = (): string => {
  const name = `renderer-${createHash('sha256').update(readFileSync(SOURCE)).digest('hex').slice(0, 16)}`;
  const path = join(CACHE, name);
  if (existsSync(path)) return path;
  mkdirSync(CACHE, { recursive: true });
  const beside = `${path}.${process.pid}`;
  const env = { ...process.env, GO111MODULE: 'off', GOPATH: '/usr/share/gocode', GOFLAGS: '' };
  execFileSync('go', ['build', '-o', beside, SOURCE], { env, timeout: PATIENCE_MS });
  renameSync(beside, path);
  return path;
};

export interface Renderer {
  readonly name: 'helm' | 'renderer.go';
  /** Rejects with what the templates complain of. */
  render(chart: string, values: object): Promise<readonly Manifest[]>;
  /** The YAML of a file. */
  parse(path: string): readonly unknown[];
}

export const openRenderer = (): Renderer => {
  const program = buildRenderer();
  const helm = hasHelm();
  const parseText = (text: string): Manifest[] =>
    JSON.parse(execFileSync(program, ['-parse'], { input: text, encoding: 'utf8', timeout: PATIENCE_MS }));
  return {
    name: helm ? 'helm' : 'renderer.go',
    parse: (path) => parseText(readFileSync(path, 'utf8')),
    render: async (chart, values) => {
      const folder = mkdtempSync(join(tmpdir(), 'mortise-helm-'));
      try {
        const file = join(folder, 'values.json'); // JSON is YAML
        writeFileSync(file, JSON.stringify(values));
        const from = join(CHARTS, chart);
        if (!helm) {
          const { stdout } = await promisify(execFile)(program, ['-name', 'test', '-f', file, from], {
            timeout: PATIENCE_MS,
          });
          return JSON.parse(stdout);
        }
        const copy = join(folder, 'charts');
        execFileSync('cp', ['-r', CHARTS, copy]); // dependencies are put into the chart's folder
        const chartCopy = join(copy, chart);
        await promisify(execFile)('helm', ['dependency', 'update', chartCopy], { timeout: PATIENCE_MS });
        const args = ['template', 'test', chartCopy, '-f', file];
        return parseText((await promisify(execFile)('helm', args, { timeout: PATIENCE_MS })).stdout);
      } finally {
        rmSync(folder, { recursive: true, force: true });
      }
    },
  };
};

/** What Kubernetes' schemas are installed into; see schemas/package.json. */
export const installSchemas = (): string => {
  const lock = readFileSync(join(import.meta.dirname, 'schemas/package-lock.json'));
  const folder = join(CACHE, `kubernetes-schemas-${createHash('sha256').update(lock).digest('hex').slice(0, 16)}`);
  if (existsSync(join(folder, 'node_modules/.package-lock.json'))) return folder;
  mkdirSync(folder, { recursive: true });
  for (const file of ['package.json', 'package-lock.json']) {
    writeFileSync(join(folder, file), readFileSync(join(import.meta.dirname, 'schemas', file)));
  }
  execFileSync('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'], {
    cwd: folder,
    stdio: 'ignore',
    timeout: PATIENCE_MS,
  });
  return folder;
};
