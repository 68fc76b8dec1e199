// VerifyWith: a JWS or a raw signature against a public key that the caller brings. The key and its `alg` decide, the
// header's `alg` has to fit them; nothing of the key is stored.
import { algorithm } from '../../proto/documents/algorithms.ts';
import { type CallerJwk, MAX_JWK_BYTES, parsePublicJwk, requireUse } from '../crypto/public-jwk.ts';
import { canonicalJwsAlgorithm, type SignatureAlgorithm } from '../crypto/signature-algorithms.ts';
import { invalid } from '../errors.ts';
import { checkSignature } from './jose/check-signature.ts';
import { refuseForbidden, requireSize } from './jose/checks.ts';
import {
  readSigned,
  requireData,
  requireDigest,
  type Signed,
  type SignedInput,
  signatureAlgorithm,
} from './jose/signed-input.ts';
import { type Performed, type Ports, perform } from './perform.ts';
import type { Call } from './ports.ts';
import type { VerifyOutput } from './verify.ts';

export interface VerifyWithInput extends SignedInput {
  /** JSON. */
  readonly publicJwk: string;
}

const algorithmOf = (jwk: CallerJwk, signed: Signed): SignatureAlgorithm => {
  requireUse(jwk, 'sig', ['verify']);
  refuseForbidden(jwk.alg);
  const own = jwk.alg === undefined ? undefined : canonicalJwsAlgorithm(jwk.alg);
  const jose = signed.alg ?? own;
  if (jose === undefined) throw invalid('public_jwk', '"alg" is required with a raw signature');
  const field = signed.alg === undefined ? 'public_jwk' : 'jws';
  if (!algorithm(jwk.algorithm)?.jose.sign?.includes(jose)) throw invalid(field, '"alg" does not fit the key');
  if (own !== undefined && own !== jose) throw invalid('jws', 'header "alg" is not that of the JWK');
  return signatureAlgorithm(jose);
};

export const verifyWith = (ports: Ports, call: Call, input: VerifyWithInput): Promise<Performed<VerifyOutput>> =>
  perform(ports, call, 'verify-with', async (run) => {
    requireSize('public_jwk', Buffer.byteLength(input.publicJwk), MAX_JWK_BYTES);
    const jwk = parsePublicJwk(input.publicJwk);
    run.about({ requested: jwk.thumbprint });
    const signed = readSigned(input);
    const row = algorithmOf(jwk, signed);
    run.about({ requested: jwk.thumbprint, algorithm: row.jose });
    run.note({ thumbprint: jwk.thumbprint });
    run.decide({ algorithm: jwk.algorithm, jose: row.jose });
    requireDigest(row, signed.data);
    if (await checkSignature(ports, run, { algorithm: row, jwk: jwk.jwk, keyOf: () => jwk.key }, signed)) {
      return signed.payload === undefined ? { valid: true } : { valid: true, payload: signed.payload };
    }
    requireData(signed);
    run.outcome('SIGNATURE_INVALID');
    return { valid: false };
  });
