// Who may import whom. Anything not listed is forbidden. The test fails if it scanned nothing.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize, relative } from 'node:path';
import { test } from 'node:test';

const ROOT = join(import.meta.dirname, '..');
const REGISTRY_LEAVES = [
  'registry/errors.ts',
  'registry/actor.ts',
  'agent/clock.ts',
  'agent/lifecycle.ts',
  'registry/wakeup.ts',
];
const AGENT_LEAVES = ['agent/errors.ts', 'agent/clock.ts', 'agent/deadlines.ts', 'agent/lifecycle.ts'];

/** folder or file (the longest match counts) → what it may import, besides its own folder. */
const ALLOWED: Record<string, readonly string[]> = {
  'proto/documents': [],
  'agent/errors.ts': [],
  'agent/clock.ts': [],
  'agent/deadlines.ts': ['agent/clock.ts'],
  'agent/lifecycle.ts': [],
  'agent/systemd.ts': [],
  'agent/hardening.ts': [],
  'agent/garbage.ts': [],
  'agent/resident.ts': [],
  // Which variables vendors' libraries know is the token room's table.
  'agent/config': [...AGENT_LEAVES, 'agent/token/environment.ts', 'proto/documents'],
  'agent/telemetry': AGENT_LEAVES,
  'agent/identity': [...AGENT_LEAVES, 'agent/telemetry', 'proto/documents'],
  'agent/policy': [...AGENT_LEAVES, 'agent/telemetry', 'proto/documents'],
  'agent/keys': [...AGENT_LEAVES, 'agent/telemetry', 'proto/documents'],
  'agent/crypto': [...AGENT_LEAVES, 'agent/telemetry', 'proto/documents'],
  'agent/token': [...AGENT_LEAVES, 'agent/resident.ts', 'agent/telemetry', 'proto/documents'],
  'agent/audit': [...AGENT_LEAVES, 'agent/telemetry', 'proto/documents'],
  // The use cases see the rooms through ports/; crypto is a library of pure formats.
  'agent/operations': [...AGENT_LEAVES, 'agent/telemetry', 'agent/crypto', 'proto/documents'],
  'agent/server': [...AGENT_LEAVES, 'agent/telemetry', 'agent/operations', 'agent/identity', 'proto'],
  'agent/assembly': ['agent', 'proto/documents'],
  'agent/agent.ts': ['agent', 'proto'],
  'agent/commands': ['agent', 'proto/documents'],
  'agent/doctor.ts': ['agent', 'proto/documents'],
  'agent/doctor': ['agent', 'proto/documents'],
  'agent/main.ts': ['agent/commands', 'agent/doctor.ts', 'agent/config', ...AGENT_LEAVES],
  'registry/errors.ts': [],
  'registry/actor.ts': [],
  'registry/wakeup.ts': [],
  'registry/config': [...REGISTRY_LEAVES, 'agent/config/settings.ts', 'proto/documents'],
  // What both programs need alike is the agent's.
  'registry/telemetry': [...REGISTRY_LEAVES, 'agent/telemetry'],
  // The store is what the rooms say that they need, in their store.ts.
  'registry/store': [
    ...REGISTRY_LEAVES,
    'registry/hosts/store.ts',
    'registry/policies/store.ts',
    'registry/catalog/store.ts',
    'registry/ledger/store.ts',
    'registry/sessions/store.ts',
    'proto/documents',
  ],
  'registry/hosts': [...REGISTRY_LEAVES, 'registry/telemetry', 'proto/documents'],
  'registry/policies': [...REGISTRY_LEAVES, 'registry/telemetry', 'proto/documents'],
  'registry/catalog': [...REGISTRY_LEAVES, 'registry/telemetry', 'agent/keys/succession.ts', 'proto/documents'],
  'registry/sessions': [...REGISTRY_LEAVES, 'registry/telemetry', 'proto/documents'],
  'registry/ledger': [...REGISTRY_LEAVES, 'registry/telemetry', 'proto/documents'],
  // The services see the rooms through the interfaces that they declare; registry.ts joins them.
  'registry/server': [
    ...REGISTRY_LEAVES,
    'registry/telemetry',
    'agent/server/health.ts',
    'agent/server/reflection.ts',
    'agent/server/status.ts',
    'proto',
  ],
  'registry/assembly': [...REGISTRY_LEAVES, 'registry', 'agent/config/secret-file.ts', 'proto'],
  'registry/registry.ts': [...REGISTRY_LEAVES, 'registry', 'proto'],
  'registry/commands': [
    ...REGISTRY_LEAVES,
    'registry',
    'agent/config/secret-file.ts',
    'agent/telemetry',
    'agent/systemd.ts',
    'proto/documents',
  ],
  'registry/main.ts': ['registry/commands', 'registry/config', ...REGISTRY_LEAVES],
  // The chunks of streams are made by one code, whoever works on them, and receipts verified by one.
  'clients/typescript': ['proto/gen', 'proto/documents/chunked', 'proto/documents/receipt.ts'],
  'clients/conformance': ['clients/typescript'],
  'clients/cli': ['clients/typescript', 'proto/gen', 'proto/documents'],
  'agent/uplink': [...AGENT_LEAVES, 'agent/telemetry', 'proto'],
  // Makes packages out of the rest, and runs none of it.
  'systemd/package': [],
  test: ['agent', 'registry', 'proto', 'clients', 'systemd'],
};

