// The registry's own keys as files of one folder, made once by `init`. Invariant: private keys are files that nobody else
// can read, and a folder that does not fit together is not used.
import { createPrivateKey, generateKeyPairSync, type KeyObject, X509Certificate } from 'node:crypto';
import { existsSync } from 'node:fs';
import { chmod, mkdir, open, readdir, readFile, rename, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '../../agent/clock.ts';
import { parseTrustAnchor } from '../../proto/documents/trust-anchor.ts';
import { Authority, BACKDATE_MS, rootName, TRUST_DOMAIN_PATTERN } from './authority.ts';
import { issueCertificate } from './certificate.ts';

const ROOT_LIFE_MS = 20 * 365 * 86_400_000;
const OTHERS = 0o077;
const SCHEMA = 'mortise.registry-authority/v1';
const FILES = {
  root: 'root.pem',
  rootKey: 'root-key.pem',
  sealingKey: 'sealing-key.pem',
  cosignerKey: 'cosigner-key.pem',
  trustAnchor: 'trust-anchor.json',
  authority: 'authority.json',
} as const;

/** What is wrong with the folder, with the remedy. */
export class AuthorityError extends Error {
  readonly remedy: string;

  constructor(message: string, remedy: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'AuthorityError';
    this.remedy = remedy;
  }
}

const writeNew = async (path: string, text: string | Uint8Array): Promise<void> => {
  await using file = await open(path, 'wx', 0o600);
  await file.writeFile(text);
  await file.sync();
};

const pem = (key: KeyObject): string => key.export({ format: 'pem', type: 'pkcs8' }).toString();

const makeRoot = (trustDomain: string, now: number): { key: KeyObject; certificate: X509Certificate } => {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-384' });
  const spki = publicKey.export({ format: 'der', type: 'spki' });
  const commonName = rootName(trustDomain);
  const times = { notBefore: now - BACKDATE_MS, notAfter: now + ROOT_LIFE_MS };
  const profile = { commonName, spki, usage: 'authority', names: [], ...times } as const;
  return { key: privateKey, certificate: issueCertificate(profile, { commonName, spki, key: privateKey }) };
};

/** Makes the folder. Refuses one that has anything in it: keys are never replaced by accident. */
export const makeAuthority = async (options: {
  readonly dir: string;
  readonly trustDomain: string;
  readonly trustAnchorBytes: Buffer;
  readonly clock: Clock;
}): Promise<void> => {
  const { dir, trustDomain, trustAnchorBytes, clock } = options;
  if (!TRUST_DOMAIN_PATTERN.test(trustDomain)) {
    throw new AuthorityError('the trust domain is not a domain name', 'use lower-case letters, digits, "." and "-"');
  }
  parseTrustAnchor(trustAnchorBytes);
  await mkdir(dir, { recursive: true, mode: 0o700 });
  if ((await readdir(dir)).length > 0) {
    throw new AuthorityError(`${dir} is not empty`, 'a registry is made once; use another folder for another one');
  }
  await chmod(dir, 0o700);
  const { key, certificate } = makeRoot(trustDomain, clock.now());
  await writeNew(join(dir, FILES.rootKey), pem(key));
  await writeNew(join(dir, FILES.root), certificate.toString());
  await writeNew(join(dir, FILES.sealingKey), pem(generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey));
  await writeNew(join(dir, FILES.cosignerKey), pem(generateKeyPairSync('ed25519').privateKey));
  await writeNew(join(dir, FILES.trustAnchor), trustAnchorBytes);
  // Last, and whole: without it the folder is one that was not finished.
  const beside = join(dir, `${FILES.authority}.new`);
  await writeNew(beside, `${JSON.stringify({ schema: SCHEMA, trustDomain }, null, 2)}\n`);
  await rename(beside, join(dir, FILES.authority));
};

/** Whether the folder has a whole authority: its file is written last. */
export const isMade = (dir: string): boolean => existsSync(join(dir, FILES.authority));

const readFileOf = async (dir: string, name: string, isSecret: boolean): Promise<Buffer> => {
  const path = join(dir, name);
  try {
    const { mode, uid } = await stat(path);
    // A file of root may be readable by a group, as Kubernetes (fsGroup) and systemd hand out secrets.
    if (isSecret && (mode & (uid === 0 ? OTHERS & 0o027 : OTHERS)) !== 0) {
      throw new AuthorityError(`others than the registry can read or change ${path}`, `chmod 0600 ${path}`);
    }
    return await readFile(path);
  } catch (cause) {
    if (cause instanceof AuthorityError) throw cause;
    const { code } = cause as NodeJS.ErrnoException;
    const remedy = code === 'ENOENT' ? 'make the registry first: mortise registry init' : 'see the cause';
    throw new AuthorityError(`${path} cannot be read (${code})`, remedy, cause);
  }
};

const readKey = async (dir: string, name: string): Promise<KeyObject> => {
  const bytes = await readFileOf(dir, name, true);
  try {
    return createPrivateKey(bytes);
  } catch (cause) {
    throw new AuthorityError(`${join(dir, name)} is not a private key`, 'restore the folder from a backup', cause);
  } finally {
    bytes.fill(0);
  }
};

export const readAuthority = async (dir: string, clock: Clock): Promise<Authority> => {
  const damaged = (what: string, cause?: unknown): AuthorityError =>
    new AuthorityError(`${dir}: ${what}`, 'restore the folder from a backup', cause);
  const about = await readFileOf(dir, FILES.authority, false);
  let trustDomain: unknown;
  let root: X509Certificate;
  try {
    const { schema, ...rest } = JSON.parse(about.toString());
    if (schema !== SCHEMA) throw new Error(`schema ${schema}`);
    ({ trustDomain } = rest);
    root = new X509Certificate(await readFileOf(dir, FILES.root, false));
  } catch (cause) {
    if (cause instanceof AuthorityError) throw cause;
    throw damaged('authority.json or root.pem cannot be read', cause);
  }
  if (typeof trustDomain !== 'string' || !TRUST_DOMAIN_PATTERN.test(trustDomain)) throw damaged('no trust domain');
  const rootKey = await readKey(dir, FILES.rootKey);
  if (!root.checkPrivateKey(rootKey)) throw damaged('root.pem and root-key.pem do not fit together');
  const trustAnchorBytes = await readFileOf(dir, FILES.trustAnchor, false);
  const sealingKey = await readKey(dir, FILES.sealingKey);
  const cosignerKey = await readKey(dir, FILES.cosignerKey);
  try {
    return new Authority({ trustDomain, root, rootKey, trustAnchorBytes, sealingKey, cosignerKey, clock });
  } catch (cause) {
    throw damaged('trust-anchor.json is not a trust anchor', cause);
  }
};
