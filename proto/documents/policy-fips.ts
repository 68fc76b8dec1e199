// What the boundaries of `fipsOnly` refuse. `algorithms`: primitives that are not approved. `private-keys`: also keys
// outside the token. `everything`: also work that this agent does outside the token (docs/spec/policy.md, "fipsOnly").
import { ALGORITHMS, type AlgorithmRow, algorithm, type Custody } from './algorithms.ts';
import type { OperationName } from './operations.ts';
import type { FipsBoundary } from './policy-types.ts';

/** One algorithm under one JOSE name, as a question names it. */
export interface AlgorithmUse {
  readonly algorithm: string | undefined;
  readonly jose: string | undefined;
}

/** Operations that use the secret or private part of a key of the catalogue. */
const WITH_SECRET: ReadonlySet<OperationName> = new Set([
  'encrypt',
  'decrypt',
  'sign',
  'verify',
  'mac',
  'verify-mac',
  're-encrypt',
  'rewrap',
  're-sign',
  'generate-data-key',
  'decrypt-data-key',
]);

/** What the agent does in Node's OpenSSL, outside the token, for each operation; absent: nothing. */
const OUTSIDE_TOKEN: Readonly<Partial<Record<OperationName, string>>> = {
  encrypt: 'content encryption',
  decrypt: 'content decryption',
  'encrypt-to': 'content encryption',
  sign: 'hashing of the message',
  verify: 'the verification',
  'verify-with': 'the verification',
  'encrypt-general': 'content encryption',
  're-encrypt': 'content encryption',
  rewrap: 'the making of key wraps',
  're-sign': 'the verification',
  'generate-data-key': 'content encryption',
  'decrypt-data-key': 'content decryption',
  'import-key': 'the unwrapping of the imported key',
  'generate-random': 'the mixing of random bytes',
};

/** Signatures for which the token takes the whole message (RFC 8032 pure Ed25519, FIPS 204 pure ML-DSA). */
const HASHED_IN_TOKEN: ReadonlySet<string> = new Set(['Ed25519', 'ML-DSA-44', 'ML-DSA-65', 'ML-DSA-87']);

const rowsOf = ({ algorithm: id, jose }: AlgorithmUse): readonly (AlgorithmRow | undefined)[] => {
  if (id !== undefined) return [algorithm(id)];
  const serving = ALGORITHMS.filter((row) => Object.values(row.jose).some((names) => names.includes(jose ?? '')));
  return jose === undefined ? [] : serving.length === 0 ? [undefined] : serving;
};

/** Why the boundary refuses this, in words; undefined where it does not. */
export const fipsRefusal = (
  boundary: FipsBoundary | false,
  name: OperationName,
  use: AlgorithmUse,
  custody: Custody | undefined,
): string | undefined => {
  if (boundary === false) return undefined;
  if (rowsOf(use).some((row) => row?.fips == null)) return `${use.algorithm ?? use.jose} is not FIPS-approved`;
  if (boundary === 'algorithms') return undefined;
  // A question without custody about the use of a key fails closed; a key still to be made has none yet.
  if (custody !== 'hsm' && (custody !== undefined || WITH_SECRET.has(name)))
    return `the key is not held by the token (custody ${custody ?? 'unknown'}), which the boundary "${boundary}" needs`;
  if (boundary === 'private-keys') return undefined;
  const outside = name === 'sign' && HASHED_IN_TOKEN.has(use.jose ?? '') ? undefined : OUTSIDE_TOKEN[name];
  return outside && `${outside} happens outside the token, which the boundary "everything" does not allow`;
};
