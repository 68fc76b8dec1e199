// The public JWK in an answer of the token process, parsed into a plain object of known members.
import type { PublicJwk } from '../../proto/documents/key-record.ts';
import { ProtocolError } from './protocol.ts';

const MEMBERS: Readonly<Record<string, readonly string[]>> = {
  RSA: ['kty', 'n', 'e'],
  EC: ['kty', 'crv', 'x', 'y'],
  OKP: ['kty', 'crv', 'x'],
  AKP: ['kty', 'alg', 'pub'],
};
const VALUE = /^[A-Za-z0-9_-]{1,4096}$/; // base64url of ML-DSA-87 with RSA-4096, or a name

/** Undefined for no bytes. */
export const parsePublicJwk = (bytes: Buffer): PublicJwk | undefined => {
  if (bytes.length === 0) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(bytes.toString('utf8'));
  } catch (cause) {
    throw new ProtocolError('the public key is not JSON', { cause });
  }
  if (typeof value !== 'object' || value === null) throw new ProtocolError('the public key is not an object');
  const jwk = value as Readonly<Record<string, unknown>>;
  const kty = jwk['kty'];
  const members = typeof kty === 'string' && Object.hasOwn(MEMBERS, kty) ? MEMBERS[kty] : undefined;
  if (members === undefined) throw new ProtocolError('the public key is of no known type');
  return Object.fromEntries(
    members.map((name) => {
      const member = jwk[name];
      if (typeof member !== 'string' || !VALUE.test(member)) throw new ProtocolError(`the public key lacks ${name}`);
      return [name, member];
    }),
  );
};
