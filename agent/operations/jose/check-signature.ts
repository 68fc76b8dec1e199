// Verifies a signature with a public key, whatever the algorithm: what is quick at once, the rest off the event loop.
import type { KeyObject } from 'node:crypto';
import type { PublicJwk } from '../../../proto/documents/key-record.ts';
import type { SignatureAlgorithm } from '../../crypto/signature-algorithms.ts';
import { verifySignature } from '../../crypto/software-verify.ts';
import type { Ports } from '../perform.ts';
import type { Signed } from './signed-input.ts';

export interface Verifier {
  readonly algorithm: SignatureAlgorithm;
  readonly jwk: PublicJwk;
  /** The key object of a JWK, from a cache or made for this once. */
  keyOf(jwk: PublicJwk): KeyObject;
}

export const checkSignature = async (
  ports: Ports,
  { algorithm, jwk, keyOf }: Verifier,
  { data, signature }: Pick<Signed, 'data' | 'signature'>,
): Promise<boolean> => {
  const key = keyOf(jwk);
  if (algorithm.scheme !== 'pq') return verifySignature(algorithm, key, data, signature);
  if (!('message' in data)) return false;
  return await ports.postQuantum.verify({ algorithm: algorithm.jose, key, message: data.message, signature });
};
