// Policies as General JWS (RFC 7515 section 7.2.1), signed by k of n officers. An officer counts only with both of its
// signatures; the payload is parsed only after the threshold is met. docs/spec/policy.md, "Signatures".
import { createHash, verify as verifySignature } from 'node:crypto';
import { base64url, list, object, oneOf, type Read, text } from './fields.ts';
import { POLICY_LIMIT_BYTES, parsePolicy } from './policy.ts';
import { PolicyError } from './policy-error.ts';
import { requireNarrowing } from './policy-narrow.ts';
import type { PlatformPolicy, Policy } from './policy-types.ts';
import { parseJson } from './strict-json.ts';
import { type AnchorKey, anchorKeys, type OfficerAlgorithm, type TrustAnchor } from './trust-anchor.ts';

export const POLICY_JWS_TYPE = 'mortise-policy+jws';
export const POLICY_JWS_LIMIT_BYTES = 1024 * 1024; // payload and MAX_SIGNATURES, base64url-encoded
const MAX_SIGNATURES = 64; // 32 officers with two keys each
const MAX_SIGNATURE_BYTES = 4096; // ML-DSA-65: 3309
const MAX_HEADER_BYTES = 512;

/** What a signer needs to be: a key in a file or on the officer's own token. */
export interface OfficerSigner {
  readonly keys: readonly {
    readonly kid: string;
    readonly algorithm: OfficerAlgorithm;
    sign(data: Buffer): Buffer | Promise<Buffer>;
  }[];
}

interface JwsSignature {
  readonly protected: string;
  readonly signature: string;
}

interface GeneralJws {
  readonly payload: string;
  readonly signatures: readonly JwsSignature[];
}

/** Why a signature counts or does not. */
export type SignatureVerdict = 'valid' | 'invalid' | 'unknown-key' | 'duplicate' | 'wrong-header';

export interface JudgedSignature {
  readonly kid: string;
  readonly officer?: string;
  readonly algorithm?: OfficerAlgorithm;
  readonly verdict: SignatureVerdict;
}

export interface SignedPolicy {
  readonly policy: Policy;
  readonly payload: Buffer;
  /** SHA-256 of the payload in lower-case hex. */
  readonly digest: string;
  /** Officers with both signatures valid, in the anchor's order. */
  readonly officers: readonly string[];
}

const encoded =
  (max: number): Read<string> =>
  (value, path) =>
    base64url({ min: 1, max })(value, path).toString('base64url');

const generalJws = object<GeneralJws>({
  payload: encoded(POLICY_LIMIT_BYTES),
  signatures: list(
    object<JwsSignature>({ protected: encoded(MAX_HEADER_BYTES), signature: encoded(MAX_SIGNATURE_BYTES) }),
    { min: 1, max: MAX_SIGNATURES },
    () => Symbol('repeated signatures are judged, not refused'),
  ),
});

/** Exactly these members: no crit, no jwk, no b64, nothing that another reader could obey. */
const protectedHeader = object<{ alg: OfficerAlgorithm; kid: string; typ: string }>({
  alg: oneOf('Ed25519', 'ES256', 'ML-DSA-65'),
  kid: text(128),
  typ: oneOf(POLICY_JWS_TYPE),
});

const parseJws = (bytes: Uint8Array): GeneralJws => generalJws(parseJson(bytes, POLICY_JWS_LIMIT_BYTES), '');

export const policyDigest = (payload: Uint8Array): string => createHash('sha256').update(payload).digest('hex');

const readHeader = (entry: JwsSignature): { alg: OfficerAlgorithm; kid: string } | undefined => {
  try {
    return protectedHeader(parseJson(Buffer.from(entry.protected, 'base64url'), MAX_HEADER_BYTES), '');
  } catch (error) {
    if (error instanceof PolicyError) return undefined; // judged as wrong-header
    throw error;
  }
};

const signingInput = (header: string, payload: string): Buffer => Buffer.from(`${header}.${payload}`, 'ascii');

const verifies = ({ key, algorithm }: AnchorKey, entry: JwsSignature, payload: string): boolean => {
  const signature = Buffer.from(entry.signature, 'base64url');
  const data = signingInput(entry.protected, payload);
  // RFC 7518 section 3.4: ECDSA signatures are r || s.
  if (algorithm === 'ES256') return verifySignature('sha256', data, { key, dsaEncoding: 'ieee-p1363' }, signature);
  return verifySignature(null, data, key, signature);
};

