// Composite signatures: ML-DSA and a classical algorithm over one message representative
// (draft-ietf-lamps-pq-composite-sigs, draft-ietf-jose-pq-composite-sigs). Invariant: a half means nothing alone: both
// sign the prefixed representative, ML-DSA under the label as its context.
import { constants, createPublicKey, hash, type KeyObject, verify } from 'node:crypto';
import { rsaPublicBytes } from '../../proto/documents/composite-keys.ts';
import { PQ_SIGNATURES, type PqSignature } from '../../proto/documents/pq-signatures.ts';
import { encodeBase64url } from './base64url.ts';
import { ecPublicKey } from './curves.ts';
import { derOfEcdsa } from './ecdsa-der.ts';

export type ClassicalJose = 'ES256' | 'ES384' | 'Ed25519' | 'PS256' | 'PS384';

export interface CompositeSignature {
  /** Id in the algorithm table. */
  readonly id: string;
  readonly jose: string;
  readonly pqc: PqSignature;
  readonly label: string;
  /** Of the message; LAMPS fixes it by the label. */
  readonly prehash: 'sha256' | 'sha512';
  readonly classical: ClassicalJose;
  /** Of RSA, exactly. */
  readonly modulusBits?: number;
}

/**
 * How the ECDSA half is spelled, which the drafts do not agree on; other halves have one spelling. `raw`: x || y and
 * r || s, JOSE draft 03. `der`: 0x04 || x || y and Ecdsa-Sig-Value, LAMPS and the JOSE editors' copy after draft 03.
 * The length of a public key says which one its signatures have.
 */
export type EcdsaEncoding = 'raw' | 'der';

const row = (
  set: 44 | 65 | 87,
  name: string,
  label: string,
  prehash: CompositeSignature['prehash'],
  rest: Pick<CompositeSignature, 'classical' | 'modulusBits'>,
  jose = `ML-DSA-${set}-${name}`,
): CompositeSignature => ({
  id: `ML-DSA-${set}-${name}`,
  jose,
  pqc: PQ_SIGNATURES.get(`ML-DSA-${set}`) as PqSignature,
  label: `COMPSIG-MLDSA${set}-${label}`,
  prehash,
  ...rest,
});

const rsaRow = (modulusBits: 3072 | 4096, classical: 'PS256' | 'PS384'): CompositeSignature => {
  const jose = `urn:mortise:jws:ML-DSA-65-RSA${modulusBits}-PSS`;
  const rest = { classical, modulusBits };
  return row(65, `RSA${modulusBits}-PSS`, `RSA${modulusBits}-PSS-SHA512`, 'sha512', rest, jose);
};

/** By JOSE name. */
export const COMPOSITE_SIGNATURES: ReadonlyMap<string, CompositeSignature> = new Map(
  [
    row(44, 'ES256', 'ECDSA-P256-SHA256', 'sha256', { classical: 'ES256' }),
    row(65, 'ES256', 'ECDSA-P256-SHA512', 'sha512', { classical: 'ES256' }),
    row(87, 'ES384', 'ECDSA-P384-SHA512', 'sha512', { classical: 'ES384' }),
    row(44, 'Ed25519', 'Ed25519-SHA512', 'sha512', { classical: 'Ed25519' }),
    row(65, 'Ed25519', 'Ed25519-SHA512', 'sha512', { classical: 'Ed25519' }),
    rsaRow(3072, 'PS256'),
    rsaRow(4096, 'PS384'),
  ].map((composite) => [composite.jose, composite]),
);

const PREFIX = Buffer.from('CompositeAlgorithmSignatures2025');
export const MAX_COMPOSITE_CONTEXT_BYTES = 255;

/** M' = Prefix || Label || len(ctx) || ctx || PH(M). */
export const messageRepresentative = (
  { label, prehash }: CompositeSignature,
  digest: Buffer,
  context: Buffer = Buffer.alloc(0),
): Buffer => {
  if (context.length > MAX_COMPOSITE_CONTEXT_BYTES) throw new RangeError('the context is over 255 bytes');
  if (digest.length !== Number(prehash.slice(3)) / 8) throw new RangeError(`not a ${prehash} digest`);
  return Buffer.concat([PREFIX, Buffer.from(label), Buffer.of(context.length), context, digest]);
};

/** The context under which the ML-DSA half signs. */
export const labelContext = ({ label }: CompositeSignature): Buffer => Buffer.from(label);

/** What the holder of the classical key is given: a digest, or of Ed25519 the representative, of 150 bytes or so. */
export const classicalInput = ({ classical }: CompositeSignature, representative: Buffer): Buffer =>
  classical === 'Ed25519' ? representative : hash(`sha${classical.slice(2)}`, representative, 'buffer');

export interface CompositeKey {
  readonly encoding: EcdsaEncoding;
  readonly pqc: KeyObject;
  readonly classical: KeyObject;
}

