// KeysService: proto ↔ plain values, nothing else. What a value may be is checked in the use cases; a number that a
// plain value cannot hold exactly is handed on as one that they refuse.
import type { Purpose as PlainPurpose } from '../../../proto/documents/algorithms.ts';
import type {
  Grant as PlainGrant,
  KeyLimits as PlainLimits,
  KeyState as PlainState,
} from '../../../proto/documents/key-record.ts';
import * as keys from '../../../proto/gen/mortise/agent/v1/keys.ts';
import {
  Custody,
  type Grant,
  type Key,
  type KeyLimits,
  KeyState,
  type KeyVersion,
  Origin,
  type Envelope as ProtoEnvelope,
  Purpose,
  VersionState,
} from '../../../proto/gen/mortise/agent/v1/types.ts';
import { createKey } from '../../operations/create-key.ts';
import { destroyKey } from '../../operations/destroy-key.ts';
import { getImportKey } from '../../operations/get-import-key.ts';
import { getKey } from '../../operations/get-key.ts';
import { getPublicKey } from '../../operations/get-public-key.ts';
import { importKey } from '../../operations/import-key.ts';
import type { KeyOutput, KeyReasonInput, KeyView, VersionView } from '../../operations/key-change.ts';
import { listKeys } from '../../operations/list-keys.ts';
import type { Performed, Ports } from '../../operations/perform.ts';
import type { Envelope } from '../../operations/ports/answer.ts';
import type { Call } from '../../operations/ports/call.ts';
import { restoreKey } from '../../operations/restore-key.ts';
import { resumeKey } from '../../operations/resume-key.ts';
import { revokeKey } from '../../operations/revoke-key.ts';
import { rotateKey } from '../../operations/rotate-key.ts';
import { rotateTenantKek } from '../../operations/rotate-tenant-kek.ts';
import { suspendKey } from '../../operations/suspend-key.ts';
import { updateKey } from '../../operations/update-key.ts';

const PURPOSES = { encrypt: Purpose.ENCRYPT, sign: Purpose.SIGN, mac: Purpose.MAC } as const;
const CUSTODIES = { hsm: Custody.HSM, wrapped: Custody.WRAPPED, split: Custody.SPLIT } as const;
const FORMATS: ReadonlyMap<keys.PublicKeyFormat, 'jwk' | 'pem' | 'jwks'> = new Map([
  [keys.PublicKeyFormat.UNSPECIFIED, 'jwk'],
  [keys.PublicKeyFormat.JWK, 'jwk'],
  [keys.PublicKeyFormat.PEM, 'pem'],
  [keys.PublicKeyFormat.JWKS, 'jwks'],
]);

const toPurpose = (purpose: Purpose): PlainPurpose | undefined =>
  (Object.keys(PURPOSES) as PlainPurpose[]).find((name) => PURPOSES[name] === purpose);

/** UNSPECIFIED becomes a name that no key has, so that the use case refuses it. */
const toState = (state: KeyState): PlainState => state.replace('KEY_STATE_', '') as PlainState;

/** 0 means unset. Above 2^53-1 a number is not exact; infinity is refused with the field's name. */
const toCount = (value: bigint): number | undefined =>
  value === 0n ? undefined : value > BigInt(Number.MAX_SAFE_INTEGER) ? Number.POSITIVE_INFINITY : Number(value);
const toNumber = (value: number): number | undefined => (value === 0 ? undefined : value);

const toLimits = (limits: KeyLimits): PlainLimits => {
  const [softUses, hardUses] = [toCount(limits.softUses), toCount(limits.hardUses)];
  return {
    ...(softUses !== undefined && { softUses }),
    ...(hardUses !== undefined && { hardUses }),
    ...(limits.softExpiry && { softExpiry: limits.softExpiry.getTime() }),
    ...(limits.hardExpiry && { hardExpiry: limits.hardExpiry.getTime() }),
  };
};

const fromTime = (time: number | undefined): Date | undefined => (time === undefined ? undefined : new Date(time));

const fromLimits = (limits: PlainLimits): KeyLimits => ({
  softUses: BigInt(limits.softUses ?? 0),
  hardUses: BigInt(limits.hardUses ?? 0),
  softExpiry: fromTime(limits.softExpiry),
  hardExpiry: fromTime(limits.hardExpiry),
});

const fromGrant = ({ principal, operations }: PlainGrant): Grant => ({ principal, operations: [...operations] });

const fromVersion = ({ record: version, uses, appliedAt, processedAt, sunset }: VersionView): KeyVersion => ({
  version: version.version,
  algorithm: version.algorithm,
  joseAlgorithm: version.jose,
  state: VersionState[version.state],
  custody: CUSTODIES[version.custody],
  createTime: new Date(version.createdAt),
  origin: version.origin === 'imported' ? Origin.IMPORTED : Origin.GENERATED,
  uses: BigInt(uses),
  lastApplyTime: fromTime(appliedAt),
  lastProcessTime: fromTime(processedAt),
  sunsetWarnTime: fromTime(sunset?.warnAfter),
  sunsetTime: fromTime(sunset?.refuseAfter),
});

const fromKey = ({ record, state, uses, versions }: KeyView): Key => ({
  keyId: record.keyId,
  tenant: record.tenant,
  purpose: PURPOSES[record.purpose],
  state: KeyState[state],
  labels: { ...record.labels },
  limits: fromLimits(record.limits),
  grants: record.grants.map(fromGrant),
  versions: versions.map(fromVersion),
  createTime: new Date(record.createdAt),
  updateTime: new Date(record.updatedAt),
  activationTime: fromTime(record.activatesAt),
  destroyTime: record.state === 'PENDING_DESTRUCTION' ? fromTime(record.destroyAt) : undefined,
  revision: BigInt(record.revision),
  uses: BigInt(uses),
});

