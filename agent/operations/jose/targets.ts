// The recipients of a General JSON JWE that is to be made: keys of the tenant and public keys that the caller brings. All
// are checked before the first use is taken, so that a wrong one costs the others nothing.
import { algorithm } from '../../../proto/documents/algorithms.ts';
import { type KeyRecord, type KeyVersionRecord, kidOf } from '../../../proto/documents/key-record.ts';
import { primaryVersion } from '../../../proto/documents/key-states.ts';
import { MAX_RECIPIENTS } from '../../crypto/general-jwe.ts';
import { KEM_ALGORITHMS } from '../../crypto/kem-algorithms.ts';
import { GCM_KEY_WRAPS, type WrappedCek, wrapForPublicKey } from '../../crypto/key-management.ts';
import { type CallerJwk, MAX_JWK_BYTES, parsePublicJwk, requireUse } from '../../crypto/public-jwk.ts';
import type { JsonObject } from '../../crypto/strict-json.ts';
import { invalid } from '../../errors.ts';
import type { Ports, Run } from '../perform.ts';
import { refuseForbidden, requireSize } from './checks.ts';
import { requireBelowCeiling, wrapCek } from './content-key.ts';

/** Undefined means that the request named neither. */
export type RecipientInput = { readonly key: string } | { readonly publicJwk: string } | undefined;

export interface KeyUsed {
  readonly keyId: string;
  readonly version: number;
}

export interface KeyTarget {
  readonly kind: 'key';
  readonly key: KeyRecord;
  readonly version: KeyVersionRecord;
}

export type Target = KeyTarget | { readonly kind: 'jwk'; readonly jwk: CallerJwk; readonly alg: string };

/** The key management algorithm of a caller's public key; refuses one that is not for encryption. */
export const keyManagementOf = (jwk: CallerJwk): string => {
  requireUse(jwk, 'enc', ['encrypt', 'wrapKey', 'deriveKey', 'deriveBits']);
  refuseForbidden(jwk.alg);
  const jose = algorithm(jwk.algorithm)?.jose.encrypt?.[0];
  if (jose === undefined) throw invalid('public_jwk', `${jwk.algorithm} keys do not encrypt`);
  if (jwk.alg !== undefined && jwk.alg !== jose) throw invalid('public_jwk', `"alg" is not "${jose}"`);
  return jose;
};

type Checked = { readonly kind: 'key'; readonly key: KeyRecord } | Exclude<Target, KeyTarget>;

const check = (ports: Ports, run: Run, input: RecipientInput, field: string): Checked => {
  if (input === undefined) throw invalid(field, 'key or public_jwk is required');
  if ('key' in input) {
    const key = run.key(input.key, field, { as: 'encrypt' });
    requireBelowCeiling(ports, key);
    return { kind: 'key', key };
  }
  requireSize('public_jwk', Buffer.byteLength(input.publicJwk), MAX_JWK_BYTES);
  const jwk = parsePublicJwk(input.publicJwk);
  const alg = keyManagementOf(jwk);
  for (const name of [run.name, 'encrypt-to'] as const) run.decide({ algorithm: jwk.algorithm, jose: alg }, name);
  return { kind: 'jwk', jwk, alg };
};

const nameOf = (row: Checked): string => (row.kind === 'key' ? row.key.keyId : row.jwk.thumbprint);

/**
 * draft-ietf-jose-hpke-pq-pqt, Security Considerations: one recipient whose key a quantum computer breaks undoes what the
 * others' keys are for.
 */
const requireAllResistant = (algs: readonly string[], field: string): void => {
  const vulnerable = algs.find((alg) => alg.startsWith('RSA-OAEP') || alg.startsWith('ECDH-ES'));
  const kem = algs.find((alg) => KEM_ALGORITHMS.has(alg));
  if (vulnerable === undefined || kem === undefined) return;
  throw invalid(field, `${vulnerable} beside ${kem} would open the content to whoever breaks ${vulnerable}`);
};

const algOf = (row: Checked): string => (row.kind === 'jwk' ? row.alg : (primaryVersion(row.key)?.jose ?? ''));

/** Checks every recipient and takes one use of each key. `others` are the algorithms of recipients that are there. */
export const takeTargets = async (
  ports: Ports,
  run: Run,
  inputs: readonly RecipientInput[],
  { field, others = [] }: { readonly field: string; readonly others?: readonly string[] },
): Promise<readonly Target[]> => {
  if (inputs.length > MAX_RECIPIENTS) throw invalid(field, `at most ${MAX_RECIPIENTS}`);
  const checked = inputs.map((input) => check(ports, run, input, field));
  if (new Set(checked.map(nameOf)).size !== checked.length) throw invalid(field, 'names a recipient twice');
  requireAllResistant([...checked.map(algOf), ...others], field);
  const targets: Target[] = [];
  for (const row of checked) {
    if (row.kind === 'jwk') targets.push(row);
    else targets.push({ ...row, version: await run.apply(row.key, { as: 'encrypt' }) });
  }
  return targets;
};

export const keysUsed = (targets: readonly Target[]): readonly KeyUsed[] =>
  targets.flatMap((row) => (row.kind === 'key' ? [{ keyId: row.key.keyId, version: row.version.version }] : []));

/** For the audit record: all recipients, and as the key of the record the first of the tenant's own. */
export const noteTargets = (run: Run, targets: readonly Target[]): void => {
  const names = targets.map((row) =>
    row.kind === 'key' ? `${row.key.keyId}/${row.version.version}` : row.jwk.thumbprint,
  );
  run.note({ recipients: names });
  const own = targets.find((row) => row.kind === 'key');
  if (own !== undefined) run.used(own.key, own.version);
};

/** The header of a recipient: what the wrap needs, and who it is for. */
export const targetHeader = (target: Target, wrapped: WrappedCek): JsonObject => {
  if (target.kind === 'jwk') {
    return { alg: target.alg, kid: target.jwk.kid ?? target.jwk.thumbprint, ...wrapped.members };
  }
  const { key, version } = target;
  return { alg: version.jose, kid: kidOf(key.tenant, key.keyId, version.version), ...wrapped.members };
};

/** Wraps a content key, which is for `enc`, for a recipient. */
export const wrapForTarget = async (
  ports: Ports,
  run: Run,
  target: Target,
  { cek, enc }: { readonly cek: Buffer; readonly enc: string },
): Promise<WrappedCek> => {
  if (target.kind === 'jwk') return wrapForPublicKey(target.alg, target.jwk, cek, enc);
  const iv = GCM_KEY_WRAPS.has(target.version.jose) ? await ports.random.take(12) : Buffer.alloc(0);
  return wrapCek(ports, run, target.version, { cek, iv, enc });
};

/** All at once; when it settles no wrap is under way any more, so the content key can be wiped. */
export const settled = async <T>(work: readonly Promise<T>[]): Promise<readonly T[]> => {
  const results = await Promise.allSettled(work);
  return results.map((result) => {
    if (result.status === 'rejected') throw result.reason;
    return result.value;
  });
};
