// What else of the charts is a program: the init containers of the registry and of the DaemonSet, and the registry's own
// container, run for real with the users, mounts and rights that the manifests give them.
import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { atomicVolume, IMAGE, NODE, startContainer, type User, writableVolume } from '../helm/containers.ts';
import { type Container, environmentOf, type PodSpec, podOf } from '../helm/pods.ts';
import { openRenderer } from '../helm/render.ts';
import { makePolicyFolder, type PolicyFolder } from '../support/policy.ts';

const PATIENCE_MS = 60_000;
const skip = process.getuid?.() === 0 ? false : 'needs root, for users and namespaces';
const image = { repository: 'registry.example.com/mortise' };
const user: User = { uid: 65532, gid: 65532, groups: [65532] };
let folder: string;
let policy: PolicyFolder;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'mortise-pods-'));
  policy = await makePolicyFolder({ tenants: ['acme'] });
});
after(async () => {
  await policy?.remove();
  await rm(folder, { recursive: true, force: true });
});

const freePorts = async (count: number): Promise<readonly number[]> => {
  const servers = Array.from({ length: count }, () => createServer());
  const ports = servers.map(
    (server) =>
      new Promise<number>((resolve, reject) => {
        server.once('error', reject);
        server.listen(0, '127.0.0.1', () => resolve((server.address() as { port: number }).port));
      }),
  );
  const found = await Promise.all(ports);
  for (const server of servers) server.close();
  return found;
};

const containerOf = (pod: PodSpec, name: string): Container => {
  const found = [...(pod.initContainers ?? []), ...pod.containers].find((row) => row.name === name);
  assert.ok(found, `the pod has no ${name}`);
  return found;
};

test('the registry makes itself at the first start of its pod, serves, and is the same after the second', {
  skip,
}, async () => {
  const [port, metrics] = await freePorts(2);
  const values = {
    image,
    program: [NODE, `${IMAGE}/registry/main.ts`],
    authority: { init: { trustDomain: 'crypto.example.com', trustAnchor: { configMap: 'trust-anchor' } } },
    metrics: { port: metrics },
  };
  const manifests = await openRenderer().render('mortise-registry', values);
  const pod = manifests.map(podOf).find((row) => row !== undefined) as PodSpec;
  const volumes = join(folder, 'registry');
  for (const name of ['tmp', 'data', 'trust-anchor']) writableVolume(join(volumes, name), user.gid);
  const anchor = readFileSync(join(policy.dir, 'trust-anchor.json'));
  atomicVolume(join(volumes, 'trust-anchor'), { 'trust-anchor.json': anchor }, 0o644, user.gid);
  const run = (name: string) => {
    const container = containerOf(pod, name);
    // Pods have an address each; here all share one, so the port is another.
    const env = { ...environmentOf(container, 'registry-0'), REGISTRY_LISTEN_ADDRESS: `127.0.0.1:${port}` };
    return startContainer(container, { volumes, user, env });
  };
  const roots: string[] = [];
  for (let start = 0; start < 2; start += 1) {
    await using init = run('init');
    assert.equal(await init.exit(), 0, init.stderr);
    await using registry = run('registry');
    const until = Date.now() + PATIENCE_MS;
    for (let status: unknown; status !== 200; await sleep(50)) {
      status = await fetch(`http://127.0.0.1:${metrics}/readyz`).then((response) => response.status, String);
      if (status !== 200 && (registry.isOver || Date.now() > until)) throw new Error(`${status}: ${registry.stderr}`);
    }
    registry.signal('SIGTERM');
    assert.equal(await registry.exit(), 0, registry.stderr);
    roots.push(readFileSync(join(volumes, 'data/authority/root.pem'), 'utf8'));
  }
  assert.equal(roots[0], roots[1]);
  assert.equal(statSync(join(volumes, 'data/admin.token')).mode & 0o777, 0o600);
});

test('the init container of the DaemonSet makes the folders of the node those of the agent, with two capabilities', {
  skip,
}, async () => {
  const values = {
    image,
    program: [NODE, `${IMAGE}/agent/main.ts`],
    token: { library: '/usr/lib/softhsm/libsofthsm2.so', label: 'mortise', pin: { secret: 'pin' } },
    policy: { configMap: 'policy' },
    kms: { enabled: true, tenant: 'kubernetes', key: 'etcd' },
  };
  const manifests = await openRenderer().render('mortise-agent', values);
  const pod = manifests.map(podOf).find((row) => row !== undefined) as PodSpec;
  const prepare = containerOf(pod, 'prepare');
  const volumes = join(folder, 'node');
  const names = ['mortise-data', 'mortise-socket', 'mortise-kms'];
  for (const name of names) mkdirSync(join(volumes, name), { recursive: true, mode: 0o755 }); // DirectoryOrCreate
  const capabilities = prepare.securityContext?.capabilities?.add ?? [];
  const root = { uid: 0, gid: 0, groups: [] };
  await using done = startContainer(prepare, { volumes, user: root, env: {}, capabilities });
  assert.equal(await done.exit(), 0, done.stderr);
  const found = names.map((name) => {
    const { uid, gid, mode } = statSync(join(volumes, name));
    return [uid, gid, (mode & 0o777).toString(8)];
  });
  assert.deepEqual(found, [
    [65532, 65532, '700'],
    [65532, 65532, '755'],
    [65532, 65532, '755'],
  ]);
  assert.deepEqual(readdirSync(join(volumes, 'mortise-socket')), []);
});
