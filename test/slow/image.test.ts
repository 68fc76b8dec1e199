// The OCI image: unpacked as a runtime does, and run as its user in namespaces with a root that is read-only.
import assert from 'node:assert/strict';
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { mkdir, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { buildImage, type Image, unpackImage } from '../../systemd/package/image.ts';
import { IMAGE_USER } from '../../systemd/package/image-root.ts';
import { stage } from '../../systemd/package/stage.ts';
import { clientOf } from '../e2e/load.ts';
import { makeAgentPolicy, makeIssuer } from '../support/agent.ts';
import { cycloneDxFaults } from '../support/cyclonedx.ts';
import { makeSoftHsm } from '../support/softhsm.ts';

const EPOCH = 1_800_000_000;
const PATIENCE_MS = 60_000;
const present = (program: string): boolean => spawnSync(program, ['--version'], { stdio: 'ignore' }).status === 0;
const skip = !present('apt-get')
  ? 'needs apt-get, for the libraries of Debian'
  : !present('bwrap')
    ? 'needs bwrap (Debian package bubblewrap)'
    : process.getuid?.() === 0
      ? false
      : 'needs to be root, so that files keep their owners';
let folder: string;
let image: Image;
let root: string;

interface ImageConfig {
  readonly config: {
    readonly User: string;
    readonly Env: readonly string[];
    readonly Entrypoint: readonly string[];
    readonly Cmd: readonly string[];
  };
}

const blob = async (digest: string): Promise<Buffer> => readFile(join(folder, 'image/blobs', digest.replace(':', '/')));

const configuration = async (): Promise<ImageConfig['config']> => {
  const manifest = JSON.parse(String(await blob(image.digest))) as { config: { digest: string } };
  return (JSON.parse(String(await blob(manifest.config.digest))) as ImageConfig).config;
};

/** Arguments of bubblewrap: the image's root, read-only, as its user, without capabilities. */
const inside = (env: readonly string[], mounts: readonly string[]): string[] => {
  const variables = env.flatMap((text) => ['--setenv', ...text.split(/=(.*)/s).slice(0, 2)]);
  const user = ['--unshare-user', '--uid', String(IMAGE_USER), '--gid', String(IMAGE_USER), '--cap-drop', 'ALL'];
  const system = ['--ro-bind', root, '/', '--proc', '/proc', '--dev', '/dev', '--tmpfs', '/tmp'];
  return ['--unshare-pid', '--die-with-parent', '--clearenv', ...user, ...system, ...mounts, ...variables];
};

before(
  async () => {
    if (skip !== false) return;
    folder = join(tmpdir(), `mortise-image-${randomUUID()}`); // buildah makes a name of it, and takes no capital letters
    await mkdir(folder, { mode: 0o700 });
    image = await buildImage(await stage(join(folder, 'mortise')), EPOCH, join(folder, 'image'));
    root = join(folder, 'root');
    await unpackImage(join(folder, 'image'), root);
  },
  { timeout: 10 * 60_000 },
);
after(async () => {
  if (folder !== undefined) await rm(folder, { recursive: true, force: true });
});

test('every blob is what its name says', { skip }, async () => {
  execFileSync('sh', ['-euc', 'for file in *; do echo "$file  $file"; done | sha256sum --check --quiet'], {
    cwd: join(folder, 'image/blobs/sha256'),
  });
});

test('it has no shell, no setuid program, and a user of its own', { skip }, async () => {
  assert.equal((await configuration()).User, `${IMAGE_USER}:${IMAGE_USER}`);
  assert.equal(execFileSync('find', [root, '-perm', '/6000', '-type', 'f'], { encoding: 'utf8' }), '');
  assert.equal(execFileSync('find', ['-L', join(root, 'bin'), '-name', '*sh'], { encoding: 'utf8' }), '');
  assert.equal((await stat(join(root, 'var/lib/mortise'))).uid, IMAGE_USER);
});

test('the bill of materials is in it, valid, and names Node, bundled packages and libraries of Debian', {
  skip,
}, () => {
  const bill = JSON.parse(readFileSync(join(root, 'usr/share/doc/mortise/sbom.cdx.json'), 'utf8'));
  assert.deepEqual(cycloneDxFaults(bill), []);
  const names = (bill as { components: { name: string }[] }).components.map(({ name }) => name);
  for (const name of ['node', 'lmdb', 'pkcs11js', '@grpc/grpc-js', 'pg', 'commander', 'libc6', 'ca-certificates']) {
    assert.ok(names.includes(name), name);
  }
});

test('as its user, with a read-only root, the agent serves', { skip }, async () => {
  const { config } = { config: await configuration() };
  const token = await makeSoftHsm();
  const issuer = makeIssuer();
  const policy = await makeAgentPolicy(issuer, { tenants: ['acme'] });
  const volumes = ['data', 'run'].map((name) => join(folder, name)) as [string, string];
  for (const path of volumes) await mkdir(path, { mode: 0o700 });
  const softhsm = join(token.pinFile, '..');
  const mounts = [
    ...['--bind', volumes[0], '/var/lib/mortise', '--bind', volumes[1], '/run/mortise'],
    ...['--ro-bind', policy.dir, '/etc/mortise/policy', '--bind', softhsm, softhsm],
    ...['--ro-bind', token.library, '/tmp/libsofthsm2.so'],
  ];
  const env = [
    ...config.Env,
    ...Object.entries(token.env).map(([name, value]) => `${name}=${value}`),
    'PKCS11_LIBRARY_PATH=/tmp/libsofthsm2.so',
    `PKCS11_TOKEN_LABEL=${token.label}`,
    `PKCS11_PIN_FILE=${token.pinFile}`,
    'MORTISE_HOST_ID=image',
  ];
  const started = spawn('bwrap', [...inside(env, mounts), ...config.Entrypoint, ...config.Cmd], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const ended = once(started, 'exit');
  let said = '';
  for (const stream of [started.stdout, started.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      said += text;
    });
  }
  try {
    const until = performance.now() + PATIENCE_MS;
    while (!said.includes('agent is READY')) {
      if (performance.now() > until || started.exitCode !== null) throw new Error(`it does not serve:\n${said}`);
      await sleep(50);
    }
    using client = clientOf({ socket: join(volumes[1], 'agent.sock'), issuer }, 'acme');
    await client.keys.create({ keyId: 'orders', purpose: 'sign', algorithm: 'EC-P256' });
    const { jws } = await client.sign('orders', { message: Buffer.from('iron, 40 t') });
    assert.equal((await client.verify({ jws })).valid, true);
    assert.doesNotMatch(said, /runs as root/);
  } finally {
    started.kill('SIGKILL');
    await ended;
    await token.dispose();
    await policy.remove();
  }
});

test('nothing of the root can be written to', { skip }, async () => {
  const { Env, Entrypoint } = await configuration();
  const script = `
    const { writeFileSync } = require('node:fs');
    const codes = ['/usr/lib/mortise/agent/main.js', '/etc/passwd', '/new'].map((path) => {
      try { writeFileSync(path, ''); return 'written'; } catch (error) { return error.code; }
    });
    console.log(JSON.stringify([process.getuid(), ...codes]));`;
  const output = execFileSync('bwrap', [...inside(Env, []), ...Entrypoint, '--eval', script], { timeout: PATIENCE_MS });
  assert.deepEqual(JSON.parse(String(output)), [IMAGE_USER, 'EROFS', 'EROFS', 'EROFS']);
});

test('a second build has the same digest', { skip }, async () => {
  const again = await buildImage(await stage(join(folder, 'again')), EPOCH, join(folder, 'image-again'));
  assert.equal(again.digest, image.digest);
  assert.equal(again.bill, image.bill);
});

const buildah = present('buildah') ? skip : 'needs buildah, to be told by it that the image is one';
test('buildah takes the image', { skip: buildah }, () => {
  const store = join(folder, 'store');
  const options = ['--root', join(store, 'root'), '--runroot', join(store, 'run'), '--storage-driver', 'vfs'];
  const pull = ['pull', '--quiet', `oci:${join(folder, 'image')}`];
  const pulled = execFileSync('buildah', [...options, ...pull], { encoding: 'utf8', timeout: 5 * PATIENCE_MS });
  const format = ['inspect', '--type', 'image', '--format', '{{.OCIv1.Config.User}}', pulled.trim()];
  const user = execFileSync('buildah', [...options, ...format], { encoding: 'utf8', timeout: PATIENCE_MS });
  assert.equal(user.trim(), `${IMAGE_USER}:${IMAGE_USER}`);
});