/** Packages and built-ins that have one owner. */
const ONE_OWNER: Record<string, readonly string[]> = {
  pkcs11js: ['agent/token/process', 'test'],
  lmdb: ['agent/audit', 'agent/keys', 'agent/policy', 'agent/identity', 'agent/uplink', 'registry/store', 'test'],
  pg: ['registry/store', 'test'],
  pino: ['agent/telemetry'],
  'prom-client': ['agent/telemetry', 'registry/telemetry'],
  envalid: ['agent/config', 'registry/config'],
  koffi: ['agent/server', 'agent/token/process', 'agent/systemd.ts', 'agent/hardening.ts', 'agent/resident.ts', 'test'],
  '@grpc/grpc-js': ['agent/server', 'agent/uplink', 'registry/server', 'clients', 'proto/gen', 'test'],
  commander: ['clients/cli'],
  '@noble/post-quantum': ['agent/crypto', 'test'],
};

const sources = (folder: string): string[] =>
  readdirSync(join(ROOT, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.ts') && !entry.name.endsWith('.d.ts'))
    .map((entry) => relative(ROOT, join(entry.parentPath, entry.name)))
    .filter((file) => !/node_modules|\/dist\/|^proto\/gen\//.test(file));

const files = ['agent', 'registry', 'proto', 'clients', 'systemd', 'test'].flatMap(sources);
const under = (file: string, place: string): boolean => file === place || file.startsWith(`${place}/`);
const longest = (file: string, places: readonly string[]): string | undefined =>
  places.filter((place) => under(file, place)).sort((a, b) => b.length - a.length)[0];

const imports = (file: string): string[] =>
  [...readFileSync(join(ROOT, file), 'utf8').matchAll(/(?:\bfrom|\bimport\(|^import)\s*['"]([^'"]+)['"]/gm)].map(
    (match) => match[1] as string,
  );

test('every import is in the table', () => {
  assert.ok(files.length > 10, `scanned only ${files.length} files`);
  const wrong: string[] = [];
  let seen = 0;
  for (const file of files) {
    const place = longest(file, Object.keys(ALLOWED));
    if (place === undefined) {
      wrong.push(`${file} is in no room of the table`);
      continue;
    }
    for (const name of imports(file)) {
      if (!name.startsWith('.')) continue;
      seen += 1;
      const target = normalize(join(dirname(file), name));
      if (!target.endsWith('.ts')) wrong.push(`${file}: import "${name}" lacks its .ts`);
      if (under(target, place) && !place.endsWith('.ts')) continue;
      if (!(ALLOWED[place] ?? []).some((ok) => under(target, ok))) wrong.push(`${file} imports ${target}`);
    }
  }
  assert.ok(seen > 10, `saw only ${seen} imports`);
  assert.deepEqual(wrong, []);
});

test('heavy packages have one owner', () => {
  const wrong: string[] = [];
  const used = new Set<string>();
  for (const file of files) {
    for (const name of imports(file)) {
      const owners = ONE_OWNER[name];
      if (owners === undefined) continue;
      used.add(name);
      if (!owners.some((owner) => under(file, owner))) wrong.push(`${file} imports ${name}`);
    }
  }
  assert.deepEqual(wrong, []);
  assert.ok(used.has('pkcs11js') && used.has('lmdb') && used.has('@grpc/grpc-js'), `scanned only ${[...used]}`);
});

test('proto/documents uses only built-in modules', () => {
  const wrong = files
    .filter((file) => under(file, 'proto/documents'))
    .flatMap((file) => imports(file).map((name) => [file, name] as const))
    .filter(([, name]) => !name.startsWith('.') && name !== 'node:crypto');
  assert.deepEqual(wrong, []);
});

test('process.env is read only in config and at the edges', () => {
  const wrong = files.filter(
    (file) =>
      ![
        'agent/config',
        'agent/token/process',
        'registry/config',
        'clients/cli',
        'clients/typescript/discovery.ts',
        'test',
      ].some((ok) => under(file, ok)) && /process\.env\b/.test(readFileSync(join(ROOT, file), 'utf8')),
  );
  assert.deepEqual(wrong, []);
});
