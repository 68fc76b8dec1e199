// The NIST curves of JOSE (RFC 7518 section 6.2.1.1) and points on them. Invariant: a point that leaves here is on the
// curve it was parsed for (SP 800-56A section 5.6.2.3.3), so no small-subgroup or wrong-curve point reaches a key.
import { createPublicKey, type KeyObject } from 'node:crypto';
import { decodeBase64url } from './base64url.ts';

export interface Curve {
  readonly crv: 'P-256' | 'P-384' | 'P-521';
  readonly algorithm: 'EC-P256' | 'EC-P384' | 'EC-P521';
  readonly openssl: 'prime256v1' | 'secp384r1' | 'secp521r1';
  readonly bytes: number;
}

export const CURVES: ReadonlyMap<string, Curve> = new Map(
  (
    [
      { crv: 'P-256', algorithm: 'EC-P256', openssl: 'prime256v1', bytes: 32 },
      { crv: 'P-384', algorithm: 'EC-P384', openssl: 'secp384r1', bytes: 48 },
      { crv: 'P-521', algorithm: 'EC-P521', openssl: 'secp521r1', bytes: 66 },
    ] as const
  ).map((curve) => [curve.crv, curve]),
);

/** The curve and key of EC members; undefined where the curve is unknown, a coordinate ill-sized or the point not on it. */
export const ecPublicKey = (jwk: {
  readonly crv?: unknown;
  readonly x?: unknown;
  readonly y?: unknown;
}): { curve: Curve; key: KeyObject; point: Buffer } | undefined => {
  const curve = typeof jwk.crv === 'string' ? CURVES.get(jwk.crv) : undefined;
  if (curve === undefined || typeof jwk.x !== 'string' || typeof jwk.y !== 'string') return undefined;
  // RFC 7518 section 6.2.1.2: full field length. OpenSSL would take longer spellings.
  if (jwk.x.length > 88 || jwk.y.length > 88) return undefined;
  const [x, y] = [decodeBase64url(jwk.x), decodeBase64url(jwk.y)];
  if (x?.length !== curve.bytes || y?.length !== curve.bytes) return undefined;
  try {
    const key = createPublicKey({ key: { kty: 'EC', crv: curve.crv, x: jwk.x, y: jwk.y }, format: 'jwk' });
    return { curve, key, point: Buffer.concat([Buffer.of(4), x, y]) };
  } catch {
    return undefined; // not on the curve
  }
};
