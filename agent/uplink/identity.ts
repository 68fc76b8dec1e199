// Who this host is to the registry, in one folder: `identity.pem` (private key and certificates), `roots.pem` (what the
// registry's own certificate must chain to) and `registry.json` (what was pinned with them). A certificate of another
// authority stands in two files of its own. Invariant: a file is replaced whole or not at all, and nothing is used that
// does not fit together: the key its certificate, the certificate this host.
import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject, X509Certificate } from 'node:crypto';
import { existsSync } from 'node:fs';
import { chmod, mkdir, open, readFile, rename, stat, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { AgentError } from '../errors.ts';

export interface IdentityFiles {
  readonly dir: string;
  readonly host: string;
  /** Where the host brings its own certificate. */
  readonly brought: { readonly certificateFile: string; readonly keyFile: string } | undefined;
}

/** What was pinned when the host was enrolled. */
export interface Pinned {
  readonly trustDomain: string;
  /** Public JWK that MAC keys are sealed to. */
  readonly sealingJwk: string;
  /** Verifier key of the registry's countersignatures. */
  readonly cosigner: string;
  /** Tenants that the host may serve, as the registry last said. */
  readonly tenants: readonly string[];
}

export interface Identity extends Pinned {
  /** PEM. */
  readonly key: string;
  readonly chain: string;
  readonly roots: readonly string[];
  /** Milliseconds since 1970; no time to renew where the certificate is another authority's. */
  readonly renewAt: number | undefined;
  readonly expireAt: number;
}

const CREDENTIALS_FILE = 'registry.json';
const IDENTITY_FILE = 'identity.pem';
const SCHEMA = 'mortise.registry-credentials/v1';
const MAX_FILE_BYTES = 1024 * 1024;
const OTHERS = 0o077;
const PEM_CERTIFICATES = /-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g;
const PEM_KEY = /-----BEGIN (?:EC |RSA )?PRIVATE KEY-----[\s\S]*?-----END (?:EC |RSA )?PRIVATE KEY-----/;

const unusable = (message: string, cause?: unknown): AgentError =>
  new AgentError('REGISTRY_UNAVAILABLE', {
    message: `the credentials for the registry cannot be used: ${message}`,
    ...(cause !== undefined && { cause }),
  });

const readText = async (path: string, isSecret: boolean): Promise<string> => {
  try {
    const { size, mode, uid } = await stat(path);
    if (size > MAX_FILE_BYTES) throw unusable(`${path} is larger than ${MAX_FILE_BYTES} bytes`);
    // A file of root may be readable by a group, as Kubernetes and systemd hand out secrets.
    const others = uid === 0 ? OTHERS & 0o007 : OTHERS;
    if (isSecret && (mode & others) !== 0) throw unusable(`others than the agent can read ${path}; chmod 0400 it`);
    return await readFile(path, 'utf8');
  } catch (cause) {
    if (cause instanceof AgentError) throw cause;
    const { code } = cause as NodeJS.ErrnoException;
    throw unusable(
      code === 'ENOENT' ? `there is no ${path}; enrol this host (agent enrol)` : `${path}: ${code}`,
      cause,
    );
  }
};

/** Whole or not at all, and on the disk when it resolves. */
const writeWhole = async (path: string, text: string): Promise<void> => {
  const beside = `${path}.new`;
  {
    await using file = await open(beside, 'w', 0o600);
    await file.chmod(0o600);
    await file.writeFile(text);
    await file.sync();
  }
  await rename(beside, path);
};

export const certificatesIn = (pem: string): readonly string[] => pem.match(PEM_CERTIFICATES) ?? [];

export const pemOf = (der: Uint8Array): string => new X509Certificate(Buffer.from(der)).toString();

/** The id in `spiffe://<trust domain>/mortise/host/<host>`, with its trust domain. */
const spiffeHost = (certificate: X509Certificate): { trustDomain: string; host: string } | undefined => {
  const found = /URI:spiffe:\/\/([A-Za-z0-9._-]+)\/mortise\/host\/([A-Za-z0-9._-]+)(?:,|$)/.exec(
    certificate.subjectAltName ?? '',
  );
  return found === null ? undefined : { trustDomain: found[1] as string, host: found[2] as string };
};

const parsePinned = (text: string, path: string): Pinned & { renewAt?: number } => {
  let value: Record<string, unknown>;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw unusable(`${path} is not JSON`, cause);
  }
  const { schema, trustDomain, sealingJwk, cosigner, renewAt, tenants = [] } = value;
  const areTexts = (members: unknown): members is string[] =>
    Array.isArray(members) && members.every((member) => typeof member === 'string');
  if (schema !== SCHEMA || !areTexts([trustDomain, sealingJwk, cosigner]) || !areTexts(tenants))
    throw unusable(`${path} is not of the schema ${SCHEMA}`);
  return {
    trustDomain: trustDomain as string,
    sealingJwk: sealingJwk as string,
    cosigner: cosigner as string,
    tenants,
    ...(typeof renewAt === 'number' && { renewAt }),
  };
};

