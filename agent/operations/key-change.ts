// A change of the state of a key, the same way each time: compare-and-set on the record that was judged, both states in
// the audit record, and nothing at all where the key is already there.
import { isText, MAX_REASON_BYTES } from '../../proto/documents/key-attributes.ts';
import type { KeyRecord, KeyState, KeyVersionRecord } from '../../proto/documents/key-record.ts';
import { stateAt } from '../../proto/documents/key-states.ts';
import { AgentError, invalid } from '../errors.ts';
import type { Ports, Run } from './perform.ts';

/** A version with what was done with it, and its end by policy. Times are milliseconds since 1970. */
export interface VersionView {
  readonly record: KeyVersionRecord;
  readonly uses: number;
  readonly appliedAt: number | undefined;
  readonly processedAt: number | undefined;
  readonly sunset: { readonly warnAfter: number; readonly refuseAfter: number } | undefined;
}

/** A key with the state and the uses at the moment of the answer. */
export interface KeyView {
  readonly record: KeyRecord;
  readonly state: KeyState;
  readonly uses: number;
  readonly versions: readonly VersionView[];
}

/** Input of the operations that take a key and a reason. */
export interface KeyReasonInput {
  readonly key: string;
  readonly reason: string;
}

export interface KeyOutput {
  readonly key: KeyView;
}

/** The state as an answer shows it: a key whose uses are spent is EXPIRED, though reads still find it ACTIVE. */
export const shownState = (ports: Ports, record: KeyRecord, uses: number): KeyState => {
  const state = stateAt(record, ports.clock.now(), uses);
  const spent = record.limits.hardUses !== undefined && uses >= record.limits.hardUses;
  return state === 'ACTIVE' && spent ? 'EXPIRED' : state;
};

const viewVersion = (ports: Ports, { tenant, keyId }: KeyRecord, version: KeyVersionRecord): VersionView => {
  const { made, appliedAt, processedAt } = ports.keys.usage(tenant, keyId, version.version);
  const { algorithm, jose } = version;
  return {
    record: version,
    uses: made,
    appliedAt,
    processedAt,
    sunset: ports.policy.sunset(tenant, { algorithm, jose }),
  };
};

/** The key as an answer shows it. */
export const viewKey = (ports: Ports, record: KeyRecord): KeyView => {
  const uses = ports.keys.uses(record.tenant, record.keyId);
  const versions = record.versions.map((version) => viewVersion(ports, record, version));
  return { record, state: shownState(ports, record, uses), uses, versions };
};

/** The record that an answer shows after a change. */
export const storedKey = (ports: Ports, record: KeyRecord): KeyRecord => {
  const stored = ports.keys.get(record.tenant, record.keyId);
  if (stored === undefined) throw new AgentError('INTERNAL', { cause: new Error('a stored record is gone') });
  return stored;
};

/** The reason goes to the audit trail; it must be fit for it. */
export const noteReason = (run: Run, reason: string): void => {
  if (!isText(reason, 0, MAX_REASON_BYTES)) {
    throw invalid('reason', `at most ${MAX_REASON_BYTES} bytes without control characters`);
  }
  if (reason !== '') run.note({ reason });
};

/** The next revision of a record. */
export const nextRecord = (ports: Ports, record: KeyRecord, change: Partial<KeyRecord>): KeyRecord => ({
  ...record,
  ...change,
  updatedAt: ports.clock.now(),
  revision: record.revision + 1,
});

/** Stores the next revision after noting both states; with `intend` its intent is recorded first. */
export const changeKey = async (
  ports: Ports,
  run: Run,
  change: { readonly from: KeyRecord; readonly to: KeyRecord; readonly intend?: true },
): Promise<KeyOutput> => {
  const { from, to, intend } = change;
  run.note({ previousState: from.state, newState: to.state });
  if (intend) await run.intend();
  await ports.keys.replace(to);
  return { key: viewKey(ports, storedKey(ports, to)) };
};

/** The answer of a repeated call: nothing was changed, and the audit record says so. */
export const unchanged = (ports: Ports, run: Run, record: KeyRecord): KeyOutput => {
  run.note({ previousState: record.state, newState: record.state, unchanged: true });
  return { key: viewKey(ports, record) };
};
