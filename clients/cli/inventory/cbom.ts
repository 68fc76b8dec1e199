// The inventory as a cryptography bill of materials: CycloneDX 1.6 (ECMA-424), assets of type `algorithm` and
// `related-crypto-material`. Invariant: it is written while it is read; what is kept is one row for each algorithm.
import { randomUUID } from 'node:crypto';
import { type AlgorithmRow, algorithm, type Purpose } from '../../../proto/documents/algorithms.ts';
import { kidOf } from '../../../proto/documents/key-record.ts';
import { jsonText } from '../output.ts';
import { programVersion } from '../version.ts';
import { type Certificate, certificateOfKeys, certificationLevel, type TokenEntry } from './certificates.ts';
import type { KeyEntry, VersionEntry } from './entries.ts';

export const CYCLONEDX_VERSION = '1.6';

const algorithmRef = (id: string, purpose: Purpose): string => `algorithm:${id}:${purpose}`;

/** SP 800-57 part 1 section 7.3; a revoked key is out of use, which does not say that it is compromised. */
const stateOf = (key: KeyEntry, version: VersionEntry): string => {
  if (key.state === 'DESTROYED' || version.state === 'DESTROYED') return 'destroyed';
  if (key.state === 'PRE_ACTIVE') return 'pre-activation';
  if (key.state === 'SUSPENDED') return 'suspended';
  return key.state === 'ACTIVE' && version.state === 'PRIMARY' ? 'active' : 'deactivated';
};

const isSymmetric = (row: AlgorithmRow | undefined): boolean =>
  row?.kinds.some((kind) => kind === 'aead' || kind === 'mac') === true;

const securedBy = ({ custody }: VersionEntry): Record<string, string> => {
  if (custody === 'hsm') return { mechanism: 'HSM' };
  const mechanism = custody === 'split' ? 'HSM, and software for the post-quantum half' : 'Software';
  return { mechanism, algorithmRef: algorithmRef('AES-256', 'encrypt') }; // the tenant's KEK in the token wraps it
};

const time = (date: Date | undefined): string | undefined => date?.toISOString();

type Property = { readonly name: string; readonly value: string };

const properties = (values: Readonly<Record<string, string | undefined>>): readonly Property[] =>
  Object.entries(values).flatMap(([name, value]) => (value === undefined ? [] : [{ name: `mortise:${name}`, value }]));

/** As the operator stated it, for what lives in the token. */
const certificateProperties = (certificate: Certificate | undefined): readonly Property[] =>
  certificate === undefined
    ? []
    : properties({
        certificate: certificate.identifier,
        certificateStandard: certificate.standard,
        certificateLevel: String(certificate.level),
        certificateStatus: certificate.status,
        certificateExpires: time(certificate.expireTime),
        certificateWarning: certificate.warning === '' ? undefined : certificate.warning,
      });

const propertiesOf = (key: KeyEntry, version: VersionEntry): readonly Property[] =>
  properties({
    purpose: key.purpose,
    keyState: key.state,
    versionState: version.state,
    custody: version.custody,
    origin: version.origin,
    jose: version.joseAlgorithm,
    uses: String(version.uses),
    lastApply: time(version.lastApplyTime),
    lastProcess: time(version.lastProcessTime),
    quantumRisk: version.quantumRisk,
    sunsetWarns: time(version.sunsetWarnTime),
    sunset: time(version.sunsetTime),
  });

const keyComponent = (key: KeyEntry, version: VersionEntry, certificate: Certificate | undefined): unknown => {
  const kid = kidOf(key.tenant, key.keyId, version.version);
  const row = algorithm(version.algorithm);
  return {
    type: 'cryptographic-asset',
    'bom-ref': `key:${kid}`,
    name: kid,
    cryptoProperties: {
      assetType: 'related-crypto-material',
      relatedCryptoMaterialProperties: {
        type: isSymmetric(row) ? 'secret-key' : 'private-key',
        id: kid,
        state: stateOf(key, version),
        algorithmRef: algorithmRef(version.algorithm, key.purpose),
        creationDate: time(version.createTime),
        activationDate: time(key.activationTime),
        updateDate: time(key.updateTime),
        expirationDate: version.state === 'PRIMARY' ? time(key.limits.hardExpiry) : undefined,
        securedBy: securedBy(version),
      },
    },
    properties: [
      ...propertiesOf(key, version),
      ...(version.custody === 'hsm' ? certificateProperties(certificate) : []),
    ],
  };
};

const primitiveOf = (row: AlgorithmRow | undefined, purpose: Purpose): string => {
  if (row === undefined) return 'unknown';
  if (row.components !== undefined) return 'combiner';
  if (purpose === 'mac') return 'mac';
  if (purpose === 'sign') return 'signature';
  if (row.kinds.includes('aead')) return 'ae';
  if (row.id.startsWith('RSA-')) return 'pke';
  return row.id.startsWith('ML-KEM-') ? 'kem' : 'key-agree';
};

const FUNCTIONS: Readonly<Record<Purpose, readonly string[]>> = {
  encrypt: ['keygen', 'encrypt', 'decrypt'],
  sign: ['keygen', 'sign', 'verify'],
  mac: ['keygen', 'tag'],
};

