// What Kubernetes says of manifests, without a cluster: its OpenAPI schemas as validators, and as types for the compiler,
// which finds fields that do not exist.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Manifest } from './render.ts';

const TSC = join(import.meta.dirname, '../../node_modules/.bin/tsc');
const PATIENCE_MS = 120_000;

const packageOf = (apiVersion: string): string =>
  apiVersion === 'monitoring.coreos.com/v1' ? '@kubernetes-models/prometheus-operator' : 'kubernetes-models';
const moduleOf = ({ apiVersion, kind }: Manifest): string => `${packageOf(apiVersion)}/${apiVersion}/${kind}`;

type Model = new (data: object) => { validate(): void };

/** Throws where a value is not of its kind, or a required one is missing. */
export const validate = async (schemas: string, manifest: Manifest): Promise<void> => {
  const file = join(schemas, 'node_modules', `${moduleOf(manifest)}.js`);
  const { [manifest.kind]: Kind } = (await import(pathToFileURL(file).href)) as Record<string, Model>;
  if (Kind === undefined) throw new Error(`no schema of ${manifest.apiVersion} ${manifest.kind}`);
  new Kind(manifest).validate();
};

/** The compiler's complaints of all manifests together; empty where every field exists and has its type. */
export const unknownFields = (schemas: string, manifests: readonly Manifest[]): string => {
  const folder = mkdtempSync(join(tmpdir(), 'mortise-manifests-'));
  try {
    symlinkSync(join(schemas, 'node_modules'), join(folder, 'node_modules'));
    const lines = manifests.map((manifest, at) => {
      const { kind } = manifest;
      return `import type { I${kind} as K${at} } from '${moduleOf(manifest)}';\nexport const m${at}: K${at} = ${JSON.stringify(manifest, null, 1)};`;
    });
    writeFileSync(join(folder, 'manifests.ts'), lines.join('\n'));
    const options = { strict: true, noEmit: true, module: 'esnext', moduleResolution: 'bundler', skipLibCheck: true };
    const compilerOptions = { ...options, target: 'es2022', types: [] };
    writeFileSync(join(folder, 'package.json'), '{"type":"module"}');
    writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: ['manifests.ts'] }));
    execFileSync(TSC, ['-p', folder], { encoding: 'utf8', timeout: PATIENCE_MS });
    return '';
  } catch (error) {
    const { stdout } = error as { stdout?: string };
    if (stdout === undefined || stdout === '') throw error;
    return stdout;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
};