const fromEnvelope = ({ warnings, ...envelope }: Envelope): ProtoEnvelope => ({ ...envelope, warnings: [...warnings] });

type KeyReasonOperation = (ports: Ports, call: Call, input: KeyReasonInput) => Promise<Performed<KeyOutput>>;

/** Handler of an operation that takes a key and a reason and answers with the key. */
const keyReason = (ports: Ports, act: KeyReasonOperation) => async (call: Call, request: KeyReasonInput) => {
  const { value } = await act(ports, call, { key: request.key, reason: request.reason });
  return { key: fromKey(value.key) };
};

const readHandlers = (ports: Ports) => ({
  getKey: async (call: Call, { key }: keys.GetKeyRequest): Promise<keys.GetKeyResponse> => {
    const { value } = await getKey(ports, call, { key });
    return { key: fromKey(value.key) };
  },
  listKeys: async (call: Call, request: keys.ListKeysRequest): Promise<keys.ListKeysResponse> => {
    const { pageToken, labels, prefix } = request;
    const purpose = toPurpose(request.purpose);
    const plain = { pageSize: toNumber(request.pageSize), purpose, states: request.states.map(toState) };
    const { value } = await listKeys(ports, call, { ...plain, pageToken, labels, prefix });
    return { keys: value.keys.map(fromKey), nextPageToken: value.nextPageToken };
  },
  getPublicKey: async (call: Call, request: keys.GetPublicKeyRequest): Promise<keys.GetPublicKeyResponse> => {
    const { key, version, format } = request;
    const plain = { key, version: toNumber(version), format: FORMATS.get(format) };
    const { value, envelope } = await getPublicKey(ports, call, plain);
    return { publicKey: value.publicKey, envelope: fromEnvelope(envelope) };
  },
});

const changeHandlers = (ports: Ports) => ({
  createKey: async (call: Call, request: keys.CreateKeyRequest): Promise<keys.CreateKeyResponse> => {
    const { keyId, algorithm, joseAlgorithm: jose, labels, limits, grants, activationTime } = request;
    const { value, envelope } = await createKey(ports, call, {
      keyId,
      purpose: toPurpose(request.purpose),
      algorithm,
      jose,
      labels,
      limits: limits === undefined ? {} : toLimits(limits),
      grants,
      ...(activationTime && { activatesAt: activationTime.getTime() }),
    });
    return { key: fromKey(value.key), envelope: fromEnvelope(envelope) };
  },
  getImportKey: async (call: Call, _: keys.GetImportKeyRequest): Promise<keys.GetImportKeyResponse> => {
    const { value, envelope } = await getImportKey(ports, call);
    return { publicJwk: value.publicJwk, expireTime: new Date(value.expiresAt), envelope: fromEnvelope(envelope) };
  },
  importKey: async (call: Call, request: keys.ImportKeyRequest): Promise<keys.ImportKeyResponse> => {
    const { keyId, algorithm, joseAlgorithm: jose, wrappedKey, labels, limits, grants, activationTime } = request;
    const { asVersion } = request;
    const { value, envelope } = await importKey(ports, call, {
      keyId,
      purpose: toPurpose(request.purpose),
      algorithm,
      jose,
      wrappedKey,
      labels,
      limits: limits === undefined ? {} : toLimits(limits),
      grants,
      ...(activationTime && { activatesAt: activationTime.getTime() }),
      ...(asVersion && {
        asVersion: { expectedVersion: toNumber(asVersion.expectedVersion), acceptLoss: asVersion.acceptLoss },
      }),
    });
    return { key: fromKey(value.key), envelope: fromEnvelope(envelope) };
  },
  updateKey: async (call: Call, request: keys.UpdateKeyRequest): Promise<keys.UpdateKeyResponse> => {
    const { key, labels, limits, grants, revision } = request;
    const { value } = await updateKey(ports, call, {
      key,
      ...(labels && { labels: labels.labels }),
      ...(limits && { limits: toLimits(limits) }),
      ...(grants && { grants: grants.grants }),
      revision: toCount(revision),
    });
    return { key: fromKey(value.key) };
  },
  rotateKey: async (call: Call, request: keys.RotateKeyRequest): Promise<keys.RotateKeyResponse> => {
    const { key, algorithm, joseAlgorithm: jose, expectedVersion, acceptLoss } = request;
    const plain = { key, algorithm, jose, expectedVersion: toNumber(expectedVersion), acceptLoss };
    const { value, envelope } = await rotateKey(ports, call, plain);
    return { key: fromKey(value.key), envelope: fromEnvelope(envelope) };
  },
  rotateTenantKek: async (call: Call, _: keys.RotateTenantKekRequest): Promise<keys.RotateTenantKekResponse> => {
    const { value } = await rotateTenantKek(ports, call);
    return { version: value.version, rewrapped: BigInt(value.rewrapped) };
  },
});

const stateHandlers = (ports: Ports) => ({
  suspendKey: keyReason(ports, suspendKey),
  resumeKey: keyReason(ports, resumeKey),
  destroyKey: keyReason(ports, destroyKey),
  restoreKey: keyReason(ports, restoreKey),
  revokeKey: async (call: Call, request: keys.RevokeKeyRequest): Promise<keys.RevokeKeyResponse> => {
    const { key, version, reason } = request;
    const { value } = await revokeKey(ports, call, { key, version: toNumber(version), reason });
    return { key: fromKey(value.key) };
  },
});

export const keysHandlers = (ports: Ports) => ({
  ...readHandlers(ports),
  ...changeHandlers(ports),
  ...stateHandlers(ports),
});
