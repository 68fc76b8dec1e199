// VerifyWith: a JWS or a raw signature against a public key that the caller brings. The key and its `alg` decide, the
// header's `alg` has to fit them; nothing of the key is stored.
import { algorithm } from '../../proto/documents/algorithms.ts';
import { type CallerJwk, MAX_JWK_BYTES, parsePublicJwk, requireUse } from '../crypto/public-jwk.ts';
import { canonicalJwsAlgorithm, type SignatureAlgorithm } from '../crypto/signature-algorithms.ts';
import { invalid } from '../errors.ts';
import { checkSignature, type Verifier } from './jose/check-signature.ts';
import { refuseForbidden, requireSize } from './jose/checks.ts';
import {
  readSigned,
  requireData,
  requireSignable,
  type Signed,
  type SignedInput,
  signatureAlgorithm,
} from './jose/signed-input.ts';
import { type Performed, type Ports, perform, type Run } from './perform.ts';
import type { Call } from './ports/call.ts';
import type { VerifyOutput } from './verify.ts';

export interface VerifyWithInput extends SignedInput {
  /** JSON. */
  readonly publicJwk: string;
}

const algorithmOf = (jwk: CallerJwk, signed: Pick<Signed, 'alg'>): SignatureAlgorithm => {
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

export const readCallerJwk = (run: Run, publicJwk: string): CallerJwk => {
  requireSize('public_jwk', Buffer.byteLength(publicJwk), MAX_JWK_BYTES);
  const jwk = parsePublicJwk(publicJwk);
  run.about({ requested: jwk.thumbprint });
  return jwk;
};

/** What it verifies by, allowed by policy. */
export const verifierOf = (run: Run, jwk: CallerJwk, signed: Pick<Signed, 'alg'>): Verifier => {
  const row = algorithmOf(jwk, signed);
  run.about({ requested: jwk.thumbprint, algorithm: row.jose });
  run.note({ thumbprint: jwk.thumbprint });
  run.decide({ algorithm: jwk.algorithm, jose: row.jose });
  const asLamps = jwk.isPem && signed.alg === undefined;
  return { algorithm: row, jwk: jwk.jwk, keyOf: () => jwk.key, ...(asLamps && { asLamps }) };
};

export const verifyWith = (ports: Ports, call: Call, input: VerifyWithInput): Promise<Performed<VerifyOutput>> =>
  perform(ports, call, 'verify-with', async (run) => {
    const jwk = readCallerJwk(run, input.publicJwk);
    const signed = readSigned(input);
    const by = verifierOf(run, jwk, signed);
    requireSignable(by.algorithm, signed.data);
    if (await checkSignature(ports, run, by, signed)) {
      return signed.payload === undefined ? { valid: true } : { valid: true, payload: signed.payload };
    }
    requireData(signed);
    run.outcome('SIGNATURE_INVALID');
    return { valid: false };
  });
