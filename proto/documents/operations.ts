// The one table of operations: what each is called in policy, grants and audit, the scope it needs, and how it
// touches a key. "apply" and "process" are the terms of NIST SP 800-57 part 1, section 5.3.5.
import type { Purpose } from './algorithms.ts';

export const SCOPES = [
  'keys.read',
  'keys.manage',
  'keys.revoke',
  'crypto.encrypt',
  'crypto.decrypt',
  'crypto.sign',
  'crypto.verify',
  'crypto.mac',
  'crypto.random',
  'audit.read',
  'agent.status',
] as const;
export type Scope = (typeof SCOPES)[number];

/** apply: makes new ciphertext, signatures, MACs. process: reads old ones. manage: changes a record. read: looks. */
export type OperationKind = 'apply' | 'process' | 'manage' | 'read';

export interface OperationRow {
  readonly kind: OperationKind;
  readonly scope: Scope | null;
  /** A second scope that is needed as well: the operation reads with one key and writes with another. */
  readonly alsoScope?: Scope;
  /** The purpose that the key must have. */
  readonly purpose?: Purpose;
  /** Cannot be undone: its intent is recorded before it acts. */
  readonly irreversible?: true;
  /** Policy is asked with the algorithm once that is known; without this it is asked at the door. */
  readonly algorithm?: true;
}

export const OPERATIONS = {
  'create-key': { kind: 'manage', scope: 'keys.manage', algorithm: true },
  'get-key': { kind: 'read', scope: 'keys.read' },
  'list-keys': { kind: 'read', scope: 'keys.read' },
  'update-key': { kind: 'manage', scope: 'keys.manage' },
  'rotate-key': { kind: 'manage', scope: 'keys.manage', irreversible: true, algorithm: true },
  'suspend-key': { kind: 'manage', scope: 'keys.manage' },
  'resume-key': { kind: 'manage', scope: 'keys.manage' },
  'revoke-key': { kind: 'manage', scope: 'keys.revoke', irreversible: true },
  'destroy-key': { kind: 'manage', scope: 'keys.revoke', irreversible: true },
  'restore-key': { kind: 'manage', scope: 'keys.revoke' },
  'get-public-key': { kind: 'read', scope: 'keys.read' },
  'rotate-tenant-kek': { kind: 'manage', scope: 'keys.manage', irreversible: true, algorithm: true },
  'get-import-key': { kind: 'read', scope: 'keys.manage', algorithm: true },
  'import-key': { kind: 'manage', scope: 'keys.manage', algorithm: true },
  encrypt: { kind: 'apply', scope: 'crypto.encrypt', purpose: 'encrypt', algorithm: true },
  decrypt: { kind: 'process', scope: 'crypto.decrypt', purpose: 'encrypt', algorithm: true },
  sign: { kind: 'apply', scope: 'crypto.sign', purpose: 'sign', algorithm: true },
  verify: { kind: 'process', scope: 'crypto.verify', purpose: 'sign', algorithm: true },
  mac: { kind: 'apply', scope: 'crypto.mac', purpose: 'mac', algorithm: true },
  'verify-mac': { kind: 'process', scope: 'crypto.mac', purpose: 'mac', algorithm: true },
  'generate-random': { kind: 'apply', scope: 'crypto.random' },
  'encrypt-to': { kind: 'apply', scope: 'crypto.encrypt', algorithm: true },
  'verify-with': { kind: 'process', scope: 'crypto.verify', algorithm: true },
  'encrypt-general': { kind: 'apply', scope: 'crypto.encrypt', algorithm: true },
  're-encrypt': {
    kind: 'apply',
    scope: 'crypto.encrypt',
    alsoScope: 'crypto.decrypt',
    purpose: 'encrypt',
    algorithm: true,
  },
  rewrap: { kind: 'apply', scope: 'crypto.encrypt', alsoScope: 'crypto.decrypt', purpose: 'encrypt', algorithm: true },
  're-sign': { kind: 'apply', scope: 'crypto.sign', alsoScope: 'crypto.verify', purpose: 'sign', algorithm: true },
  'generate-data-key': { kind: 'apply', scope: 'crypto.encrypt', purpose: 'encrypt', algorithm: true },
  'decrypt-data-key': { kind: 'process', scope: 'crypto.decrypt', purpose: 'encrypt', algorithm: true },
  'who-am-i': { kind: 'read', scope: null },
  'get-status': { kind: 'read', scope: 'agent.status' },
  explain: { kind: 'read', scope: 'agent.status' },
  'list-audit-records': { kind: 'read', scope: 'audit.read' },
  'tail-audit-records': { kind: 'read', scope: 'audit.read' },
  'get-audit-checkpoint': { kind: 'read', scope: 'audit.read' },
  'verify-audit-log': { kind: 'read', scope: 'audit.read' },
  // Of one's own records without a scope; of others' with audit.read.
  'get-receipt': { kind: 'read', scope: null },
  // Ways to carry other operations, each of which has its own record: under these names only messages that could not
  // be read are recorded, and who was refused at the door.
  pipeline: { kind: 'read', scope: null },
  batch: { kind: 'read', scope: null },
} as const satisfies Record<string, OperationRow>;

export type OperationName = keyof typeof OPERATIONS;
export const OPERATION_NAMES = Object.keys(OPERATIONS) as readonly OperationName[];
/** The row of an operation, without its literal types. */
export const operation = (name: OperationName): OperationRow => OPERATIONS[name];
