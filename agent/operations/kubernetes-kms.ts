// Encrypt and Decrypt as the Kubernetes API server asks for them (KMS v2), and whether they would be allowed now.
// Invariants: a key_id names one version of one key for ever and is bound into what was encrypted under it; what does
// not fit into the ciphertext is in one annotation, and the ciphertext is its digest.
import { hash, timingSafeEqual } from 'node:crypto';
import { KEY_ID_PATTERN, type KeyRecord, type KeyVersionRecord, kidOf } from '../../proto/documents/key-record.ts';
import { primaryVersion } from '../../proto/documents/key-states.ts';
import { parseCompactJwe } from '../crypto/jwe.ts';
import { AgentError, invalid } from '../errors.ts';
import { requireSize } from './jose/checks.ts';
import { contentKeyFor, requireBelowCeiling } from './jose/content-key.ts';
import { openJwe } from './jose/open-jwe.ts';
import { sealJwe } from './jose/seal-jwe.ts';
import { type Performed, type Ports, perform, Run } from './perform.ts';
import type { Call } from './ports/call.ts';

// As the API server holds plugins to them (k8s.io/apiserver, kmsv2/envelope.go).
const MAX_CIPHERTEXT_BYTES = 1024;
const MAX_ANNOTATIONS_BYTES = 32 * 1024;
const MAX_KEY_ID_BYTES = 1024;
/** The API server sends 32 bytes; the largest JWE of so many is well below the bound of the annotations. */
const MAX_PLAINTEXT_BYTES = 16 * 1024;
/** A fully qualified domain name, in the domain that is kept for private use. */
export const JWE_ANNOTATION = 'jwe.kms.mortise.internal';
const CONTEXT = 'mortise kubernetes kms v2\n';

export interface KmsEncryptInput {
  readonly key: string;
  readonly plaintext: Buffer;
}

export interface KmsSealed {
  readonly ciphertext: Buffer;
  readonly keyId: string;
  readonly annotations: Readonly<Record<string, Buffer>>;
}

export interface KmsDecryptInput extends KmsSealed {}

/**
 * "<key id>/<version>/<fingerprint>". The fingerprint keeps apart versions of one number where a lost catalogue was
 * begun anew: key_ids must not come back.
 */
export const kmsKeyIdOf = ({ tenant, keyId }: KeyRecord, { version, createdAt }: KeyVersionRecord): string => {
  const fingerprint = hash('sha256', `${CONTEXT}${kidOf(tenant, keyId, version)}\n${createdAt}`).slice(0, 16);
  return `${keyId}/${version}/${fingerprint}`;
};

const associatedDataOf = (keyId: string): Buffer => Buffer.from(`${CONTEXT}${keyId}`);

const pack = (jwe: string, keyId: string): KmsSealed => {
  const bytes = Buffer.from(jwe, 'ascii');
  if (bytes.length <= MAX_CIPHERTEXT_BYTES) return { ciphertext: bytes, keyId, annotations: {} };
  return { ciphertext: hash('sha256', bytes, 'buffer'), keyId, annotations: { [JWE_ANNOTATION]: bytes } };
};

const unpack = ({ ciphertext, annotations }: KmsDecryptInput): string => {
  const { [JWE_ANNOTATION]: annotated, ...others } = annotations;
  if (Object.keys(others).length > 0) throw invalid('annotations', `only "${JWE_ANNOTATION}" is known`);
  requireSize('ciphertext', ciphertext.length, MAX_CIPHERTEXT_BYTES);
  if (annotated === undefined) return ciphertext.toString('latin1');
  requireSize('annotations', JWE_ANNOTATION.length + annotated.length, MAX_ANNOTATIONS_BYTES - 1);
  const digest = hash('sha256', annotated, 'buffer');
  if (ciphertext.length !== digest.length || !timingSafeEqual(ciphertext, digest)) {
    throw new AgentError('INVALID_CIPHERTEXT');
  }
  return annotated.toString('latin1');
};

export const kmsEncrypt = (ports: Ports, call: Call, input: KmsEncryptInput): Promise<Performed<KmsSealed>> =>
  perform(ports, call, 'encrypt', async (run) => {
    const { plaintext } = input;
    requireSize('plaintext', plaintext.length, MAX_PLAINTEXT_BYTES);
    const key = run.key(input.key);
    requireBelowCeiling(ports, key);
    const version = await run.apply(key);
    const content = await contentKeyFor(ports, run, key, version, plaintext.length);
    const kid = kidOf(key.tenant, key.keyId, version.version);
    const keyId = kmsKeyIdOf(key, version);
    const associatedData = associatedDataOf(keyId);
    return pack(sealJwe(content, { alg: version.jose, kid, plaintext, associatedData }), keyId);
  });

/** Any key of the tenant that the grants allow: what an earlier configuration encrypted stays readable. */
export const kmsDecrypt = (
  ports: Ports,
  call: Call,
  input: KmsDecryptInput,
): Promise<Performed<{ readonly plaintext: Buffer }>> =>
  perform(ports, call, 'decrypt', async (run) => {
    requireSize('key_id', input.keyId.length, MAX_KEY_ID_BYTES);
    const [key = ''] = input.keyId.split('/', 1);
    if (!KEY_ID_PATTERN.test(key)) throw invalid('key_id', 'is not one that this plugin has given out');
    const recipients = [parseCompactJwe(unpack(input))];
    const associatedData = associatedDataOf(input.keyId);
    const { plaintext } = await openJwe(ports, run, { recipients, key, keyField: 'key_id', associatedData });
    return { plaintext };
  });

export interface KmsState {
  /** Empty where there is no such key. */
  readonly keyId: string;
  /** Why Encrypt or Decrypt would be refused now. */
  readonly refusal: AgentError | undefined;
}

/** From memory alone: neither token nor disk is asked, no use is taken and nothing is recorded. */
export const kmsState = (ports: Ports, call: Call, name: string): KmsState => {
  let keyId = '';
  try {
    for (const operation of ['encrypt', 'decrypt'] as const) {
      const run = new Run(ports, call, operation);
      const key = run.key(name);
      const version = primaryVersion(key);
      if (version === undefined) throw new AgentError('KEY_STATE', { message: 'the key has no primary version' });
      keyId = kmsKeyIdOf(key, version);
      if (operation === 'encrypt') requireBelowCeiling(ports, key);
      run.decide({ algorithm: version.algorithm, jose: version.jose, custody: version.custody });
    }
    return { keyId, refusal: undefined };
  } catch (thrown) {
    if (thrown instanceof AgentError) return { keyId, refusal: thrown };
    throw thrown;
  }
};
