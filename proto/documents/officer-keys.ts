// A policy officer's private keys and the file they are kept in: scrypt (RFC 7914) and AES-256-GCM under a passphrase.
// The public half and all parameters stand beside the ciphertext and are bound to it as associated data.
import {
  createCipheriv,
  createDecipheriv,
  createPrivateKey,
  createPublicKey,
  createSecretKey,
  generateKeyPairSync,
  type JsonWebKey,
  type KeyObject,
  randomBytes,
  type ScryptOptions,
  scrypt,
  sign as signData,
} from 'node:crypto';
import { base64url, integer, object, oneOf, type Read } from './fields.ts';
import { PolicyError } from './policy-error.ts';
import type { OfficerSigner } from './policy-sign.ts';
import { parseJson } from './strict-json.ts';
import { type Officer, type OfficerJwk, officer, officerAlgorithm, officerName, thumbprint } from './trust-anchor.ts';

export const OFFICER_FILE_SCHEMA = 'mortise.officer-keys/v1';
export const OFFICER_FILE_LIMIT_BYTES = 64 * 1024;

/** Private keys in memory, classical first; never in logs or errors. */
export interface OfficerKeys {
  readonly name: string;
  readonly privateKeys: readonly KeyObject[];
}

interface Kdf {
  readonly name: 'scrypt';
  readonly n: number;
  readonly r: number;
  readonly p: number;
  readonly salt: string;
}

interface OfficerFile {
  readonly schema: typeof OFFICER_FILE_SCHEMA;
  readonly officer: Officer;
  readonly kdf: Kdf;
  readonly cipher: 'A256GCM';
  readonly iv: string;
  readonly ciphertext: string;
}

const KDF_COST = { n: 2 ** 17, r: 8, p: 1 } as const; // 128 MiB and about half a second per guess
const MAX_KDF_N = 2 ** 20;
const SALT_BYTES = 16;
const IV_BYTES = 12;
const TAG_BYTES = 16;
const KEY_BYTES = 32;

const text =
  (min: number, max: number): Read<string> =>
  (value, path) =>
    base64url({ min, max })(value, path).toString('base64url');

const officerFile = object<OfficerFile>({
  schema: oneOf(OFFICER_FILE_SCHEMA),
  officer,
  kdf: object<Kdf>({
    name: oneOf('scrypt'),
    n: integer(2 ** 14, MAX_KDF_N),
    r: integer(8, 8),
    p: integer(1, 4),
    salt: text(SALT_BYTES, 64),
  }),
  cipher: oneOf('A256GCM'),
  iv: text(IV_BYTES, IV_BYTES),
  ciphertext: text(TAG_BYTES + 1, 16_384),
});

/** New keys of one officer: Ed25519 (or ES256) and ML-DSA-65. */
export const generateOfficerKeys = (input: { name: string; classical?: 'Ed25519' | 'ES256' }): OfficerKeys => {
  const classical =
    input.classical === 'ES256' ? generateKeyPairSync('ec', { namedCurve: 'P-256' }) : generateKeyPairSync('ed25519');
  const name = officerName(input.name, 'name');
  return { name, privateKeys: [classical.privateKey, generateKeyPairSync('ml-dsa-65').privateKey] };
};

/** The officer's entry in a trust anchor. */
export const officerOf = (keys: OfficerKeys): Officer => ({
  name: keys.name,
  keys: keys.privateKeys.map((key) => createPublicKey(key).export({ format: 'jwk' }) as unknown as OfficerJwk),
});

/** Signs with keys held in memory. */
export const officerSigner = (keys: OfficerKeys): OfficerSigner => {
  const jwks = officerOf(keys).keys;
  return {
    keys: keys.privateKeys.map((key, index) => {
      const jwk = jwks[index] as OfficerJwk;
      const algorithm = officerAlgorithm(jwk);
      const sign = (data: Buffer): Buffer =>
        algorithm === 'ES256'
          ? signData('sha256', data, { key, dsaEncoding: 'ieee-p1363' })
          : signData(null, data, key);
      return { kid: thumbprint(jwk), algorithm, sign };
    }),
  };
};

