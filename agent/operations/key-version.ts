// Makes a version of a key: which algorithm, whether policy and token allow it, in which custody. CreateKey and
// RotateKey share it. Invariant: what was generated is stored by the caller or discarded.
import {
  type AlgorithmRow,
  algorithm,
  type Custody,
  forbiddenAlgorithm,
  type Purpose,
} from '../../proto/documents/algorithms.ts';
import { compositePublicJwk } from '../../proto/documents/composite-keys.ts';
import type { KeyVersionRecord, PublicJwk } from '../../proto/documents/key-record.ts';
import { AgentError, invalid } from '../errors.ts';
import type { Ports, Run } from './perform.ts';

/** What a version is to be; passed by policy and within the token's abilities. */
export interface VersionPlan {
  readonly algorithm: string;
  readonly jose: string;
  readonly custody: Custody;
}

const tableRow = (run: Run, id: string): AlgorithmRow => {
  if (forbiddenAlgorithm(id) !== undefined) run.decide({ algorithm: id }); // throws ALGORITHM_FORBIDDEN
  const row = algorithm(id);
  if (row === undefined) throw invalid('algorithm', 'not in the table of algorithms');
  return row;
};

const joseOf = (run: Run, row: AlgorithmRow, purpose: Purpose, given: string): string => {
  if (forbiddenAlgorithm(given) !== undefined) run.decide({ jose: given }); // throws ALGORITHM_FORBIDDEN
  const names = row.jose[purpose] ?? [];
  const jose = given === '' ? names[0] : names.find((name) => name === given);
  if (names.length === 0) throw invalid('algorithm', `${row.id} cannot serve a key for "${purpose}"`);
  if (jose === undefined) throw invalid('jose_algorithm', `${row.id} does ${names.join(', ')}`);
  return jose;
};

/** The token holds all of it, else the classical half, else none. */
const custodyOf = (ports: Ports, tenant: string, row: AlgorithmRow, purpose: Purpose): Custody => {
  if (row.custody.includes('hsm') && ports.token.canHold(row.id, purpose, tenant).ok) return 'hsm';
  const able = ports.token.canHold(row.components?.classical ?? row.id, purpose, tenant);
  if (able.ok && row.custody.includes('split')) return 'split';
  if (row.custody.includes('wrapped')) return 'wrapped';
  const why = able.ok ? 'the table does not allow it' : able.why;
  throw new AgentError('HSM_UNSUPPORTED', {
    message: `the token cannot hold ${row.id} for "${purpose}": ${why}; get-status lists what it can hold`,
    metadata: { algorithm: row.id, purpose },
  });
};

/** Checks a wish; throws INVALID_REQUEST, ALGORITHM_FORBIDDEN, HSM_UNSUPPORTED or what policy says. */
export const planVersion = (
  ports: Ports,
  run: Run,
  wish: { readonly algorithm: string; readonly jose: string; readonly purpose: Purpose },
): VersionPlan => {
  const row = tableRow(run, wish.algorithm);
  const jose = joseOf(run, row, wish.purpose, wish.jose);
  const plan: VersionPlan = { algorithm: row.id, jose, custody: custodyOf(ports, run.tenant, row, wish.purpose) };
  run.decide(plan);
  // A key that policy would never let do its work is not made.
  const use = ports.policy.decide({ tenant: run.tenant, operation: wish.purpose, ...plan });
  if (use.allowed) return plan;
  run.note({ rule: use.rule });
  throw new AgentError(use.code, {
    message: `${wish.purpose} with it would be refused: ${use.explanation}`,
    metadata: { rule: use.rule },
  });
};

interface Made {
  readonly tokenId?: string;
  readonly wrapped?: string;
  readonly publicJwk?: PublicJwk;
}

type Identity = Parameters<Ports['objects']['generate']>[0];

/** An AKP key is for one JOSE algorithm, and of several that its algorithm id has, the plan says which. */
const forOneUse = (publicJwk: PublicJwk, { jose }: VersionPlan): PublicJwk =>
  publicJwk['kty'] === 'AKP' ? { ...publicJwk, alg: jose } : publicJwk;

const makeObject = async (ports: Ports, run: Run, plan: VersionPlan, identity: Identity): Promise<Made> => {
  const { tokenId, publicJwk } = await ports.objects.generate(identity, run.token);
  return { tokenId, ...(publicJwk !== undefined && { publicJwk: forOneUse(publicJwk, plan) }) };
};

/** Both halves are fresh: neither was, or will be, a key of its own. */
const makeHalves = async (ports: Ports, run: Run, plan: VersionPlan, identity: Identity): Promise<Made> => {
  const classical = algorithm(plan.algorithm)?.components?.classical;
  if (classical === undefined) throw new TypeError(`${plan.algorithm} has no halves`);
  const { wrapped, publicJwk: pqc } = await ports.vault.generate({ ...identity, custody: 'split' }, run.token);
  const object = await ports.objects.generate({ ...identity, algorithm: classical }, run.token);
  if (object.publicJwk === undefined) throw new TypeError(`${classical} has no public key`);
  const publicJwk = compositePublicJwk(plan.jose, { pqc, classical: object.publicJwk });
  return { tokenId: object.tokenId, wrapped, publicJwk };
};

const makeWrapped = async (
  ports: Ports,
  run: Run,
  plan: VersionPlan,
  { tenant, keyId, version, algorithm: id }: Identity,
): Promise<Made> => {
  const identity = { tenant, keyId, version, algorithm: id };
  const { wrapped, publicJwk } = await ports.vault.generate(identity, run.token);
  return { wrapped, publicJwk: forOneUse(publicJwk, plan) };
};

/** Generates the version: in the token, wrapped, or a half in each. */
export const makeVersion = async (
  ports: Ports,
  run: Run,
  plan: VersionPlan,
  what: { readonly keyId: string; readonly version: number; readonly purpose: Purpose },
): Promise<KeyVersionRecord> => {
  const { keyId, version, purpose } = what;
  const identity = { tenant: run.tenant, keyId, version, algorithm: plan.algorithm };
  const make = { hsm: makeObject, split: makeHalves, wrapped: makeWrapped }[plan.custody];
  const made = await make(ports, run, plan, { ...identity, purpose, jose: plan.jose });
  return { version, ...plan, ...made, state: 'PRIMARY', createdAt: ports.clock.now() };
};

/** Stores a record with a version just made, or discards the version's object. */
export const storeOrDiscard = async (
  ports: Ports,
  version: KeyVersionRecord,
  store: () => Promise<void>,
): Promise<void> => {
  try {
    await store();
  } catch (error) {
    if (version.tokenId !== undefined) await ports.objects.discard(version.tokenId);
    throw error;
  }
};
