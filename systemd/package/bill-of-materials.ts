// What is in a package or an image, as CycloneDX 1.6. Invariant: the serial number and the time come from the contents and
// the build's time, so that the same build has the same bill.
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

const ROOT = join(import.meta.dirname, '../..');

interface Locked {
  readonly version: string;
  readonly integrity?: string;
  readonly license?: string;
}

export interface DebianPackage {
  readonly name: string;
  readonly version: string;
  readonly architecture: string;
  readonly sha256: string;
}

const npmComponents = async (names: readonly string[]): Promise<object[]> => {
  const { packages } = JSON.parse(await readFile(join(ROOT, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, Locked>;
  };
  return [...new Set(names)].sort().map((name) => {
    const locked = packages[`node_modules/${name}`];
    if (locked === undefined) throw new Error(`${name} is bundled and not in package-lock.json`);
    const purl = `pkg:npm/${name.replace('@', '%40')}@${locked.version}`;
    const digest = locked.integrity?.startsWith('sha512-')
      ? Buffer.from(locked.integrity.slice('sha512-'.length), 'base64').toString('hex')
      : undefined;
    return {
      type: 'library',
      'bom-ref': purl,
      name,
      version: locked.version,
      purl,
      ...(digest && { hashes: [{ alg: 'SHA-512', content: digest }] }),
      ...(locked.license && { licenses: [{ expression: locked.license }] }),
    };
  });
};

const debianComponents = (packages: readonly DebianPackage[]): object[] =>
  packages.map(({ name, version, architecture, sha256 }) => {
    const purl = `pkg:deb/debian/${name}@${encodeURIComponent(version)}?arch=${architecture}`;
    return { type: 'library', 'bom-ref': purl, name, version, purl, hashes: [{ alg: 'SHA-256', content: sha256 }] };
  });

export interface BillOptions {
  readonly name: string;
  readonly version: string;
  readonly type: 'application' | 'container';
  readonly seconds: number;
  /** Names of npm packages, as they are in package-lock.json. */
  readonly npm: readonly string[];
  readonly debian?: readonly DebianPackage[];
}

/** The bill as JSON text. */
export const billOfMaterials = async (options: BillOptions): Promise<string> => {
  const { name, version, type, seconds, npm, debian = [] } = options;
  const components = [...(await npmComponents(npm)), ...debianComponents(debian)];
  const digest = createHash('sha256')
    .update(JSON.stringify([name, version, components]))
    .digest('hex');
  const uuid = `${digest.slice(0, 8)}-${digest.slice(8, 12)}-4${digest.slice(13, 16)}-8${digest.slice(17, 20)}-${digest.slice(20, 32)}`;
  const bill = {
    bomFormat: 'CycloneDX',
    specVersion: '1.6',
    serialNumber: `urn:uuid:${uuid}`,
    version: 1,
    metadata: {
      timestamp: new Date(seconds * 1000).toISOString(),
      component: { type, 'bom-ref': name, name, version, licenses: [{ license: { id: 'Apache-2.0' } }] },
    },
    components,
  };
  return `${JSON.stringify(bill, null, 1)}\n`;
};
