// Public attributes of token objects → public JWK (RFC 7517, 7518 section 6, 8037). Modules differ in form: points come
// as DER OCTET STRING or raw, integers with or without leading zeros.
import { compositePublicJwk } from '../../../proto/documents/composite-keys.ts';
import type { PublicJwk } from '../../../proto/documents/key-record.ts';
import { type Curve, isOnCurve } from './curves.ts';
import type { ParameterSet } from './parameter-sets.ts';
import { Refusal } from './refusal.ts';

const url = (bytes: Buffer): string => bytes.toString('base64url');
const withoutZeros = (bytes: Buffer): Buffer => {
  let at = 0;
  while (at < bytes.length - 1 && bytes[at] === 0) at += 1;
  return bytes.subarray(at);
};

/** The content of a DER OCTET STRING that fills `bytes`, else `bytes` itself. */
export const pointBytes = (bytes: Buffer, rawLength: number): Buffer => {
  if (bytes.length === rawLength) return bytes;
  const head = rawLength < 128 ? Buffer.of(0x04, rawLength) : Buffer.of(0x04, 0x81, rawLength);
  if (bytes.length === head.length + rawLength && bytes.subarray(0, head.length).equals(head)) {
    return bytes.subarray(head.length);
  }
  throw new Refusal('HSM_UNAVAILABLE', `the token gave a public point of ${bytes.length} bytes`);
};

export const rsaJwk = (modulus: Buffer, exponent: Buffer): PublicJwk => ({
  kty: 'RSA',
  n: url(withoutZeros(modulus)),
  e: url(withoutZeros(exponent)),
});

export const ecJwk = (curve: Curve, attribute: Buffer): PublicJwk => {
  const point = pointBytes(attribute, 1 + 2 * curve.bytes);
  if (!isOnCurve(curve, point)) throw new Refusal('HSM_UNAVAILABLE', 'the token gave a point that is not on its curve');
  const middle = 1 + curve.bytes;
  return { kty: 'EC', crv: curve.crv, x: url(point.subarray(1, middle)), y: url(point.subarray(middle)) };
};

/** CKA_VALUE of a public key of PKCS #11 3.2 is the bytes of FIPS 203 or 204 themselves. */
export const akpJwk = (set: ParameterSet, value: Buffer): PublicJwk => {
  if (value.length === set.publicBytes) return { kty: 'AKP', alg: set.id, pub: url(value) };
  throw new Refusal('HSM_UNSUPPORTED', `the token gave a public key of ${value.length} bytes for ${set.id}`);
};

export const ed25519Jwk = (attribute: Buffer): PublicJwk => ({
  kty: 'OKP',
  crv: 'Ed25519',
  x: url(pointBytes(attribute, 32)),
});

/** The public key of a composite. `alg` is its post-quantum half's: what the whole is for, the token does not know. */
export const joinedJwk = (halves: readonly (PublicJwk | undefined)[]): PublicJwk | undefined => {
  const pqc = halves.find((half) => half?.['kty'] === 'AKP');
  const classical = halves.find((half) => half !== undefined && half !== pqc);
  return pqc && classical && compositePublicJwk(pqc['alg'] ?? '', { pqc, classical });
};
