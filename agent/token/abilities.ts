// Names of what a token can be able to do, and what an algorithm needs for a purpose. An ability is claimed only after
// a self-test in the token process; the mechanism list alone lies both ways.
import { ALGORITHMS, algorithm, type Purpose } from '../../proto/documents/algorithms.ts';

export interface Ability {
  readonly name: string;
  readonly ok: boolean;
  /** Why not, for people; how, where that is worth saying. */
  readonly why?: string;
}

const CURVE_ABILITIES = ['p256', 'p384', 'p521'] as const;

/** The ability to generate a key of an algorithm. */
export const generating = (id: string): string => `generate-${id.toLowerCase()}`;

export const GENERATED: readonly string[] = ALGORITHMS.filter((row) => row.custody.includes('hsm')).map(
  (row) => row.id,
);

export const ABILITY_NAMES: readonly string[] = [
  'random',
  'aes-gcm',
  'eddsa',
  'rsa-oaep-256',
  'rsa-pkcs1',
  'rsa-pss',
  ...['256', '384', '512'].map((bits) => `hmac-sha${bits}`),
  ...CURVE_ABILITIES.flatMap((curve) => [`ecdh-${curve}`, `ecdsa-${curve}`]),
  ...GENERATED.map(generating),
].sort();

/** Abilities that use a key, by the beginning of the algorithm id and the purpose. */
const NEEDS: readonly (readonly [prefix: string, purpose: Purpose, abilities: (id: string) => readonly string[]])[] = [
  ['AES-', 'encrypt', () => ['aes-gcm']],
  ['HMAC-', 'mac', (id) => [id.toLowerCase()]],
  ['RSA-', 'sign', () => ['rsa-pss', 'rsa-pkcs1']],
  ['RSA-', 'encrypt', () => ['rsa-oaep-256']],
  ['EC-', 'sign', (id) => [`ecdsa-${id.slice(3).toLowerCase()}`]],
  ['EC-', 'encrypt', (id) => [`ecdh-${id.slice(3).toLowerCase()}`]],
  ['Ed25519', 'sign', () => ['eddsa']],
];

/** Every ability that a key of this algorithm needs for this purpose; undefined where no token could hold it. */
export const needs = (id: string, purpose: Purpose): readonly string[] | undefined => {
  const row = algorithm(id);
  if (row === undefined || !row.custody.includes('hsm') || row.jose[purpose] === undefined) return undefined;
  const use = NEEDS.find(([prefix, of]) => id.startsWith(prefix) && of === purpose);
  return use === undefined ? undefined : [generating(id), ...use[2](id)];
};

export type CanHold = { readonly ok: true } | { readonly ok: false; readonly why: string };

/** Judges by abilities; what was not tested is not held. */
export const canHold = (abilities: ReadonlyMap<string, Ability>, id: string, purpose: Purpose): CanHold => {
  const needed = needs(id, purpose);
  if (needed === undefined) return { ok: false, why: `no token key of ${id} serves ${purpose}` };
  const lacking = needed.filter((name) => abilities.get(name)?.ok !== true);
  if (lacking.length === 0) return { ok: true };
  return { ok: false, why: lacking.map((name) => `${name}: ${abilities.get(name)?.why ?? 'not tested'}`).join('; ') };
};
