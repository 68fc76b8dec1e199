// The signature that a stream of data is verified by: raw, or a JWS without its payload.
import { type CompactJws, parseCompactJws } from '../../crypto/jws.ts';
import { canonicalJwsAlgorithm } from '../../crypto/signature-algorithms.ts';
import { invalid } from '../../errors.ts';
import { MAX_JOSE_BYTES, MAX_RAW_SIGNATURE_BYTES, refuseForbidden, requireSize } from '../jose/checks.ts';
import type { SignedInput } from '../jose/signed-input.ts';

export interface DetachedSignature {
  readonly signature: Buffer;
  /** Canonical `alg` of the JWS; undefined for a raw signature. */
  readonly alg: string | undefined;
  readonly kid: string | undefined;
  readonly jws: CompactJws | undefined;
}

/** `context` goes with a raw signature alone. */
export const readDetached = (given: SignedInput['signature'], context: Buffer | undefined): DetachedSignature => {
  if (given === undefined) throw invalid('signature', 'jws or raw is required');
  if ('raw' in given) {
    requireSize('raw', given.raw.length, MAX_RAW_SIGNATURE_BYTES);
    return { signature: given.raw, alg: undefined, kid: undefined, jws: undefined };
  }
  requireSize('jws', given.jws.length, MAX_JOSE_BYTES);
  const jws = parseCompactJws(given.jws);
  refuseForbidden(jws.header.alg);
  if (jws.payload !== undefined) throw invalid('jws', 'carries its payload; a stream is verified by a detached one');
  if (context !== undefined) throw invalid('context', 'only with a raw signature');
  return { signature: jws.signature, alg: canonicalJwsAlgorithm(jws.header.alg), kid: jws.header.kid, jws };
};
