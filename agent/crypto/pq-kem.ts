// Post-quantum and composite KEMs. Invariant: a composite's secret takes both halves, and a half that cannot be reached
// is replaced by random bytes, so that every failure shows where the secret is used, as the same error. Secrets that leave
// here are the receiver's to wipe; all others are wiped here.
import {
  constants,
  createECDH,
  createHash,
  createPublicKey,
  decapsulate,
  ECDH,
  encapsulate,
  type KeyObject,
  publicEncrypt,
  randomBytes,
} from 'node:crypto';
import { rsaPublicBytes } from '../../proto/documents/composite-keys.ts';
import type { PublicJwk } from '../../proto/documents/key-record.ts';
import { ML_KEM_SECRET_BYTES, mlKemPrivateKey, mlKemPublicKey } from '../../proto/documents/ml-kem.ts';
import { type ClassicalHalf, type PqKem, privateParts } from '../../proto/documents/pq-kems.ts';
import { akpJwk } from '../../proto/documents/pq-signatures.ts';
import { agreeX25519, x25519 } from './x25519.ts';

const NONE = Buffer.alloc(0);
const publicBytesOf = (jwk: PublicJwk): Buffer => Buffer.from(jwk['pub'] ?? '', 'base64url');

export const RSA_SECRET_BYTES = 32; // draft-ietf-lamps-pq-composite-kem, RSA-OAEP-KEM

export const kemCiphertextBytes = (kem: PqKem): number => kem.pqc.ciphertextBytes + kem.classicalCiphertextBytes;

/** A public key in its two halves, as `compositePublicJwk` joins them. */
export interface KemPublicKey {
  readonly pqc: KeyObject;
  /** Empty for ML-KEM by itself. */
  readonly classical: Buffer;
}

const isPoint = (half: ClassicalHalf & { kind: 'ec' }, bytes: Buffer): boolean => {
  if (bytes.length !== 1 + 2 * half.bytes || bytes[0] !== 4) return false;
  try {
    ECDH.convertKey(bytes, half.openssl); // refuses what is not on the curve
    return true;
  } catch {
    return false;
  }
};

const rsaPublicKey = (der: Buffer): KeyObject => createPublicKey({ key: der, format: 'der', type: 'pkcs1' });

const isClassicalPublic = (half: ClassicalHalf, bytes: Buffer): boolean => {
  if (half.kind === 'x25519') return bytes.length === 32;
  if (half.kind === 'ec') return isPoint(half, bytes);
  try {
    const key = rsaPublicKey(bytes);
    const { modulusLength, publicExponent } = key.asymmetricKeyDetails ?? {};
    const canonical = rsaPublicBytes(key).equals(bytes);
    return canonical && modulusLength === half.bits && publicExponent === 65537n;
  } catch {
    return false;
  }
};

/** Undefined where the bytes are no public key of the KEM. */
export const parseKemPublicKey = (kem: PqKem, bytes: Buffer): KemPublicKey | undefined => {
  const [pqc, classical] = [bytes.subarray(0, kem.pqc.publicBytes), bytes.subarray(kem.pqc.publicBytes)];
  if (kem.classical === undefined ? classical.length > 0 : !isClassicalPublic(kem.classical, classical)) {
    return undefined;
  }
  try {
    return { pqc: mlKemPublicKey(kem.pqc, pqc), classical };
  } catch {
    return undefined; // too short, or a number not below the modulus
  }
};

/** The ML-KEM half of a public key that is known to be whole, as a JWK of its own. */
export const pqcPublicJwk = ({ pqc }: PqKem, jwk: PublicJwk): PublicJwk =>
  akpJwk(pqc.id, publicBytesOf(jwk).subarray(0, pqc.publicBytes));

/** The bytes of its classical half; none of ML-KEM by itself. */
export const classicalPublicOf = ({ pqc, classical }: PqKem, jwk: PublicJwk): Buffer =>
  classical === undefined ? NONE : publicBytesOf(jwk).subarray(pqc.publicBytes);

interface Combined {
  readonly pqc: Buffer;
  readonly classical: Buffer;
  readonly classicalCiphertext: Buffer;
  readonly classicalPublic: Buffer;
}

/**
 * SHA3-256(mlkemSS || tradSS || tradCT || tradPK || label): the combiner of draft-ietf-lamps-pq-composite-kem and of
 * draft-irtf-cfrg-hybrid-kems (C2PRI). Wipes both secrets.
 */
export const combine = (label: Buffer, parts: Combined): Buffer => {
  const { pqc, classical, classicalCiphertext, classicalPublic } = parts;
  const hash = createHash('sha3-256').update(pqc).update(classical).update(classicalCiphertext);
  pqc.fill(0);
  classical.fill(0);
  return hash.update(classicalPublic).update(label).digest();
};

const encapsulateClassical = (half: ClassicalHalf, to: Buffer): { secret: Buffer; ciphertext: Buffer } => {
  if (half.kind === 'ec') {
    const ephemeral = createECDH(half.openssl);
    const ciphertext = ephemeral.generateKeys();
    return { secret: ephemeral.computeSecret(to), ciphertext };
  }
  if (half.kind === 'x25519') {
    const { secret, epk } = agreeX25519(to);
    return { secret, ciphertext: Buffer.from(epk.x, 'base64url') };
  }
  const secret = randomBytes(RSA_SECRET_BYTES);
  const padding = constants.RSA_PKCS1_OAEP_PADDING;
  return { secret, ciphertext: publicEncrypt({ key: rsaPublicKey(to), padding, oaepHash: 'sha256' }, secret) };
};

