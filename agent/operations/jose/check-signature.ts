// Verifies a signature with a public key, whatever the algorithm: what is quick at once, the rest off the event loop.
import { hash, type KeyObject } from 'node:crypto';
import { FN_DSA_BY_JOSE, type FnDsaSignature } from '../../../proto/documents/fn-dsa.ts';
import type { PublicJwk } from '../../../proto/documents/key-record.ts';
import type { SignatureAlgorithm } from '../../crypto/signature-algorithms.ts';
import { verifySignature } from '../../crypto/software-verify.ts';
import type { Ports, Run } from '../perform.ts';
import { checkComposite } from './composite-signature.ts';
import type { Signed } from './signed-input.ts';

export interface Verifier {
  readonly algorithm: SignatureAlgorithm;
  readonly jwk: PublicJwk;
  /** Of a composite an ECDSA half in DER is right, too, as LAMPS spells signatures of the keys that it has PEM for. */
  readonly asLamps?: true;
  /** The key object of a JWK that is one key, from a cache or made for this once. */
  keyOf(jwk: PublicJwk): KeyObject;
}

export const checkSignature = async (
  ports: Ports,
  run: Run,
  { algorithm, jwk, asLamps, keyOf }: Verifier,
  { data, signature }: Pick<Signed, 'data' | 'signature'>,
): Promise<boolean> => {
  const { jose, scheme, digest: name } = algorithm;
  if (scheme === 'composite') {
    if (name === undefined) throw new TypeError(`${jose} has no pre-hash`);
    const digest = 'digest' in data ? data.digest : hash(name, data.message, 'buffer');
    return await checkComposite(
      ports,
      run,
      { jose, jwk, ...(asLamps && { asLamps }) },
      { digest, signature, context: data.context },
    );
  }
  if (scheme === 'fn-dsa') {
    if (!('message' in data)) return false;
    const publicKey = Buffer.from(jwk['pub'] ?? '', 'base64url');
    const { id } = FN_DSA_BY_JOSE.get(jose) as FnDsaSignature;
    return await ports.postQuantum.verifyFnDsa(
      { algorithm: id, publicKey, message: data.message, signature },
      run.token,
    );
  }
  const key = keyOf(jwk);
  if (scheme !== 'pq') return verifySignature(algorithm, key, data, signature);
  if (!('message' in data)) return false;
  const { message, context } = data;
  return await ports.postQuantum.verify({ algorithm: jose, key, message, signature, ...(context && { context }) });
};
