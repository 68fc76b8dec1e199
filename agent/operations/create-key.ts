// CreateKey: a new key with its first version. Idempotent by key id.
import type { Purpose } from '../../proto/documents/algorithms.ts';
import { copyGrants, grantsFault, isTime, labelsFault } from '../../proto/documents/key-attributes.ts';
import {
  grantsAllow,
  type KeyLimits,
  type KeyRecord,
  type KeyVersionRecord,
} from '../../proto/documents/key-record.ts';
import { primaryVersion } from '../../proto/documents/key-states.ts';
import { AgentError, invalid } from '../errors.ts';
import { type KeyOutput, viewKey } from './key-change.ts';
import { mergeLimits } from './key-limits.ts';
import { makeVersion, planVersion, storeOrDiscard } from './key-version.ts';
import { type Performed, type Ports, perform, type Run } from './perform.ts';
import type { Call } from './ports/call.ts';

export interface CreateKeyInput {
  readonly keyId: string;
  readonly purpose: Purpose | undefined;
  /** Empty: the policy's default. */
  readonly algorithm: string;
  /** Empty: the first of the algorithm's row. */
  readonly jose: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly limits: KeyLimits;
  readonly grants: readonly { readonly principal: string; readonly operations: readonly string[] }[];
  readonly activatesAt?: number;
}

export const checkAttributes = (input: Pick<CreateKeyInput, 'labels' | 'grants' | 'activatesAt'>): void => {
  const labels = labelsFault(input.labels);
  if (labels !== undefined) throw invalid('labels', labels);
  const grants = grantsFault(input.grants);
  if (grants !== undefined) throw invalid('grants', grants);
  if (input.activatesAt !== undefined && !isTime(input.activatesAt)) throw invalid('activation_time', 'not a time');
};

export const checkTimes = (limits: KeyLimits, activatesAt: number | undefined, now: number): void => {
  const { hardExpiry } = limits;
  if (hardExpiry === undefined) return;
  if (hardExpiry <= now) throw invalid('limits.hard_expiry', 'is past');
  if (activatesAt !== undefined && activatesAt >= hardExpiry) {
    throw invalid('activation_time', 'not before the hard expiry');
  }
};

const defaultAlgorithm = (ports: Ports, run: Run, purpose: Purpose): string => {
  const id = ports.policy.defaultAlgorithm(run.tenant, purpose);
  if (id === undefined) throw invalid('algorithm', `policy names no default for "${purpose}"; name an algorithm`);
  return id;
};

/** The existing key, if a repeated call means it. */
const repeated = (existing: KeyRecord, input: CreateKeyInput, run: Run): KeyVersionRecord => {
  const first = existing.versions[0] as KeyVersionRecord;
  const same =
    existing.purpose === input.purpose &&
    (input.algorithm === '' || input.algorithm === first.algorithm) &&
    (input.jose === '' || input.jose === first.jose);
  const mayRead = grantsAllow(existing.grants, run.call.caller.principal, 'get-key');
  if (!same || !mayRead || existing.state === 'DESTROYED')
    throw new AgentError('KEY_EXISTS', { metadata: { key: existing.keyId } });
  run.note({ unchanged: true });
  return primaryVersion(existing) ?? first;
};

const create = async (ports: Ports, run: Run, input: CreateKeyInput): Promise<KeyOutput> => {
  const keyId = run.keyId(input.keyId, 'key_id');
  run.about({ requested: input.keyId, key: keyId });
  if (keyId !== input.keyId) throw invalid('key_id', 'a key id without the tenant');
  const { purpose } = input;
  if (purpose === undefined) throw invalid('purpose', 'encrypt, sign or mac');
  checkAttributes(input);
  const existing = ports.keys.get(run.tenant, keyId);
  if (existing !== undefined) {
    run.used(existing, repeated(existing, input, run));
    return { key: viewKey(ports, existing) };
  }
  const algorithm = input.algorithm === '' ? defaultAlgorithm(ports, run, purpose) : input.algorithm;
  const plan = planVersion(ports, run, { algorithm, jose: input.jose, purpose });
  run.about({ requested: input.keyId, key: `${keyId}/1`, algorithm: plan.jose });
  const now = ports.clock.now();
  const limits = mergeLimits(input.limits, ports.policy.keyLimits(run.tenant), now);
  checkTimes(limits, input.activatesAt, now);
  const version = await makeVersion(ports, run, plan, { keyId, version: 1, purpose });
  const record: KeyRecord = {
    tenant: run.tenant,
    keyId,
    purpose,
    state: 'ACTIVE',
    labels: { ...input.labels },
    limits,
    grants: copyGrants(input.grants),
    versions: [version],
    createdAt: now,
    updatedAt: now,
    ...(input.activatesAt !== undefined && { activatesAt: input.activatesAt }),
    revision: 1,
  };
  return await insert(ports, run, record, input);
};

const insert = async (ports: Ports, run: Run, record: KeyRecord, input: CreateKeyInput): Promise<KeyOutput> => {
  const version = record.versions[0] as KeyVersionRecord;
  try {
    await storeOrDiscard(ports, version, () => ports.keys.insert(record));
  } catch (error) {
    // Another call made the key meanwhile: the same answer as if it had come before.
    const existing = ports.keys.get(run.tenant, record.keyId);
    if (existing === undefined || !(error instanceof AgentError && error.code === 'KEY_EXISTS')) throw error;
    run.used(existing, repeated(existing, input, run));
    return { key: viewKey(ports, existing) };
  }
  run.used(record, version);
  run.note({ purpose: record.purpose, custody: version.custody, limits: record.limits, newState: 'ACTIVE' });
  return { key: viewKey(ports, record) };
};

export const createKey = (ports: Ports, call: Call, input: CreateKeyInput): Promise<Performed<KeyOutput>> =>
  perform(ports, call, 'create-key', (run) => create(ports, run, input));
