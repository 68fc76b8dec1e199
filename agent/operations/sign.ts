// Sign: a JWS in three forms or a raw signature, by the primary version of a key. The digest of RSA and ECDSA is made
// here; Ed25519 and post-quantum algorithms sign the whole message, in the token or with unwrapped private bytes.
import { hash } from 'node:crypto';
import { type KeyRecord, type KeyVersionRecord, kidOf } from '../../proto/documents/key-record.ts';
import { primaryVersion } from '../../proto/documents/key-states.ts';
import { signEd25519 } from '../crypto/ed25519.ts';
import { buildCompactJws, buildJwsHeader, jwsSigningInput } from '../crypto/jws.ts';
import type { SignedData } from '../crypto/software-verify.ts';
import { AgentError, invalid } from '../errors.ts';
import {
  MAX_DATA_BYTES,
  MAX_TOKEN_DATA_BYTES,
  MAX_TOKEN_ENCODED_BYTES,
  MAX_TOKEN_UNENCODED_BYTES,
  requireSize,
} from './jose/checks.ts';
import { signComposite } from './jose/composite-signature.ts';
import { tokenIdOf } from './jose/named-key.ts';
import { withSeed } from './jose/private-half.ts';
import { requireSignable, type Signed, signatureAlgorithm } from './jose/signed-input.ts';
import { type Performed, type Ports, perform, type Run } from './perform.ts';
import type { Call } from './ports/call.ts';
import { isSignedBy } from './verify.ts';

export type SignatureForm = 'compact' | 'detached' | 'unencoded' | 'raw';

export interface SignInput {
  readonly key: string;
  readonly input: SignedData | undefined;
  /** Undefined means one that this agent does not know. */
  readonly form: SignatureForm | undefined;
  /** Empty means none. */
  readonly type: string;
  /** Context string of a raw signature; absent means none. */
  readonly context?: Buffer;
}

export type SignOutput = { readonly jws: string } | { readonly signature: Buffer };

const TYPE_PATTERN = /^[\x20-\x7e]{1,127}$/;

/** Empty means none. */
export const requireType = (type: string, form: SignatureForm): void => {
  if (type === '') return;
  if (form === 'raw') throw invalid('type', 'a raw signature has no header');
  if (!TYPE_PATTERN.test(type)) throw invalid('type', 'printable ASCII of at most 127 bytes');
};

/** RFC 9964 section 3: JOSE signs with the empty context string. */
export const requireRawFor = (context: Buffer | undefined, form: SignatureForm): void => {
  if (context !== undefined && form !== 'raw') throw invalid('context', 'only with the form RAW');
};

const checkInput = ({ input, form, type, context }: SignInput): { data: SignedData; form: SignatureForm } => {
  if (form === undefined) throw invalid('form', 'not a known form');
  if (input === undefined) throw invalid('input', 'message or digest is required');
  if ('message' in input) requireSize('message', input.message.length, MAX_DATA_BYTES);
  else if (form !== 'raw') throw invalid('digest', 'only with the form RAW');
  requireRawFor(context, form);
  requireType(type, form);
  return { data: { ...input, ...(context && { context }) }, form };
};

/** Ed25519 and ML-DSA sign the message itself, so the token gets all of it. */
export const WHOLE_MESSAGE_LIMITS: Readonly<Record<SignatureForm, number>> = {
  raw: MAX_TOKEN_DATA_BYTES,
  unencoded: MAX_TOKEN_UNENCODED_BYTES,
  compact: MAX_TOKEN_ENCODED_BYTES,
  detached: MAX_TOKEN_ENCODED_BYTES,
};

/** Checks against the version that `apply` will take, before it takes a use. */
export const checkAgainst = (key: KeyRecord, data: SignedData, form: SignatureForm): void => {
  const version = primaryVersion(key);
  if (version === undefined) return; // `apply` says so
  const algorithm = signatureAlgorithm(version.jose);
  requireSignable(algorithm, data);
  const isWhole = algorithm.scheme === 'ed25519' || (algorithm.scheme === 'pq' && version.custody === 'hsm');
  if (isWhole && 'message' in data) {
    requireSize('message', data.message.length, WHOLE_MESSAGE_LIMITS[form]);
  }
};