const readPair = async ({ dir, brought }: IdentityFiles): Promise<{ key: string; chain: readonly string[] }> => {
  const text =
    brought === undefined
      ? await readText(join(dir, IDENTITY_FILE), true)
      : `${await readText(brought.keyFile, true)}\n${await readText(brought.certificateFile, false)}`;
  const key = PEM_KEY.exec(text)?.[0];
  const chain = certificatesIn(text);
  if (key === undefined || chain.length === 0) throw unusable('there is no private key with its certificate');
  return { key, chain };
};

/** Reads and checks everything. Rejects with REGISTRY_UNAVAILABLE and words that say what to do. */
export const readIdentity = async (files: IdentityFiles): Promise<Identity> => {
  const { dir, host, brought } = files;
  const { key, chain } = await readPair(files);
  const roots = certificatesIn(await readText(join(dir, 'roots.pem'), false));
  if (roots.length === 0) throw unusable(`there is no certificate in ${join(dir, 'roots.pem')}`);
  const { renewAt, ...pinned } = parsePinned(await readText(join(dir, CREDENTIALS_FILE), false), 'registry.json');
  let certificate: X509Certificate;
  try {
    certificate = new X509Certificate(chain[0] as string);
    if (!certificate.checkPrivateKey(createPrivateKey(key))) throw new Error('the key is not the certificate’s');
  } catch (cause) {
    throw unusable('private key and certificate do not fit together', cause);
  }
  const named = spiffeHost(certificate);
  if (named?.host !== host) {
    throw unusable(`the certificate is that of ${named?.host ?? 'no host'}, and this is ${host} (MORTISE_HOST_ID)`);
  }
  if (named.trustDomain !== pinned.trustDomain) throw unusable('the certificate is of another trust domain');
  return {
    ...pinned,
    key,
    chain: chain.join('\n'),
    roots,
    renewAt: brought === undefined ? renewAt : undefined,
    expireAt: Date.parse(certificate.validTo),
  };
};

export interface Issued extends Pinned {
  readonly key: string;
  readonly chain: readonly string[];
  readonly roots: readonly string[];
  readonly renewAt: number;
}

/** Whether an enrolment has stored all that it brings; without a private key where the host has its own. */
export const isEnrolled = ({ dir, brought }: Pick<IdentityFiles, 'dir' | 'brought'>): boolean =>
  existsSync(join(dir, CREDENTIALS_FILE)) && (brought !== undefined || existsSync(join(dir, IDENTITY_FILE)));

/** Stores what an enrolment or a renewal brought; the identity last, so that it is never without what belongs to it. */
export const writeIdentity = async (dir: string, issued: Issued): Promise<void> => {
  const { key, chain, roots, trustDomain, sealingJwk, cosigner, tenants, renewAt } = issued;
  await mkdir(dir, { recursive: true, mode: 0o700 });
  await chmod(dir, 0o700);
  await writeWhole(join(dir, 'roots.pem'), roots.join('\n'));
  const pinned = { schema: SCHEMA, trustDomain, sealingJwk, cosigner, tenants, renewAt };
  await writeWhole(join(dir, CREDENTIALS_FILE), `${JSON.stringify(pinned, null, 2)}\n`);
  await writeWhole(join(dir, IDENTITY_FILE), `${key}\n${chain.join('\n')}\n`);
};

/** The tenants as a file of this host has them, for a start without the registry; none where there is no such file. */
export const rememberedTenants = async (dir: string): Promise<readonly string[]> => {
  try {
    return parsePinned(await readText(join(dir, CREDENTIALS_FILE), false), 'registry.json').tenants;
  } catch {
    return []; // not enrolled yet, which the uplink says
  }
};

/** Keeps the tenants that the registry has named, for the next start. */
export const rememberTenants = async (dir: string, tenants: readonly string[]): Promise<void> => {
  const path = join(dir, CREDENTIALS_FILE);
  const known = JSON.parse(await readText(path, false));
  if (JSON.stringify(known.tenants) === JSON.stringify(tenants)) return;
  await writeWhole(path, `${JSON.stringify({ ...known, tenants }, null, 2)}\n`);
};

/** For the anchor that an enrolment brings. */
export const writeAnchor = (dir: string, bytes: Uint8Array): Promise<void> =>
  writeWhole(join(dir, 'trust-anchor.json'), Buffer.from(bytes).toString('utf8'));

export interface KeyPair {
  readonly pem: string;
  readonly privateKey: KeyObject;
  readonly publicKey: KeyObject;
}

export const newKeyPair = (): KeyPair => {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return { pem: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(), privateKey, publicKey };
};

const PENDING = 'pending-key.pem';

/** The key of an enrolment under way: kept, because a token is good again only for the key that it was first used with. */
export const pendingKeyPair = async (dir: string): Promise<KeyPair> => {
  const path = join(dir, PENDING);
  await mkdir(dir, { recursive: true, mode: 0o700 });
  const kept = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw unusable(`${path}: ${error.code}`, error);
  });
  if (kept !== undefined) {
    const privateKey = createPrivateKey(kept);
    return { pem: kept, privateKey, publicKey: createPublicKey(privateKey) };
  }
  const made = newKeyPair();
  await writeWhole(path, made.pem);
  return made;
};

export const forgetPendingKey = (dir: string): Promise<void> => unlink(join(dir, PENDING));
