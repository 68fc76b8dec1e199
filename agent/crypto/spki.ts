// Public keys as SubjectPublicKeyInfo in PEM (RFC 7468 section 13): what OpenSSL has, RFC 9881, RFC 9909 and RFC 9935 among
// it, and composites by the object identifiers of LAMPS. Invariant: a key has one PEM here, and PEM and JWK say the same key.
import { createPublicKey } from 'node:crypto';
import { algorithm } from '../../proto/documents/algorithms.ts';
import type { PublicJwk } from '../../proto/documents/key-record.ts';
import { akpJwk } from '../../proto/documents/pq-signatures.ts';
import { COMPOSITE_SIGNATURES } from './composite-signature.ts';
import { wrapKeyJwk } from './key-management.ts';

/** Last arcs of 1.3.6.1.5.5.7.6 (draft-ietf-lamps-pq-composite-sigs-19, draft-ietf-lamps-pq-composite-kem-17). */
const LAMPS_ARCS: ReadonlyMap<string, number> = new Map([
  ['ML-DSA-44-Ed25519', 39],
  ['ML-DSA-44-ES256', 40],
  ['ML-DSA-65-RSA3072-PSS', 41],
  ['ML-DSA-65-RSA4096-PSS', 43],
  ['ML-DSA-65-ES256', 45],
  ['ML-DSA-65-Ed25519', 48],
  ['ML-DSA-87-ES384', 49],
  ['ML-KEM-768-RSA2048', 55],
  ['ML-KEM-768-RSA3072', 56],
  ['ML-KEM-768-RSA4096', 57],
  ['ML-KEM-768-X25519', 58],
  ['ML-KEM-768-P256', 59],
  ['ML-KEM-1024-RSA3072', 62],
  ['ML-KEM-1024-P384', 63],
]);
const BY_ARC: ReadonlyMap<number, string> = new Map([...LAMPS_ARCS].map(([id, arc]) => [arc, id]));

const ALGORITHM = Buffer.from('300a06082b060105050706', 'hex'); // AlgorithmIdentifier without parameters, up to the last arc
const ARC_AT = 4 + ALGORITHM.length;
const HEAD_BYTES = ARC_AT + 1 + 5;
const MAX_BODY_BYTES = 8192;

/** A composite's public bytes are above 256 and below 64 Ki, so every length has two bytes. */
const lampsSpki = (arc: number, pub: Buffer): Buffer => {
  const head = Buffer.alloc(HEAD_BYTES);
  head.writeUInt16BE(0x3082);
  head.writeUInt16BE(HEAD_BYTES - 4 + pub.length, 2);
  ALGORITHM.copy(head, 4);
  head.writeUInt8(arc, ARC_AT);
  head.writeUInt16BE(0x0382, ARC_AT + 1);
  head.writeUInt16BE(pub.length + 1, ARC_AT + 3); // no unused bits
  return Buffer.concat([head, pub]);
};

/** Where the ECDSA half begins; JOSE leaves out the 0x04 that LAMPS has (draft-ietf-jose-pq-composite-sigs-03). */
const pointAt = (id: string): number | undefined => {
  const composite = COMPOSITE_SIGNATURES.get(id);
  return composite?.classical.startsWith('ES') === true ? composite.pqc.publicBytes : undefined;
};

const toLamps = (id: string, pub: Buffer): Buffer => {
  const at = pointAt(id);
  return at === undefined ? pub : Buffer.concat([pub.subarray(0, at), Buffer.of(4), pub.subarray(at)]);
};

const fromLamps = (id: string, pub: Buffer): Buffer | undefined => {
  const at = pointAt(id);
  if (at === undefined) return pub;
  return pub[at] === 4 ? Buffer.concat([pub.subarray(0, at), pub.subarray(at + 1)]) : undefined;
};

const pemOf = (der: Buffer): string => {
  const lines = der.toString('base64').match(/.{1,64}/g) ?? [];
  return `-----BEGIN PUBLIC KEY-----\n${lines.join('\n')}\n-----END PUBLIC KEY-----\n`;
};

/** The PEM of a version's public key; undefined where nobody has given its algorithm an object identifier. */
export const publicPem = (id: string, jose: string, jwk: PublicJwk): string | undefined => {
  const arc = LAMPS_ARCS.get(id);
  if (arc !== undefined) return pemOf(lampsSpki(arc, toLamps(id, Buffer.from(jwk['pub'] ?? '', 'base64url'))));
  // ML-KEM has an object identifier of its own whatever it is used in (RFC 9935).
  const single = wrapKeyJwk(jose, jwk);
  if (algorithm(id)?.components !== undefined || single['alg']?.startsWith('urn:') === true) return undefined;
  return createPublicKey({ key: { ...single }, format: 'jwk' })
    .export({ type: 'spki', format: 'pem' })
    .toString();
};

const PEM = /^-----BEGIN PUBLIC KEY-----\r?\n([A-Za-z0-9+/=\r\n]+)-----END PUBLIC KEY-----\s*$/;

export const isPem = (text: string): boolean => text.startsWith('-----BEGIN ');

const joseOf = (id: string): string => {
  const { sign, encrypt } = algorithm(id)?.jose ?? {};
  return (sign ?? encrypt)?.[0] ?? id;
};

const lampsJwk = (id: string, pub: Buffer): PublicJwk | undefined => {
  const bytes = fromLamps(id, pub);
  return bytes && akpJwk(joseOf(id), bytes);
};

/** `alg` where the key is for one JOSE algorithm alone. */
const namedJwk = (jwk: PublicJwk): PublicJwk => {
  const { kty, crv = '', alg = '' } = jwk;
  if (kty === 'AKP') return { ...jwk, alg: joseOf(alg) };
  return crv === 'Ed25519' ? { ...jwk, alg: crv } : jwk;
};

/** The JWK of a PEM, not yet checked to be a usable key; undefined where it is none, or another spelling than DER's one. */
export const jwkOfPem = (text: string): PublicJwk | undefined => {
  const body = PEM.exec(text)?.[1]?.replaceAll(/[\r\n]/g, '');
  if (body === undefined || body.length > MAX_BODY_BYTES) return undefined;
  const der = Buffer.from(body, 'base64');
  if (der.toString('base64') !== body) return undefined;
  const id = der.subarray(4, ARC_AT).equals(ALGORITHM) ? BY_ARC.get(der[ARC_AT] ?? 0) : undefined;
  if (id !== undefined) {
    const pub = der.subarray(HEAD_BYTES);
    return lampsSpki(LAMPS_ARCS.get(id) as number, pub).equals(der) ? lampsJwk(id, pub) : undefined;
  }
  try {
    const key = createPublicKey({ key: der, format: 'der', type: 'spki' });
    if (!key.export({ type: 'spki', format: 'der' }).equals(der)) return undefined;
    return namedJwk(key.export({ format: 'jwk' }) as PublicJwk);
  } catch {
    return undefined; // not a key, or one that has no JWK
  }
};
