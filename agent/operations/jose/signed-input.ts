// What Verify and VerifyWith are given: a JWS or a raw signature, and the data that it is over. Checks that the two fit
// together and says which bytes the signature must be over.
import { type CompactJws, jwsSigningInput, parseCompactJws } from '../../crypto/jws.ts';
import { MAX_CONTEXT_BYTES } from '../../crypto/post-quantum/post-quantum.ts';
import {
  canonicalJwsAlgorithm,
  findSignatureAlgorithm,
  type SignatureAlgorithm,
} from '../../crypto/signature-algorithms.ts';
import type { SignedData } from '../../crypto/software-verify.ts';
import { invalid } from '../../errors.ts';
import { MAX_DATA_BYTES, MAX_JOSE_BYTES, MAX_RAW_SIGNATURE_BYTES, refuseForbidden, requireSize } from './checks.ts';

export interface SignedInput {
  readonly signature: { readonly jws: string } | { readonly raw: Buffer } | undefined;
  readonly input: SignedData | undefined;
  /** Context string of a raw signature; absent means none. */
  readonly context?: Buffer;
}

export interface Signed {
  readonly signature: Buffer;
  readonly data: SignedData;
  /** Canonical `alg` of the JWS; undefined for a raw signature. */
  readonly alg: string | undefined;
  readonly kid: string | undefined;
  /** What a valid JWS gives back; undefined where it does not carry the payload. */
  readonly payload: Buffer | undefined;
  /** The data was left out and only an empty payload could have been meant. */
  readonly assumedEmpty: boolean;
}

const readJws = (text: string, input: SignedData | undefined): Signed => {
  requireSize('jws', text.length, MAX_JOSE_BYTES);
  if (input !== undefined && 'digest' in input) throw invalid('digest', 'only with a raw signature');
  const jws: CompactJws = parseCompactJws(text);
  refuseForbidden(jws.header.alg);
  if (jws.payload !== undefined && input !== undefined) throw invalid('message', 'the JWS carries its payload');
  // A JWS over nothing looks like a detached one (RFC 7515 appendix F leaves both with an empty segment).
  const assumedEmpty = jws.payload === undefined && input === undefined;
  const content = jws.payload ?? input?.message ?? Buffer.alloc(0);
  return {
    signature: jws.signature,
    data: { message: jwsSigningInput(jws.protectedSegment, content, jws.encoded) },
    alg: canonicalJwsAlgorithm(jws.header.alg),
    kid: jws.header.kid,
    payload: assumedEmpty ? content : jws.payload,
    assumedEmpty,
  };
};

export const readSigned = ({ signature, input, context }: SignedInput): Signed => {
  if (signature === undefined) throw invalid('signature', 'jws or raw is required');
  if (input !== undefined && 'message' in input) requireSize('message', input.message.length, MAX_DATA_BYTES);
  if ('jws' in signature) {
    // RFC 9964 section 3: JOSE signs with the empty context string.
    if (context !== undefined) throw invalid('context', 'only with a raw signature');
    return readJws(signature.jws, input);
  }
  requireSize('raw', signature.raw.length, MAX_RAW_SIGNATURE_BYTES);
  if (input === undefined) throw invalid('input', 'message or digest is required with a raw signature');
  const rest = { alg: undefined, kid: undefined, payload: undefined, assumedEmpty: false };
  return { signature: signature.raw, data: { ...input, ...(context && { context }) }, ...rest };
};

/** The table's row of an algorithm that a key version or a checked JWK has. */
export const signatureAlgorithm = (jose: string): SignatureAlgorithm => {
  const row = findSignatureAlgorithm(jose);
  if (row === undefined) throw new TypeError(`${jose} is not a signature algorithm`);
  return row;
};

/** Refuses a context string that the algorithm has no place for. */
export const requireContext = ({ context: has, jose }: SignatureAlgorithm, context: Buffer | undefined): void => {
  if (context === undefined) return;
  if (has !== true) throw invalid('context', `${jose} has no context string`);
  if (context.length > MAX_CONTEXT_BYTES) throw invalid('context', `at most ${MAX_CONTEXT_BYTES} bytes`);
};

/** Refuses a digest or a context string that the algorithm cannot have signed. */
export const requireSignable = (algorithm: SignatureAlgorithm, data: SignedData): void => {
  requireContext(algorithm, data.context);
  if (!('digest' in data)) return;
  if (algorithm.digestBytes === undefined) throw invalid('digest', `${algorithm.jose} signs messages, not digests`);
  if (data.digest.length !== algorithm.digestBytes) {
    throw invalid('digest', `${algorithm.jose} signs ${algorithm.digest} digests of ${algorithm.digestBytes} bytes`);
  }
};

/** The end of a verification that no key has passed. */
export const requireData = (signed: Signed): void => {
  if (signed.assumedEmpty) throw invalid('message', 'required: the JWS is detached, and not over an empty payload');
};