const judge = (
  entry: JwsSignature,
  payload: string,
  keys: ReadonlyMap<string, AnchorKey>,
  valid: ReadonlySet<string>,
): JudgedSignature => {
  const header = readHeader(entry);
  if (header === undefined) return { kid: '', verdict: 'wrong-header' };
  const known = keys.get(header.kid);
  if (known === undefined) return { kid: header.kid, verdict: 'unknown-key' };
  const about = { kid: header.kid, officer: known.officer, algorithm: known.algorithm };
  // The algorithm is the key's; a header that says otherwise is an attempt to choose another.
  if (header.alg !== known.algorithm) return { ...about, verdict: 'wrong-header' };
  if (valid.has(header.kid)) return { ...about, verdict: 'duplicate' };
  return { ...about, verdict: verifies(known, entry, payload) ? 'valid' : 'invalid' };
};

/** Judges every signature of a policy, whether the threshold is met or not. */
export const judgeSignatures = (
  bytes: Uint8Array,
  anchor: TrustAnchor,
): { payload: Buffer; officers: readonly string[]; signatures: readonly JudgedSignature[] } => {
  const jws = parseJws(bytes);
  const keys = anchorKeys(anchor);
  const valid = new Set<string>();
  const signatures = jws.signatures.map((entry) => {
    const judged = judge(entry, jws.payload, keys, valid);
    if (judged.verdict === 'valid') valid.add(judged.kid);
    return judged;
  });
  const officers = anchor.officers
    .map(({ name }) => name)
    .filter((name) => [...keys].every(([kid, key]) => key.officer !== name || valid.has(kid)));
  return { payload: Buffer.from(jws.payload, 'base64url'), officers, signatures };
};

/** A policy whose signatures meet the threshold, parsed; or PolicyError. Time and versions are for the caller. */
export const verifyPolicy = (bytes: Uint8Array, anchor: TrustAnchor): SignedPolicy => {
  const { payload, officers, signatures } = judgeSignatures(bytes, anchor);
  if (officers.length < anchor.threshold) {
    const seen = signatures.map(({ officer, algorithm, verdict }) => [officer, algorithm, verdict].filter(Boolean));
    const what = seen.map((words) => words.join(' ')).join('; ');
    throw new PolicyError(
      'SIGNATURE_THRESHOLD',
      'signatures',
      `${officers.length} of ${anchor.threshold} needed officers signed with both keys (${what})`,
    );
  }
  return { policy: parsePolicy(payload), payload, digest: policyDigest(payload), officers };
};

const signEntries = async (payload: string, signer: OfficerSigner): Promise<readonly JwsSignature[]> => {
  const entries: JwsSignature[] = [];
  for (const { kid, algorithm, sign } of signer.keys) {
    const header = Buffer.from(JSON.stringify({ alg: algorithm, kid, typ: POLICY_JWS_TYPE })).toString('base64url');
    const signature = await sign(signingInput(header, payload));
    entries.push({ protected: header, signature: signature.toString('base64url') });
  }
  return entries;
};

const serialize = (jws: GeneralJws): Buffer => Buffer.from(`${JSON.stringify(jws, null, 2)}\n`);

/** What an officer may put a name to: a payload that parses and, for a tenant, only narrows the platform's policy. */
const requireSignable = (payload: Uint8Array, platform: PlatformPolicy | undefined): void => {
  const policy = parsePolicy(payload);
  if (policy.scope === 'platform') return;
  if (platform === undefined)
    throw new PolicyError(
      'SCOPE_MISMATCH',
      'scope',
      'a tenant policy is signed against the platform policy it narrows',
    );
  requireNarrowing(platform, policy);
};

/** Signs a payload as it stands, byte for byte. Refuses what an agent would refuse. */
export const signPolicy = async (input: {
  payload: Uint8Array;
  signers: readonly OfficerSigner[];
  platform?: PlatformPolicy;
}): Promise<Buffer> => {
  requireSignable(input.payload, input.platform);
  const payload = Buffer.from(input.payload).toString('base64url');
  const signatures: JwsSignature[] = [];
  for (const signer of input.signers) signatures.push(...(await signEntries(payload, signer)));
  return serialize({ payload, signatures });
};

/** Adds one more officer's signatures to a signed policy; that officer's earlier ones are replaced. */
export const cosignPolicy = async (input: {
  jws: Uint8Array;
  signer: OfficerSigner;
  platform?: PlatformPolicy;
}): Promise<Buffer> => {
  const jws = parseJws(input.jws);
  requireSignable(Buffer.from(jws.payload, 'base64url'), input.platform);
  const own = new Set(input.signer.keys.map(({ kid }) => kid));
  const others = jws.signatures.filter((entry) => !own.has(readHeader(entry)?.kid ?? ''));
  return serialize({
    payload: jws.payload,
    signatures: [...others, ...(await signEntries(jws.payload, input.signer))],
  });
};