const deriveKey = (passphrase: Buffer, { n, r, p, salt }: Kdf): Promise<KeyObject> =>
  new Promise((resolve, reject) => {
    const options: ScryptOptions = { N: n, r, p, maxmem: 256 * n * r };
    scrypt(passphrase, Buffer.from(salt, 'base64url'), KEY_BYTES, options, (error, derived) => {
      if (error !== null) return reject(error);
      const key = createSecretKey(derived);
      derived.fill(0);
      resolve(key);
    });
  });

/** Everything but the ciphertext, in the file's order. */
const associatedData = (file: Omit<OfficerFile, 'ciphertext'>): Buffer =>
  Buffer.from(JSON.stringify([file.schema, file.officer, file.kdf, file.cipher, file.iv]));

/** The bytes of a key file; the caller gives it mode 0600 and wipes the passphrase. */
export const sealOfficerKeys = async (passphrase: Buffer, keys: OfficerKeys): Promise<Buffer> => {
  if (passphrase.length === 0)
    throw new PolicyError('VALUE_INVALID', 'passphrase', 'an empty passphrase protects nothing');
  // Through the reader, so that what is bound is what will be read back.
  const head = {
    schema: OFFICER_FILE_SCHEMA,
    officer: officer(parseJson(Buffer.from(JSON.stringify(officerOf(keys))), OFFICER_FILE_LIMIT_BYTES), 'officer'),
    kdf: { name: 'scrypt', ...KDF_COST, salt: randomBytes(SALT_BYTES).toString('base64url') },
    cipher: 'A256GCM',
    iv: randomBytes(IV_BYTES).toString('base64url'),
  } as const;
  const key = await deriveKey(passphrase, head.kdf);
  const cipher = createCipheriv('aes-256-gcm', key, Buffer.from(head.iv, 'base64url'));
  cipher.setAAD(associatedData(head));
  const secret = Buffer.from(JSON.stringify(keys.privateKeys.map((entry) => entry.export({ format: 'jwk' }))));
  const ciphertext = Buffer.concat([cipher.update(secret), cipher.final(), cipher.getAuthTag()]);
  secret.fill(0);
  return Buffer.from(`${JSON.stringify({ ...head, ciphertext: ciphertext.toString('base64url') }, null, 2)}\n`);
};

/** The public half of a key file, without the passphrase. Not authenticated: it becomes trusted only by the anchor. */
export const readOfficer = (bytes: Uint8Array): Officer =>
  officerFile(parseJson(bytes, OFFICER_FILE_LIMIT_BYTES), '').officer;

const decrypt = (key: KeyObject, file: OfficerFile): Buffer => {
  const sealed = Buffer.from(file.ciphertext, 'base64url');
  const decipher = createDecipheriv('aes-256-gcm', key, Buffer.from(file.iv, 'base64url'));
  decipher.setAAD(associatedData(file));
  decipher.setAuthTag(sealed.subarray(sealed.length - TAG_BYTES));
  try {
    return Buffer.concat([decipher.update(sealed.subarray(0, sealed.length - TAG_BYTES)), decipher.final()]);
  } catch (cause) {
    throw new PolicyError('PASSPHRASE_WRONG', '', 'wrong passphrase, or the key file was changed', cause);
  }
};

/** The keys in a key file; PASSPHRASE_WRONG where the passphrase or the file is not the one. */
export const openOfficerKeys = async (passphrase: Buffer, bytes: Uint8Array): Promise<OfficerKeys> => {
  const file = officerFile(parseJson(bytes, OFFICER_FILE_LIMIT_BYTES), '');
  const secret = decrypt(await deriveKey(passphrase, file.kdf), file);
  let privateKeys: readonly KeyObject[];
  try {
    const jwks = JSON.parse(secret.toString('utf8')) as readonly JsonWebKey[];
    privateKeys = jwks.map((key) => createPrivateKey({ key, format: 'jwk' }));
  } catch (cause) {
    throw new PolicyError('KEY_INVALID', '', 'the key file holds no private keys', cause);
  } finally {
    secret.fill(0);
  }
  const keys = { name: file.officer.name, privateKeys };
  const matches = officerOf(keys).keys.map(thumbprint).join() === file.officer.keys.map(thumbprint).join();
  if (!matches)
    throw new PolicyError('KEY_INVALID', 'officer.keys', 'the public keys are not those of the private keys');
  return keys;
};
