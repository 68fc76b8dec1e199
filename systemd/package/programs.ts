// What is bundled: each program's first source file, and where its one file lies below /usr/lib/mortise. Invariant: a
// program that starts another (a process or a worker thread) finds it by this table.

/** A Debian package of ours, and the folder's part that it holds. */
export type Part = 'agent' | 'registry' | 'cli';

export interface Program {
  readonly entry: string;
  readonly output: string;
  readonly part: Part;
}

export const PROGRAMS: readonly Program[] = [
  { part: 'agent', entry: 'agent/main.ts', output: 'agent/main.js' },
  { part: 'agent', entry: 'agent/token/process/main.ts', output: 'agent/token-process.js' },
  { part: 'agent', entry: 'agent/token/process/worker.ts', output: 'agent/token-worker.js' },
  { part: 'agent', entry: 'agent/crypto/post-quantum/worker.ts', output: 'agent/post-quantum-worker.js' },
  { part: 'registry', entry: 'registry/main.ts', output: 'registry/main.js' },
  { part: 'cli', entry: 'clients/cli/main.ts', output: 'cli/main.js' },
];

/** Files that programs read, by where the sources have them. */
export const SHARED_FILES: Readonly<Record<string, string>> = {
  'package.json': 'package.json', // the version
  'proto/gen/descriptors.binpb': 'descriptors.binpb', // for the reflection service
  'proto/gen/registry-descriptors.binpb': 'registry-descriptors.binpb',
  'node_modules/grpc-health-check/proto/health/v1/health.proto': 'proto/health/v1/health.proto',
  'node_modules/@grpc/reflection/build/proto/grpc/reflection/v1/reflection.proto':
    'proto/grpc/reflection/v1/reflection.proto',
  'node_modules/@grpc/reflection/build/proto/grpc/reflection/v1alpha/reflection.proto':
    'proto/grpc/reflection/v1alpha/reflection.proto',
};

/** Where a file of the sources is found from a bundle: programs and shared files. */
export const placeOf = (source: string): string | undefined =>
  SHARED_FILES[source] ?? PROGRAMS.find(({ entry }) => entry === source)?.output;

/** Where everything lies on a host. */
export const INSTALLED = '/usr/lib/mortise';
/** The pinned Node, so that every program starts under it whatever the host has. */
export const NODE = `${INSTALLED}/bin/node`;
