// Lays out /usr/lib/mortise in a folder, whole: what the packages and the image are made of.
import { chmod, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { bundlePrograms } from './bundle.ts';
import type { Part } from './programs.ts';
import { copyRuntime, copyTokenBinding, projectVersion } from './runtime.ts';

export interface Staged {
  /** Stands for /usr/lib/mortise. */
  readonly folder: string;
  readonly version: string;
  /** The npm packages whose code is in each part. */
  readonly contents: Readonly<Record<Part | 'runtime', readonly string[]>>;
}

/** `folder` is made; it must not be there with other things in it. */
export const stage = async (folder: string): Promise<Staged> => {
  await mkdir(folder, { recursive: true });
  const version = await projectVersion();
  const bundled = await bundlePrograms(folder);
  const names = (part: Part): string[] => [...(bundled.get(part) ?? [])].sort();
  const runtime = await copyRuntime(folder, version);
  const binding = await copyTokenBinding(folder);
  await chmod(join(folder, 'bin/node'), 0o755);
  return {
    folder,
    version,
    contents: {
      runtime: [...runtime].sort(),
      agent: [...names('agent'), ...binding].sort(),
      registry: names('registry'),
      cli: names('cli'),
    },
  };
};