export const encapsulateTo = (
  kem: PqKem,
  recipient: KemPublicKey,
): { readonly secret: Buffer; readonly ciphertext: Buffer } => {
  const pqc = encapsulate(recipient.pqc);
  if (kem.classical === undefined) return { secret: pqc.sharedKey, ciphertext: pqc.ciphertext };
  const classical = encapsulateClassical(kem.classical, recipient.classical);
  const secret = combine(kem.label, {
    pqc: pqc.sharedKey,
    classical: classical.secret,
    classicalCiphertext: classical.ciphertext,
    classicalPublic: recipient.classical,
  });
  return { secret, ciphertext: Buffer.concat([pqc.ciphertext, classical.ciphertext]) };
};

const ecdh = (half: ClassicalHalf & { kind: 'ec' }, scalar: Buffer, point: Buffer): Buffer => {
  const own = createECDH(half.openssl);
  own.setPrivateKey(scalar);
  return own.computeSecret(point);
};

/** Where the private half is asked: the token for `split` keys, memory for wrapped ones. Undefined where it refuses. */
export type ClassicalDecapsulation = (ciphertext: Buffer) => Promise<Buffer | undefined> | Buffer | undefined;

const classicalSecret = async (
  half: ClassicalHalf,
  ciphertext: Buffer,
  open: ClassicalDecapsulation,
): Promise<Buffer> => {
  const bytes = half.kind === 'rsa' ? RSA_SECRET_BYTES : half.bytes;
  const asked = half.kind !== 'ec' || isPoint(half, ciphertext); // no point off the curve meets a key
  const secret = asked ? await open(ciphertext) : undefined;
  if (secret?.length === bytes) return secret;
  secret?.fill(0);
  return randomBytes(bytes);
};

/**
 * Where the private ML-KEM half is asked: the token, or memory. ML-KEM rejects implicitly: for a wrong ciphertext it
 * answers with a secret that nobody knows (FIPS 203 section 6.3).
 */
export type PqcDecapsulation = (ciphertext: Buffer) => Promise<Buffer> | Buffer;

/** The key object made of private bytes, which may have been made before. */
export type Expand = (name: string, make: () => KeyObject) => KeyObject;
/** For one use. */
export const expandOnce: Expand = (_, make) => make();

/** With d || z in memory, which stays the caller's to wipe. */
export const pqcWithSeed =
  ({ pqc }: PqKem, seed: Buffer, expand = expandOnce): PqcDecapsulation =>
  (ciphertext) =>
    decapsulate(
      expand(pqc.id, () => mlKemPrivateKey(pqc, seed)),
      ciphertext,
    );

const pqcSecret = async ({ pqc: { id } }: PqKem, ciphertext: Buffer, open: PqcDecapsulation): Promise<Buffer> => {
  const secret = await open(ciphertext);
  if (secret.length !== ML_KEM_SECRET_BYTES) throw new TypeError(`${id}: a secret of ${secret.length} bytes`);
  return secret;
};

/** The secret of a ciphertext of the right length. Both halves are always worked out, in the same order. */
export const decapsulateWith = async (
  kem: PqKem,
  ciphertext: Buffer,
  own: {
    readonly pqc: PqcDecapsulation;
    readonly classical?: ClassicalDecapsulation;
    readonly classicalPublic: Buffer;
  },
): Promise<Buffer> => {
  if (ciphertext.length !== kemCiphertextBytes(kem)) throw new RangeError(`${kem.id}: ${ciphertext.length} bytes`);
  const pqcCiphertext = ciphertext.subarray(0, kem.pqc.ciphertextBytes);
  if (kem.classical === undefined) return pqcSecret(kem, pqcCiphertext, own.pqc);
  if (own.classical === undefined) throw new TypeError(`${kem.id} needs its classical half`);
  const classicalCiphertext = ciphertext.subarray(kem.pqc.ciphertextBytes);
  const classical = await classicalSecret(kem.classical, classicalCiphertext, own.classical);
  const pqc = await pqcSecret(kem, pqcCiphertext, own.pqc);
  return combine(kem.label, { pqc, classical, classicalCiphertext, classicalPublic: own.classicalPublic });
};

/** The same with a key that is wrapped whole. */
export const decapsulateWithSeed = async (
  kem: PqKem,
  ciphertext: Buffer,
  own: { readonly seed: Buffer; readonly classicalPublic: Buffer; readonly expand: Expand },
): Promise<Buffer> => {
  const parts = privateParts(kem, own.seed);
  const { classical: half } = kem;
  const key = parts.classical ?? Buffer.alloc(0);
  const classical = (other: Buffer) => (half?.kind === 'ec' ? ecdh(half, key, other) : x25519(key, other));
  try {
    const { classicalPublic, expand } = own;
    const pqc = pqcWithSeed(kem, parts.pqc, expand);
    return await decapsulateWith(kem, ciphertext, { pqc, classical, classicalPublic });
  } finally {
    parts.pqc.fill(0);
    key.fill(0);
  }
};