/** A signature that leaves; where policy says so it is verified first, because a device may be wrong. */
export const signData = async (
  ports: Ports,
  run: Run,
  key: KeyRecord,
  version: KeyVersionRecord,
  data: SignedData,
): Promise<Buffer> => {
  const signature = await makeSignature(ports, run, { key, version }, data);
  if (ports.policy.checkSignatures(run.tenant)) await requireRight(ports, run, { key, version }, { data, signature });
  return signature;
};

const requireRight = async (
  ports: Ports,
  run: Run,
  { key, version }: { readonly key: KeyRecord; readonly version: KeyVersionRecord },
  signed: Pick<Signed, 'data' | 'signature'>,
): Promise<void> => {
  if (await isSignedBy(ports, run, version, signed)) return;
  const { tenant } = run;
  ports.events.wrongResult({ tenant, key: `${key.keyId}/${version.version}`, algorithm: version.jose });
  const cause = new Error(`a signature with ${version.jose} that does not verify`);
  throw new AgentError('HSM_UNAVAILABLE', { message: 'the token gave a wrong result, which was kept back', cause });
};

const makeSignature = async (
  ports: Ports,
  run: Run,
  { key, version }: { readonly key: KeyRecord; readonly version: KeyVersionRecord },
  data: SignedData,
): Promise<Buffer> => {
  const { digest: name, scheme } = signatureAlgorithm(version.jose);
  if (name !== undefined) {
    const digest = 'digest' in data ? data.digest : hash(name, data.message, 'buffer');
    if (scheme === 'composite') return signComposite(ports, run, { key, version }, { digest, context: data.context });
    return ports.token.sign(tokenIdOf(version), version.jose, digest, run.token);
  }
  if (!('message' in data)) throw new TypeError(`${version.jose} signs messages`);
  const { message, context } = data;
  if ((scheme === 'pq' && version.custody !== 'hsm') || scheme === 'fn-dsa') {
    const what = { algorithm: version.algorithm, message, ...(context && { context }) };
    return ports.postQuantum.sign(what, run.token, (use) => withSeed(ports, run, { key, version }, use));
  }
  if (version.custody === 'wrapped') {
    return withSeed(ports, run, { key, version }, (seed) => signEd25519(seed, message));
  }
  return ports.token.sign(tokenIdOf(version), version.jose, message, run.token, context);
};

/** What `sign` answers, made by a version whose use was taken. */
export const signAs = async (
  ports: Ports,
  run: Run,
  { key, version }: { readonly key: KeyRecord; readonly version: KeyVersionRecord },
  { data, form, type }: { readonly data: SignedData; readonly form: SignatureForm; readonly type: string },
): Promise<SignOutput> => {
  if (form === 'raw') return { signature: await signData(ports, run, key, version, data) };
  if (!('message' in data)) throw invalid('digest', 'only with the form RAW');
  const encoded = form !== 'unencoded';
  const kid = kidOf(key.tenant, key.keyId, version.version);
  const header = buildJwsHeader({ alg: version.jose, kid, type: type === '' ? undefined : type, encoded });
  const message = jwsSigningInput(header, data.message, encoded);
  const signature = await signData(ports, run, key, version, { message });
  return { jws: buildCompactJws(header, form === 'compact' ? data.message : undefined, signature) };
};

export const sign = (ports: Ports, call: Call, input: SignInput): Promise<Performed<SignOutput>> =>
  perform(ports, call, 'sign', async (run) => {
    const { data, form } = checkInput(input);
    const key = run.key(input.key);
    checkAgainst(key, data, form);
    const version = await run.apply(key);
    return signAs(ports, run, { key, version }, { data, form, type: input.type });
  });