const COORDINATE_BYTES: Readonly<Record<string, number>> = { ES256: 32, ES384: 48 };

type Half = Pick<CompositeKey, 'encoding' | 'classical'>;

const readEc = (crv: string, bytes: number, half: Buffer): Half | undefined => {
  const encoding = half.length === 2 * bytes ? 'raw' : 'der';
  const point = encoding === 'raw' ? half : half.subarray(1);
  if (point.length !== 2 * bytes || (encoding === 'der' && half[0] !== 4)) return undefined;
  const [x, y] = [encodeBase64url(point.subarray(0, bytes)), encodeBase64url(point.subarray(bytes))];
  const parsed = ecPublicKey({ crv, x, y });
  return parsed && { encoding, classical: parsed.key };
};

const readRsa = (half: Buffer, modulusBits: number): Half | undefined => {
  const classical = createPublicKey({ key: half, format: 'der', type: 'pkcs1' });
  const { modulusLength, publicExponent = 0n } = classical.asymmetricKeyDetails ?? {};
  // One spelling only, so that a key has one thumbprint.
  if (!rsaPublicBytes(classical).equals(half)) return undefined;
  if (modulusLength !== modulusBits || publicExponent < 65_537n || publicExponent % 2n === 0n) return undefined;
  return { encoding: 'der', classical };
};

const readHalf = ({ classical: jose, modulusBits }: CompositeSignature, half: Buffer): Half | undefined => {
  if (modulusBits !== undefined) return readRsa(half, modulusBits);
  if (jose !== 'Ed25519') return readEc(jose === 'ES256' ? 'P-256' : 'P-384', COORDINATE_BYTES[jose] as number, half);
  if (half.length !== 32) return undefined;
  const key = { kty: 'OKP', crv: 'Ed25519', x: encodeBase64url(half) };
  return { encoding: 'raw', classical: createPublicKey({ key, format: 'jwk' }) };
};

/** The halves of `pub`; undefined where it is no key of this composite. */
export const readCompositeKey = (composite: CompositeSignature, pub: Buffer): CompositeKey | undefined => {
  const { id: alg, publicBytes } = composite.pqc;
  if (pub.length <= publicBytes || pub.length > 4096) return undefined;
  try {
    const half = readHalf(composite, pub.subarray(publicBytes));
    if (half === undefined) return undefined;
    const key = { kty: 'AKP', alg, pub: encodeBase64url(pub.subarray(0, publicBytes)) };
    return { ...half, pqc: createPublicKey({ key, format: 'jwk' }) };
  } catch {
    return undefined; // OpenSSL throws on what is no key
  }
};

export interface Halves {
  readonly pqc: Buffer;
  readonly classical: Buffer;
}

/** `classical` is r || s of ECDSA, as tokens give it. */
export const joinHalves = (
  { classical: jose }: CompositeSignature,
  encoding: EcdsaEncoding,
  halves: Halves,
): Buffer => {
  const der = encoding === 'der' && jose in COORDINATE_BYTES;
  return Buffer.concat([halves.pqc, der ? derOfEcdsa(halves.classical) : halves.classical]);
};

/** Undefined where a half is missing. */
export const splitHalves = ({ pqc }: CompositeSignature, signature: Buffer): Halves | undefined => {
  if (signature.length <= pqc.signatureBytes) return undefined;
  return { pqc: signature.subarray(0, pqc.signatureBytes), classical: signature.subarray(pqc.signatureBytes) };
};

/** The key with the spelling that a half has: r || s has one length, and Ecdsa-Sig-Value all but never the same. */
export const asSpelled = ({ classical: jose }: CompositeSignature, key: CompositeKey, half: Buffer): CompositeKey => {
  const bytes = COORDINATE_BYTES[jose];
  return bytes === undefined ? key : { ...key, encoding: half.length === 2 * bytes ? 'raw' : 'der' };
};

/** Whether the classical half is right; ECDSA in the spelling of the key. A malformed half is a wrong one. */
export const verifyClassical = (
  { classical: jose }: CompositeSignature,
  { classical, encoding }: CompositeKey,
  representative: Buffer,
  half: Buffer,
): boolean => {
  try {
    if (jose === 'Ed25519') return verify(null, representative, classical, half);
    const digest = `sha${jose.slice(2)}`;
    if (jose in COORDINATE_BYTES) {
      const dsaEncoding = encoding === 'der' ? 'der' : 'ieee-p1363';
      return verify(digest, representative, { key: classical, dsaEncoding }, half);
    }
    const saltLength = Number(jose.slice(2)) / 8; // as long as the hash
    const padding = constants.RSA_PKCS1_PSS_PADDING;
    return verify(digest, representative, { key: classical, padding, saltLength }, half);
  } catch {
    return false; // OpenSSL throws on some encodings that cannot be signatures
  }
};
