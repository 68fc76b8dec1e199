// The inventory, key after key as the agent lists them. Invariant: one page of keys is in memory, however many there are.
import { type QuantumRisk, quantumRisk } from '../../../proto/documents/quantum-risk.ts';
import type { CallOptions, Key, KeyQuery, KeyState, KeyVersion, MortiseClient } from '../../typescript/index.ts';

/** Destroyed keys too: what was recorded under them is still somewhere. */
const EVERY_STATE: readonly KeyState[] = [
  'PRE_ACTIVE',
  'ACTIVE',
  'SUSPENDED',
  'EXPIRED',
  'REVOKED',
  'PENDING_DESTRUCTION',
  'DESTROYED',
];
const PAGE_KEYS = 100;

export interface VersionEntry extends KeyVersion {
  readonly quantumRisk: QuantumRisk;
  /** The later of its last application and its last reading. */
  readonly lastUseTime: Date | undefined;
}

export interface KeyEntry extends Key {
  readonly versions: readonly VersionEntry[];
}

const later = (a: Date | undefined, b: Date | undefined): Date | undefined =>
  a === undefined || (b !== undefined && b > a) ? b : a;

const versionEntry = (key: Key, version: KeyVersion): VersionEntry => ({
  ...version,
  quantumRisk: quantumRisk(version.algorithm, key.purpose),
  lastUseTime: later(version.lastApplyTime, version.lastProcessTime),
});

export interface InventoryQuery extends KeyQuery {
  /** Only versions that a quantum computer breaks. */
  readonly vulnerable?: boolean;
}

export async function* inventory(
  client: MortiseClient,
  { vulnerable = false, ...query }: InventoryQuery,
  call: CallOptions,
): AsyncGenerator<KeyEntry> {
  for await (const key of client.keys.list({ states: EVERY_STATE, pageSize: PAGE_KEYS, ...query }, call)) {
    const versions = key.versions
      .map((version) => versionEntry(key, version))
      .filter((version) => !vulnerable || version.quantumRisk !== 'none');
    if (versions.length > 0) yield { ...key, versions };
  }
}

export interface Summary {
  keys: number;
  versions: number;
  /** Versions by risk, algorithm and custody. */
  readonly risks: Record<string, number>;
  readonly algorithms: Record<string, number>;
  readonly custodies: Record<string, number>;
  /** Versions that policy makes nothing new with any more. */
  pastSunset: number;
}

export const emptySummary = (): Summary => ({
  keys: 0,
  versions: 0,
  risks: {},
  algorithms: {},
  custodies: {},
  pastSunset: 0,
});

const count = (into: Record<string, number>, name: string): void => {
  into[name] = (into[name] ?? 0) + 1;
};

export const addTo = (summary: Summary, key: KeyEntry, now: Date): void => {
  summary.keys += 1;
  for (const version of key.versions) {
    summary.versions += 1;
    count(summary.risks, version.quantumRisk);
    count(summary.algorithms, version.algorithm);
    count(summary.custodies, version.custody);
    if (version.sunsetTime !== undefined && now >= version.sunsetTime) summary.pastSunset += 1;
  }
};
