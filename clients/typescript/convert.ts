// From the generated message types to the plain types of the API and back. Nothing else knows both.
import type { AuditRecord as AuditRecordMessage } from '../../proto/gen/mortise/agent/v1/audit.ts';
import type { GetStatusResponse } from '../../proto/gen/mortise/agent/v1/status.ts';
import {
  Custody as CustodyMessage,
  type Envelope as EnvelopeMessage,
  type KeyLimits as KeyLimitsMessage,
  type Key as KeyMessage,
  KeyState as KeyStateMessage,
  type KeyVersion as KeyVersionMessage,
  Origin as OriginMessage,
  Purpose as PurposeMessage,
  VersionState as VersionStateMessage,
} from '../../proto/gen/mortise/agent/v1/types.ts';
import { MortiseError } from './errors.ts';
import type {
  AgentStatus,
  AuditRecord,
  Custody,
  Envelope,
  Key,
  KeyLimits,
  KeyState,
  KeyVersion,
  Origin,
  Purpose,
  VersionState,
} from './types.ts';

/** A public key as requests carry it: a JWK as JSON, PEM as it is. */
export const publicKeyText = (key: object | string): string => (typeof key === 'string' ? key : JSON.stringify(key));

/** A view, not a copy: the bytes are on their way out before the call returns to the caller. */
export const bytesOf = (bytes: Uint8Array): Buffer =>
  Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);

const PURPOSES: Readonly<Record<Purpose, PurposeMessage>> = {
  encrypt: PurposeMessage.ENCRYPT,
  sign: PurposeMessage.SIGN,
  mac: PurposeMessage.MAC,
};
const CUSTODIES: Readonly<Record<Custody, CustodyMessage>> = {
  hsm: CustodyMessage.HSM,
  wrapped: CustodyMessage.WRAPPED,
  split: CustodyMessage.SPLIT,
};
const ORIGINS: Readonly<Record<Origin, OriginMessage>> = {
  generated: OriginMessage.GENERATED,
  imported: OriginMessage.IMPORTED,
};
const KEY_STATES: Readonly<Record<KeyState, KeyStateMessage>> = {
  PRE_ACTIVE: KeyStateMessage.PRE_ACTIVE,
  ACTIVE: KeyStateMessage.ACTIVE,
  SUSPENDED: KeyStateMessage.SUSPENDED,
  EXPIRED: KeyStateMessage.EXPIRED,
  REVOKED: KeyStateMessage.REVOKED,
  PENDING_DESTRUCTION: KeyStateMessage.PENDING_DESTRUCTION,
  DESTROYED: KeyStateMessage.DESTROYED,
};
const VERSION_STATES: Readonly<Record<VersionState, VersionStateMessage>> = {
  PRIMARY: VersionStateMessage.PRIMARY,
  RETIRED: VersionStateMessage.RETIRED,
  REVOKED: VersionStateMessage.REVOKED,
  DESTROYED: VersionStateMessage.DESTROYED,
};

/** The plain word for a message's value; one that this client does not know is an error, never a guess. */
const plain = <Plain extends string, Message>(table: Readonly<Record<Plain, Message>>, value: Message): Plain => {
  const found = (Object.keys(table) as Plain[]).find((name) => table[name] === value);
  if (found === undefined) {
    throw new MortiseError('INTERNAL', { message: `the agent answered "${String(value)}", unknown to this client` });
  }
  return found;
};

export const purposeMessage = (purpose: Purpose): PurposeMessage => PURPOSES[purpose];
export const keyStateMessage = (state: KeyState): KeyStateMessage => KEY_STATES[state];

export const envelopeOf = (message: EnvelopeMessage | undefined): Envelope => ({
  keyRequested: message?.keyRequested ?? '',
  keyUsed: message?.keyUsed && { keyId: message.keyUsed.keyId, version: message.keyUsed.version },
  algorithmUsed: message?.algorithmUsed ?? '',
  warnings: message?.warnings.map(({ code, message: text }) => ({ code, message: text })) ?? [],
  correlationId: message?.correlationId ?? '',
  eventId: message?.eventId ?? '',
});

export const limitsMessage = (limits: KeyLimits): KeyLimitsMessage => ({
  softUses: BigInt(limits.softUses ?? 0),
  hardUses: BigInt(limits.hardUses ?? 0),
  softExpiry: limits.softExpiry,
  hardExpiry: limits.hardExpiry,
});

const limitsOf = (message: KeyLimitsMessage | undefined): KeyLimits => ({
  ...(message?.softUses && { softUses: Number(message.softUses) }),
  ...(message?.hardUses && { hardUses: Number(message.hardUses) }),
  ...(message?.softExpiry && { softExpiry: message.softExpiry }),
  ...(message?.hardExpiry && { hardExpiry: message.hardExpiry }),
});

const versionOf = (message: KeyVersionMessage): KeyVersion => ({
  version: message.version,
  algorithm: message.algorithm,
  joseAlgorithm: message.joseAlgorithm,
  state: plain(VERSION_STATES, message.state),
  custody: plain(CUSTODIES, message.custody),
  origin: plain(ORIGINS, message.origin),
  createTime: message.createTime,
  uses: Number(message.uses),
  lastApplyTime: message.lastApplyTime,
  lastProcessTime: message.lastProcessTime,
  sunsetWarnTime: message.sunsetWarnTime,
  sunsetTime: message.sunsetTime,
});

export const keyOf = (message: KeyMessage | undefined): Key => {
  if (message === undefined) throw new MortiseError('INTERNAL', { message: 'the agent answered without a key' });
  return {
    keyId: message.keyId,
    tenant: message.tenant,
    purpose: plain(PURPOSES, message.purpose),
    state: plain(KEY_STATES, message.state),
    labels: message.labels,
    limits: limitsOf(message.limits),
    grants: message.grants.map(({ principal, operations }) => ({ principal, operations })),
    versions: message.versions.map(versionOf),
    createTime: message.createTime,
    updateTime: message.updateTime,
    activationTime: message.activationTime,
    destroyTime: message.destroyTime,
    revision: Number(message.revision),
    uses: Number(message.uses),
  };
};

export const auditRecordOf = (message: AuditRecordMessage): AuditRecord => ({
  ...message,
  index: Number(message.index),
});

export const agentStatusOf = (message: GetStatusResponse): AgentStatus => ({
  ...message,
  policies: message.policies.map((policy) => ({ ...policy, version: Number(policy.version) })),
});
