// The table state × operation of keys and of their versions (NIST SP 800-57 part 1, section 7), and the state of a
// key at a moment. docs/architecture.md prints the table; a test walks it against a running agent.
import type { KeyRecord, KeyState, KeyVersionRecord, VersionState } from './key-record.ts';
import { type OperationName, operation } from './operations.ts';

/** The state at `now`: activation and expiry are judged by time and uses, never by a timer that may not have run. */
export const stateAt = (key: KeyRecord, now: number, uses = 0): KeyState => {
  if (key.state === 'PENDING_DESTRUCTION' && key.destroyAt !== undefined && now >= key.destroyAt) return 'DESTROYED';
  if (key.state !== 'ACTIVE') return key.state;
  if (key.activatesAt !== undefined && now < key.activatesAt) return 'PRE_ACTIVE';
  const { hardExpiry, hardUses } = key.limits;
  if (hardExpiry !== undefined && now >= hardExpiry) return 'EXPIRED';
  // Reserved uses may still be in hand when the count stands at the limit, so only a count beyond it expires the key.
  if (hardUses !== undefined && uses > hardUses) return 'EXPIRED';
  return 'ACTIVE';
};

/** Operations on the record that each state allows, repeats of idempotent ones included; crypto is in CRYPTO below. */
const MANAGE: Readonly<Record<KeyState, readonly OperationName[]>> = {
  PRE_ACTIVE: ['update-key', 'rotate-key', 'suspend-key', 'resume-key', 'revoke-key', 'destroy-key', 'restore-key'],
  ACTIVE: ['update-key', 'rotate-key', 'suspend-key', 'resume-key', 'revoke-key', 'destroy-key', 'restore-key'],
  SUSPENDED: ['update-key', 'suspend-key', 'resume-key', 'revoke-key', 'destroy-key', 'restore-key'],
  EXPIRED: ['update-key', 'rotate-key', 'suspend-key', 'resume-key', 'revoke-key', 'destroy-key', 'restore-key'],
  REVOKED: ['update-key', 'revoke-key', 'destroy-key', 'restore-key'],
  PENDING_DESTRUCTION: ['destroy-key', 'restore-key'],
  DESTROYED: [],
};

/** Which kinds of cryptographic operation each state allows. */
const CRYPTO: Readonly<Record<KeyState, readonly ('apply' | 'process')[]>> = {
  PRE_ACTIVE: [],
  ACTIVE: ['apply', 'process'],
  SUSPENDED: [],
  EXPIRED: ['process'],
  REVOKED: [],
  PENDING_DESTRUCTION: [],
  DESTROYED: [],
};

/** States in which the public key is still handed out. */
const PUBLIC: ReadonlySet<KeyState> = new Set(['PRE_ACTIVE', 'ACTIVE', 'EXPIRED']);

/** Does the state of the key allow the operation? Reading the record is allowed in every state. */
export const stateAllows = (state: KeyState, name: OperationName): boolean => {
  const { kind } = operation(name);
  if (name === 'get-public-key') return PUBLIC.has(state);
  if (kind === 'read' || name === 'create-key') return true;
  if (kind === 'manage') return MANAGE[state].includes(name);
  return CRYPTO[state].includes(kind);
};

const VERSION: Readonly<Record<VersionState, readonly ('apply' | 'process')[]>> = {
  PRIMARY: ['apply', 'process'],
  RETIRED: ['process'],
  REVOKED: [],
  DESTROYED: [],
};

/** Does the state of the version allow the operation? */
export const versionAllows = (state: VersionState, kind: 'apply' | 'process'): boolean => VERSION[state].includes(kind);

/** The version that new operations use. Exactly one exists until the key is destroyed. */
export const primaryVersion = (key: KeyRecord): KeyVersionRecord | undefined =>
  key.versions.find((version) => version.state === 'PRIMARY');
