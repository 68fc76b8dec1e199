// Signatures and MACs. Invariant: a key signs only by the scheme of its type, curve or parameter set, and a digest only of
// the scheme's length.
import { MAX_CONTEXT_BYTES } from '../requests.ts';
import { type Mechanism, type SignatureScheme, withContext } from './mechanisms.ts';
import type { TokenKey } from './objects.ts';
import { needUse, type Performer, room } from './performer.ts';
import { Refusal } from './refusal.ts';
import { A } from './templates.ts';

export const schemeOf = (table: Readonly<Record<string, SignatureScheme>>, name: Buffer): SignatureScheme => {
  const jose = name.toString('latin1');
  if (!Object.hasOwn(table, jose)) throw new Refusal('HSM_UNSUPPORTED', `${JSON.stringify(jose)} is not offered`);
  return table[jose] as SignatureScheme;
};

const contextual = ({ key, mechanism }: SignatureScheme, context: Buffer): Mechanism => {
  if (context.length === 0) return mechanism;
  if (key === 'ml-dsa' && context.length <= MAX_CONTEXT_BYTES) return withContext(mechanism, context);
  throw new Refusal('INVALID_REQUEST', 'the algorithm takes no context of this length');
};

const MAX_MAC_BYTES = 64;
const ED25519_BYTES = 64; // NSS takes no more room than the signature fills

const signatureRoom = ({ type, modulus, set, curve }: TokenKey): number => {
  if (type === 'ed25519') return ED25519_BYTES;
  return modulus?.length ?? set?.outputBytes ?? (curve === undefined ? MAX_MAC_BYTES : 2 * curve.bytes);
};

/** `context` lives as long as this call: the library is given its address. */
export const signWith = (
  { session, scratch }: Performer,
  scheme: SignatureScheme,
  key: TokenKey,
  data: Buffer,
  context: Buffer,
): Buffer => {
  needUse(key, scheme.key, A.SIGN, 'this signature or MAC');
  if (scheme.curve !== undefined && key.curve?.crv !== scheme.curve) {
    throw new Refusal('HSM_UNSUPPORTED', `the key is on ${key.curve?.crv}, not on ${scheme.curve}`);
  }
  if (scheme.set !== undefined && key.set?.id !== scheme.set) {
    throw new Refusal('HSM_UNSUPPORTED', `the key is of ${key.set?.id}, not of ${scheme.set}`);
  }
  if (scheme.keyBits !== undefined && (key.bits ?? 0) < scheme.keyBits) {
    throw new Refusal('HSM_UNSUPPORTED', `the key of ${key.bits} bits is too short for this MAC`);
  }
  if (scheme.digestBytes !== undefined && data.length !== scheme.digestBytes) {
    throw new Refusal('INVALID_REQUEST', `the digest is not ${scheme.digestBytes} bytes`);
  }
  const input = scheme.prefix === undefined ? data : Buffer.concat([scheme.prefix, data]);
  const output = room(scratch, signatureRoom(key));
  return session.module.sign(session.handle, contextual(scheme, context), key.handle, input, output);
};