/** "768" of ML-KEM-768, "SHA2-128s" of SLH-DSA-SHA2-128s; curves are named by themselves. */
const parametersOf = (id: string): Record<string, string> => {
  const curve = /^EC-P(\d+)$/.exec(id);
  if (curve !== null) return { curve: `nist/P-${curve[1]}` };
  if (id === 'Ed25519' || id === 'X25519') return { curve: id };
  const set = /^(?:AES|RSA|HMAC|ML-KEM|ML-DSA|SLH-DSA|FN-DSA)-(.+)$/.exec(id);
  return set === null ? {} : { parameterSetIdentifier: set[1] as string };
};

/** `level`: of the module that does all of it; undefined where software does some, or nobody said. */
const algorithmComponent = ({ id, purpose }: Seen, level: string | undefined): unknown => {
  const row = algorithm(id);
  return {
    type: 'cryptographic-asset',
    'bom-ref': algorithmRef(id, purpose),
    name: id,
    cryptoProperties: {
      assetType: 'algorithm',
      algorithmProperties: {
        primitive: primitiveOf(row, purpose),
        ...parametersOf(id),
        cryptoFunctions: FUNCTIONS[purpose],
        ...(level !== undefined && { certificationLevel: [level] }),
        ...(row && { classicalSecurityLevel: row.securityBits, nistQuantumSecurityLevel: row.category }),
      },
    },
    properties: [
      ...(row === undefined ? [] : [{ name: 'mortise:status', value: row.status }]),
      ...(row?.fips ? [{ name: 'mortise:standard', value: row.fips }] : []),
    ],
  };
};

interface Seen {
  readonly id: string;
  readonly purpose: Purpose;
  /** Whether every version that uses it lives in the token. */
  inToken: boolean;
}

const tokenComponent = ({ name, label, serial, certificate }: TokenEntry): unknown => ({
  type: 'device',
  'bom-ref': `token:${name}`,
  name: label ?? name,
  properties: [...properties({ token: name, serial }), ...certificateProperties(certificate)],
});

/** Algorithms that were seen, and those that they are made of. */
class Algorithms {
  readonly seen = new Map<string, Seen>();

  add(id: string, purpose: Purpose, inToken: boolean): void {
    const ref = algorithmRef(id, purpose);
    const known = this.seen.get(ref);
    if (known === undefined) this.seen.set(ref, { id, purpose, inToken });
    else if (known.inToken && !inToken) known.inToken = false;
    else return;
    for (const half of this.halvesOf(id)) this.add(half, purpose, inToken);
  }

  halvesOf(id: string): readonly string[] {
    const { components } = algorithm(id) ?? {};
    return components === undefined ? [] : [components.classical, components.pqc];
  }

  dependencies(): readonly unknown[] {
    return [...this.seen].map(([ref, { id, purpose }]) => ({
      ref,
      dependsOn: this.halvesOf(id).map((half) => algorithmRef(half, purpose)),
    }));
  }
}

const headOf = (tenant: string, now: Date): string => {
  const head = {
    $schema: `http://cyclonedx.org/schema/bom-${CYCLONEDX_VERSION}.schema.json`,
    bomFormat: 'CycloneDX',
    specVersion: CYCLONEDX_VERSION,
    serialNumber: `urn:uuid:${randomUUID()}`,
    version: 1,
    metadata: {
      timestamp: now.toISOString(),
      lifecycles: [{ phase: 'operations' }],
      tools: { components: [{ type: 'application', name: 'mortise', version: programVersion() }] },
      component: { type: 'application', 'bom-ref': `tenant:${tenant}`, name: `keys of tenant ${tenant}` },
    },
  };
  return jsonText(head).trimEnd().replace(/\n\}$/, ',\n  "components": [');
};

export async function* cbomOf(
  keys: AsyncIterable<KeyEntry>,
  about: { readonly tenant: string; readonly now: Date; readonly tokens?: readonly TokenEntry[] },
): AsyncGenerator<string> {
  const { tenant, now, tokens = [] } = about;
  const certificate = certificateOfKeys(tokens);
  const algorithms = new Algorithms();
  let separator = '';
  const next = (component: unknown): string => {
    const text = `${separator}\n${jsonText(component).trimEnd()}`;
    separator = ',';
    return text;
  };
  yield headOf(tenant, now);
  for await (const key of keys) {
    for (const version of key.versions) {
      algorithms.add(version.algorithm, key.purpose, version.custody === 'hsm');
      if (version.custody !== 'hsm') algorithms.add('AES-256', 'encrypt', true);
      yield next(keyComponent(key, version, certificate));
    }
  }
  const level = certificate && certificationLevel(certificate, now);
  for (const seen of algorithms.seen.values()) yield next(algorithmComponent(seen, seen.inToken ? level : undefined));
  for (const token of tokens) yield next(tokenComponent(token));
  yield `\n],\n"dependencies": ${jsonText(algorithms.dependencies()).trimEnd()}\n}\n`;
}
