// Writes an OCI image, by the layout of the specification and without a daemon. Invariant: order, owners and times in the layers
// come from the contents and the build's time, so that the same packages of Debian give the same digest.
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import { debianArchitecture } from './debian.ts';
import { IMAGE_USER, type Layer, makeImageRoot } from './image-root.ts';
import { INSTALLED, NODE } from './programs.ts';
import type { Staged } from './stage.ts';

const run = promisify(execFile);
const compress = promisify(gzip);
const MOST_BYTES = 1024 ** 3;

const sha256 = (bytes: Buffer): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

interface Blob {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
}

/** Modes by kind, so that they do not depend on the umask of whoever builds. */
const settleModes = async ({ folder, owner }: Layer): Promise<void> => {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  for (const entry of entries) {
    const path = join(entry.parentPath, entry.name);
    const own = owner !== 0 && ['lib/mortise', 'lib/mortise-registry', 'run/mortise'].some((end) => path.endsWith(end));
    if (entry.isDirectory()) await chmod(path, own ? 0o700 : entry.name === 'tmp' ? 0o1777 : 0o755);
  }
};

const packLayer = async (layer: Layer, seconds: number): Promise<Buffer> => {
  await settleModes(layer);
  const { folder, owner } = layer;
  // Parents of a layer's own folders are there already, and root's.
  const names = owner === 0 ? ['.'] : ['./var/lib/mortise', './var/lib/mortise-registry', './run/mortise'];
  const who = [`--owner=${owner}`, `--group=${owner}`, '--numeric-owner'];
  const options = ['--create', '--sort=name', '--format=gnu', `--mtime=@${seconds}`, ...who, '-C', folder, ...names];
  const { stdout } = await run('tar', options, { encoding: 'buffer', maxBuffer: MOST_BYTES });
  return stdout;
};

const configuration = (version: string, created: string, diffIds: readonly string[]): object => ({
  created,
  architecture: debianArchitecture(),
  os: 'linux',
  config: {
    User: `${IMAGE_USER}:${IMAGE_USER}`,
    Env: ['PATH=/usr/sbin:/usr/bin:/sbin:/bin', 'NODE_COMPILE_CACHE=/var/lib/mortise/compile-cache'],
    Entrypoint: [NODE],
    Cmd: [`${INSTALLED}/agent/main.js`, 'serve'],
    WorkingDir: '/',
    Volumes: { '/var/lib/mortise': {}, '/run/mortise': {} },
    StopSignal: 'SIGTERM',
    Labels: {
      'org.opencontainers.image.title': 'mortise',
      'org.opencontainers.image.version': version,
      'org.opencontainers.image.licenses': 'Apache-2.0',
    },
  },
  rootfs: { type: 'layers', diff_ids: diffIds },
  history: ['Debian', 'Mortise', 'folders of its user'].map((comment) => ({ created, comment })),
});

export interface Image {
  readonly digest: string;
  /** The bill of materials, as it is in the image. */
  readonly bill: string;
}

/** Writes the image as an OCI layout into `out`, which must not be there. */
export const buildImage = async (staged: Staged, seconds: number, out: string): Promise<Image> => {
  const blobs = join(out, 'blobs/sha256');
  await mkdir(blobs, { recursive: true });
  const store = async (mediaType: string, bytes: Buffer): Promise<Blob> => {
    const digest = sha256(bytes);
    await writeFile(join(blobs, digest.slice('sha256:'.length)), bytes);
    return { mediaType, digest, size: bytes.length };
  };
  const storeJson = (mediaType: string, value: object): Promise<Blob> =>
    store(mediaType, Buffer.from(JSON.stringify(value)));
  const folder = await mkdtemp(join(tmpdir(), 'mortise-image-'));
  try {
    const { layers, bill } = await makeImageRoot(staged, seconds, folder);
    const diffIds: string[] = [];
    const stored: Blob[] = [];
    for (const layer of layers) {
      const tar = await packLayer(layer, seconds);
      diffIds.push(sha256(tar));
      stored.push(await store('application/vnd.oci.image.layer.v1.tar+gzip', await compress(tar, { level: 6 })));
    }
    const created = new Date(seconds * 1000).toISOString();
    const config = await storeJson(
      'application/vnd.oci.image.config.v1+json',
      configuration(staged.version, created, diffIds),
    );
    const mediaType = 'application/vnd.oci.image.manifest.v1+json';
    const manifest = await storeJson(mediaType, { schemaVersion: 2, mediaType, config, layers: stored });
    const annotations = { 'org.opencontainers.image.ref.name': staged.version };
    const index = { schemaVersion: 2, manifests: [{ ...manifest, annotations }] };
    await writeFile(join(out, 'index.json'), JSON.stringify(index));
    await writeFile(join(out, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
    return { digest: manifest.digest, bill };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
};

/** Unpacks an image as a container runtime does, lowest layer first. The image is ours: it has no deletions in it. */
export const unpackImage = async (image: string, root: string): Promise<void> => {
  const blob = (digest: string): string => join(image, 'blobs', digest.replace(':', '/'));
  const read = async (path: string) => JSON.parse(await readFile(path, 'utf8'));
  const { manifests } = (await read(join(image, 'index.json'))) as { manifests: Blob[] };
  const { layers } = (await read(blob((manifests[0] as Blob).digest))) as { layers: Blob[] };
  await mkdir(root, { recursive: true });
  for (const { digest } of layers) await run('tar', ['-xzpf', blob(digest), '--keep-directory-symlink', '-C', root]);
};
