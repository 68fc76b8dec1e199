// RotateKey: a new primary version under the same key id; the old one is retired and still decrypts and verifies. Uses
// and expiry begin anew. Of concurrent rotations one wins; what the others generated is discarded.
import { algorithm as algorithmRow } from '../../proto/documents/algorithms.ts';
import { MAX_VERSIONS } from '../../proto/documents/key-attributes.ts';
import type { KeyRecord, KeyVersionRecord } from '../../proto/documents/key-record.ts';
import { primaryVersion } from '../../proto/documents/key-states.ts';
import { findSignatureAlgorithm } from '../crypto/signature-algorithms.ts';
import { AgentError, invalid } from '../errors.ts';
import { type KeyOutput, nextRecord, storedKey, viewKey } from './key-change.ts';
import { renewLimits } from './key-limits.ts';
import { makeVersion, planVersion, storeOrDiscard, type VersionPlan } from './key-version.ts';
import { type Part, type Performed, type Ports, perform, type Run } from './perform.ts';
import type { Call } from './ports/call.ts';

export interface RotateKeyInput {
  readonly key: string;
  /** Empty: as before, or the policy's default where that is no longer allowed. */
  readonly algorithm: string;
  readonly jose: string;
  /** Undefined: whatever is the primary version. */
  readonly expectedVersion: number | undefined;
  readonly acceptLoss: boolean;
}

/** Whatever the new version comes from, the key is rotated: by its grants, its state and policy. */
export const ROTATING: Part = { as: 'rotate-key' };

/** What callers can do with a version that they may not be able to do with another algorithm's. */
const abilities = ({ algorithm: id, jose }: Pick<VersionPlan, 'algorithm' | 'jose'>): readonly string[] => {
  const kinds = algorithmRow(id)?.kinds ?? [];
  const open = kinds.includes('key-establishment') || kinds.includes('signature');
  const digest = findSignatureAlgorithm(jose)?.digest !== undefined; // absent: it signs the message itself
  return [...(open ? ['hand out a public key'] : []), ...(digest ? ['sign a digest'] : [])];
};

const wish = (ports: Ports, run: Run, key: KeyRecord, primary: KeyVersionRecord, input: RotateKeyInput) => {
  const { purpose } = key;
  if (input.algorithm !== '') return { algorithm: input.algorithm, jose: input.jose, purpose };
  const jose = input.jose === '' ? primary.jose : input.jose;
  const same = { algorithm: primary.algorithm, jose, purpose };
  const question = { tenant: run.tenant, operation: run.name, algorithm: primary.algorithm, jose };
  if (ports.policy.decide(question).allowed) return same;
  const id = ports.policy.defaultAlgorithm(run.tenant, purpose);
  return id === undefined || id === primary.algorithm ? same : { algorithm: id, jose: input.jose, purpose };
};

export const refuseLoss = (from: KeyVersionRecord, to: VersionPlan): void => {
  const kept = abilities(to);
  const lost = abilities(from).filter((ability) => !kept.includes(ability));
  if (lost.length === 0) return;
  throw invalid(
    'accept_loss',
    `rotating from ${from.algorithm} to ${to.algorithm}, the key can no longer ${lost.join(' or ')}`,
  );
};

export const currentPrimary = (key: KeyRecord, expected: number | undefined): KeyVersionRecord => {
  const primary = primaryVersion(key);
  if (primary === undefined) throw new AgentError('KEY_STATE', { message: 'the key has no primary version' });
  if (expected === undefined || expected === primary.version) return primary;
  throw new AgentError('KEY_CONFLICT', {
    message: `the primary version is ${primary.version}, not ${expected}`,
    metadata: { version: String(primary.version) },
  });
};

/** The record with the new version, made from the record as it is now: generating may have taken seconds. */
export const withVersion = (ports: Ports, run: Run, name: string, made: KeyVersionRecord, old: number): KeyRecord => {
  const key = run.key(name, 'key', ROTATING);
  const primary = currentPrimary(key, old);
  const versions = key.versions.map((row) => (row === primary ? { ...row, state: 'RETIRED' as const } : row));
  const policy = ports.policy.keyLimits(run.tenant);
  const limits = renewLimits(key.limits, policy, primary.createdAt, made.createdAt);
  return nextRecord(ports, key, { versions: [...versions, made], limits });
};

export const nextNumber = (key: KeyRecord): number => {
  if (key.versions.length >= MAX_VERSIONS) {
    throw new AgentError('KEY_LIMIT', { message: `the key has ${MAX_VERSIONS} versions; make a new key` });
  }
  return (key.versions.at(-1)?.version ?? 0) + 1;
};

const rotate = async (ports: Ports, run: Run, input: RotateKeyInput): Promise<KeyOutput> => {
  const key = run.key(input.key);
  const primary = currentPrimary(key, input.expectedVersion);
  run.used(key, primary);
  const number = nextNumber(key);
  const plan = planVersion(ports, run, wish(ports, run, key, primary, input));
  if (!input.acceptLoss) refuseLoss(primary, plan);
  run.note({
    previousVersion: primary.version,
    newVersion: number,
    previousAlgorithm: primary.jose,
    newAlgorithm: plan.jose,
    custody: plan.custody,
  });
  await run.intend();
  const made = await makeVersion(ports, run, plan, { keyId: key.keyId, version: number, purpose: key.purpose });
  await storeOrDiscard(ports, made, async () => {
    await ports.keys.replace(withVersion(ports, run, input.key, made, primary.version));
  });
  run.used(key, made);
  return { key: viewKey(ports, storedKey(ports, key)) };
};

export const rotateKey = (ports: Ports, call: Call, input: RotateKeyInput): Promise<Performed<KeyOutput>> =>
  perform(ports, call, 'rotate-key', (run) => rotate(ports, run, input));
