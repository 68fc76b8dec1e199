// UpdateKey: replaces labels, limits or grants; what is not given stays.
import { copyGrants, grantsFault, labelsFault } from '../../proto/documents/key-attributes.ts';
import type { KeyLimits, KeyRecord } from '../../proto/documents/key-record.ts';
import { primaryVersion } from '../../proto/documents/key-states.ts';
import { AgentError, invalid } from '../errors.ts';
import { changeKey, type KeyOutput, nextRecord } from './key-change.ts';
import { mergeLimits } from './key-limits.ts';
import { type Performed, type Ports, perform, type Run } from './perform.ts';
import type { Call } from './ports/call.ts';

export interface UpdateKeyInput {
  readonly key: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly limits?: KeyLimits;
  readonly grants?: readonly { readonly principal: string; readonly operations: readonly string[] }[];
  /** Undefined: whatever the revision is. */
  readonly revision: number | undefined;
}

const DETAIL_CHARACTERS = 1000; // the detail of an audit record holds 4 KiB

/** A value for the audit detail; a large one by its size alone. */
const detail = (value: unknown): unknown => {
  const text = JSON.stringify(value);
  return text.length <= DETAIL_CHARACTERS / 2 ? value : `${text.length} characters`;
};

const changes = (ports: Ports, run: Run, key: KeyRecord, input: UpdateKeyInput): Partial<KeyRecord> => {
  const { labels, limits, grants } = input;
  const labelFault = labels && labelsFault(labels);
  if (labelFault !== undefined) throw invalid('labels', labelFault);
  const grantFault = grants && grantsFault(grants);
  if (grantFault !== undefined) throw invalid('grants', grantFault);
  const madeAt = primaryVersion(key)?.createdAt ?? key.createdAt;
  return {
    ...(labels && { labels: { ...labels } }),
    ...(limits && { limits: mergeLimits(limits, ports.policy.keyLimits(run.tenant), madeAt) }),
    ...(grants && { grants: copyGrants(grants) }),
  };
};

const update = async (ports: Ports, run: Run, input: UpdateKeyInput): Promise<KeyOutput> => {
  const from = run.key(input.key);
  if (input.revision !== undefined && !Number.isSafeInteger(input.revision)) throw invalid('revision', 'above 2^53-1');
  if (input.revision !== undefined && input.revision !== from.revision) {
    throw new AgentError('KEY_CONFLICT', {
      message: `the revision of the key is ${from.revision}, not ${input.revision}`,
      metadata: { revision: String(from.revision) },
    });
  }
  const change = changes(ports, run, from, input);
  for (const name of ['labels', 'limits', 'grants'] as const) {
    if (change[name] !== undefined) run.note({ [name]: { previous: detail(from[name]), new: detail(change[name]) } });
  }
  return await changeKey(ports, run, { from, to: nextRecord(ports, from, change) });
};

export const updateKey = (ports: Ports, call: Call, input: UpdateKeyInput): Promise<Performed<KeyOutput>> =>
  perform(ports, call, 'update-key', (run) => update(ports, run, input));
