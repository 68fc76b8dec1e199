// Proves that a token object computes what its material says: the pairwise consistency test of FIPS 140-3 (section 10.3.2)
// for key pairs, a comparison with software for secret keys. A token that took other numbers is found out here.
import { createCipheriv, createHmac, createSecretKey, hash } from 'node:crypto';
import type { KeyVersionRecord } from '../../proto/documents/key-record.ts';
import { GCM_KEY_WRAPS } from '../crypto/key-management.ts';
import type { KeyMaterial } from '../crypto/key-material.ts';
import { verifySignature } from '../crypto/software-verify.ts';
import { AgentError } from '../errors.ts';
import { unwrapCek, wrapCek } from './jose/content-key.ts';
import { tokenIdOf } from './jose/named-key.ts';
import { signatureAlgorithm } from './jose/signed-input.ts';
import type { Ports, Run } from './perform.ts';

const IV_BYTES = 12;
const message = Buffer.from('mortise pairwise consistency test');

const samePublicKey = (version: KeyVersionRecord, { publicJwk }: KeyMaterial): boolean =>
  Object.entries(publicJwk ?? {}).every(([name, value]) => version.publicJwk?.[name] === value) &&
  (publicJwk === undefined) === (version.publicJwk === undefined);

const signs = async (ports: Ports, run: Run, version: KeyVersionRecord): Promise<boolean> => {
  const algorithm = signatureAlgorithm(version.jose);
  const data = algorithm.digest === undefined ? message : hash(algorithm.digest, message, 'buffer');
  const signature = await ports.token.sign(tokenIdOf(version), version.jose, data, run.token);
  const key = ports.publicKeys.get(version.publicJwk ?? {});
  return verifySignature(algorithm, key, { message }, signature);
};

const encryptsLike = async (ports: Ports, run: Run, version: KeyVersionRecord, key: Buffer): Promise<boolean> => {
  const iv = await ports.random.take(IV_BYTES);
  const given = { iv, aad: Buffer.alloc(0), data: message };
  const made = await ports.token.gcmEncrypt(tokenIdOf(version), given, run.token);
  const name = `aes-${(key.length * 8) as 128 | 192 | 256}-gcm` as const;
  const cipher = createCipheriv(name, createSecretKey(key), iv, { authTagLength: 16 });
  return Buffer.concat([cipher.update(message), cipher.final(), cipher.getAuthTag()]).equals(made);
};

const unwraps = async (ports: Ports, run: Run, version: KeyVersionRecord): Promise<boolean> => {
  const cek = await ports.random.take(32);
  const wrap = { cek, iv: Buffer.alloc(0), enc: 'A256GCM' };
  const { encryptedKey, members } = await wrapCek(ports, run, version, wrap);
  const header = { alg: version.jose, kid: undefined, critical: new Set<string>(), members };
  const enc = { name: 'A256GCM', cekBytes: 32, ivBytes: IV_BYTES, tagBytes: 16 };
  const content = { iv: Buffer.alloc(0), ciphertext: Buffer.alloc(0), tag: Buffer.alloc(0) };
  const jwe = { header, enc, protectedSegment: '', encryptedKey, ...content };
  return (await unwrapCek(ports, run, { key: undefined, version }, jwe))?.equals(cek) === true;
};

const macsLike = async (ports: Ports, run: Run, version: KeyVersionRecord, key: Buffer): Promise<boolean> => {
  const made = await ports.token.mac(tokenIdOf(version), version.jose, message, run.token);
  return createHmac(`sha${version.jose.slice(2)}`, createSecretKey(key))
    .update(message)
    .digest()
    .equals(made);
};

/** Throws HSM_UNSUPPORTED where the token computes something else. */
export const proveImported = async (
  ports: Ports,
  run: Run,
  version: KeyVersionRecord,
  material: KeyMaterial,
): Promise<void> => {
  const [secret] = material.parts as [Buffer];
  const prove = (): Promise<boolean> => {
    if (version.jose.startsWith('HS')) return macsLike(ports, run, version, secret);
    if (GCM_KEY_WRAPS.has(version.jose)) return encryptsLike(ports, run, version, secret);
    return version.jose.includes('OAEP') || version.jose.startsWith('ECDH')
      ? unwraps(ports, run, version)
      : signs(ports, run, version);
  };
  if (samePublicKey(version, material) && (await prove())) return;
  throw new AgentError('HSM_UNSUPPORTED', { message: 'the token does not compute what the imported key should' });
};
