// Every RPC of the agent, as a caller may try it with what belongs to another tenant. A row for each: what names a key
// or carries something of a key's, and what has nothing in it that could name another tenant.
import { randomBytes } from 'node:crypto';
import { AuditServiceService } from '../../proto/gen/mortise/agent/v1/audit.ts';
import { CryptoServiceService } from '../../proto/gen/mortise/agent/v1/crypto.ts';
import { KeysServiceService } from '../../proto/gen/mortise/agent/v1/keys.ts';
import { PipelineServiceService } from '../../proto/gen/mortise/agent/v1/pipeline.ts';
import { StatusServiceService } from '../../proto/gen/mortise/agent/v1/status.ts';
import { StreamServiceService } from '../../proto/gen/mortise/agent/v1/stream.ts';

export const SERVICES = {
  ...AuditServiceService,
  ...CryptoServiceService,
  ...KeysServiceService,
  ...PipelineServiceService,
  ...StatusServiceService,
  ...StreamServiceService,
} as const;

export type RpcName = keyof typeof SERVICES;
export type Request<Name extends RpcName> = Parameters<(typeof SERVICES)[Name]['requestSerialize']>[0];

export interface ServiceRpc {
  readonly path: string;
  requestSerialize(request: never): Buffer;
  responseDeserialize(bytes: Buffer): unknown;
}

/** What another tenant has, or has not. */
export interface Theirs {
  /** Name of one of their keys: files and more encrypt, signer signs, tags authenticates. */
  key(id: 'files' | 'signer' | 'tags'): string;
  /** The same with the tenant in front, however `key` is spelled. */
  full(id: 'files'): string;
  /** Under their key "files". */
  readonly jwe: string;
  /** Under their keys "files" and "more". */
  readonly general: string;
  readonly container: Buffer;
  readonly wrappedDataKey: string;
  /** By their key "signer". */
  readonly jws: string;
  /** To an import key of theirs. */
  readonly wrappedKey: string;
  /** Of a listing of theirs. */
  readonly pageToken: string;
  readonly checkpoint: string;
  /** Of a record in their log. */
  readonly eventId: string;
}

/** What the caller has itself. */
export interface Own {
  readonly jwe: string;
  readonly general: string;
  readonly container: Buffer;
  readonly jws: string;
  readonly wrappedDataKey: string;
}

export interface Attempt<Name extends RpcName> {
  /** One, or those of a stream. */
  readonly messages: readonly Request<Name>[];
  /** PERMISSION_DENIED where absent. */
  readonly code?: string;
  /** With the bare id of the key, which is then one of the caller's own names; KEY_UNKNOWN where absent. */
  readonly bare?: string;
}

const NOTHING = Buffer.alloc(0);
/** What is signed and encrypted everywhere here. */
export const DATA = Buffer.from('what was written');
const mac = Buffer.alloc(32);
const message = { $case: 'message' as const, value: DATA };
const reason = '';
const INVALID = { code: 'INVALID_REQUEST', bare: 'INVALID_REQUEST' };

const one = <R>(request: R, expected: { code?: string; bare?: string } = {}) => ({ messages: [request], ...expected });

const freshness = () => ({ nonce: randomBytes(16), timestamp: new Date() });
/** A whole stream with this opening and this data. */
const stream = <O>(opening: O, bytes: Buffer, expected: { code?: string; bare?: string } = {}) => ({
  messages: [
    { part: { $case: 'opening' as const, value: { freshness: freshness(), ...opening } } },
    { part: { $case: 'data' as const, value: bytes } },
    { part: { $case: 'end' as const, value: { bytes: BigInt(bytes.length), localBytes: 0n } } },
  ],
  ...expected,
});

const recipient = (key: string) => ({ recipient: { $case: 'key' as const, value: key } });
const signedBy = (jws: string) => ({ $case: 'jws' as const, value: jws });
const detached = (jws: string): string => jws.replace(/\..*\./, '..');
const raw = { $case: 'raw' as const, value: Buffer.alloc(64) };
const made = { purpose: 'PURPOSE_ENCRYPT', algorithm: 'AES-256', joseAlgorithm: '', labels: {} } as const;
const opened = { associatedData: NOTHING, range: undefined, localKey: 'LOCAL_KEY_UNSPECIFIED' } as const;
const unlimited = { limits: undefined, grants: [], activationTime: undefined };
const carried = (key: string) => [
  { sequence: 1, timeoutMs: 0, correlationId: '', request: { $case: 'getKey' as const, value: { key } } },
];

type Rows = { readonly [Name in RpcName]?: (theirs: Theirs, own: Own) => readonly Attempt<Name>[] };

export const NAMED = {
  encrypt: ({ key }) => [one({ key: key('files'), plaintext: DATA, associatedData: NOTHING })],
  decrypt: ({ key, jwe, general }, own) => [
    one({ jwe, key: '', associatedData: NOTHING }),
    one({ jwe, key: 'files', associatedData: NOTHING }),
    one({ jwe, key: key('files'), associatedData: NOTHING }, { bare: 'PERMISSION_DENIED' }),
    one({ jwe: own.jwe, key: key('files'), associatedData: NOTHING }, { bare: 'INVALID_REQUEST' }),
    one({ jwe: general, key: '', associatedData: NOTHING }),
    one({ jwe: general, key: 'files', associatedData: NOTHING }, INVALID),
  ],
  sign: ({ key }) => [
    one({ key: key('signer'), input: message, form: 'SIGNATURE_FORM_RAW', type: '', context: NOTHING }),
  ],
  verify: ({ key, jws }, own) => [
    one({ key: '', signature: signedBy(jws), input: undefined, version: 0, context: NOTHING }),
    one({ key: 'signer', signature: signedBy(jws), input: undefined, version: 0, context: NOTHING }),
    one({ key: key('signer'), signature: raw, input: message, version: 0, context: NOTHING }),
    one(
      { key: key('signer'), signature: signedBy(own.jws), input: undefined, version: 0, context: NOTHING },
      { bare: 'INVALID_REQUEST' },
    ),
  ],
  mac: ({ key }) => [one({ key: key('tags'), message: DATA })],
  verifyMac: ({ key }) => [one({ key: key('tags'), message: DATA, mac, version: 0 })],
  encryptGeneral: ({ key }) => [
    one({ recipients: [recipient(key('files'))], plaintext: DATA, associatedData: NOTHING }),
    one({ recipients: [recipient('files'), recipient(key('files'))], plaintext: DATA, associatedData: NOTHING }),
  ],
  reEncrypt: ({ key, jwe }, own) => [
    one({ jwe, sourceKey: '', targetKey: 'files', associatedData: NOTHING }),
    one({ jwe, sourceKey: 'files', targetKey: 'more', associatedData: NOTHING }),
    one({ jwe: own.jwe, sourceKey: '', targetKey: key('files'), associatedData: NOTHING }),
  ],
  rewrap: ({ key, general, full }, own) => [
    one({ jwe: general, sourceKey: '', add: [recipient('files')], remove: [] }),
    one({ jwe: general, sourceKey: 'files', add: [recipient('more')], remove: [] }, INVALID),
    one({ jwe: own.general, sourceKey: '', add: [recipient(key('files'))], remove: [] }),
    one(
      { jwe: own.general, sourceKey: key('files'), add: [recipient('more')], remove: [] },
      { bare: 'INVALID_REQUEST' },
    ),
    one({ jwe: own.general, sourceKey: '', add: [], remove: [`${full('files')}/1`] }, INVALID),
  ],
  reSign: ({ key, jws }, own) => [
    one({ jws, sourceKey: '', targetKey: 'signer' }),
    one({ jws: own.jws, sourceKey: '', targetKey: key('signer') }),
  ],
  generateDataKey: ({ key }) => [one({ key: key('files'), length: 32, wrappedOnly: false, associatedData: NOTHING })],
  decryptDataKey: ({ key, wrappedDataKey }, own) => [
    one({ wrappedDataKey, key: '', associatedData: NOTHING }),
    one({ wrappedDataKey, key: 'files', associatedData: NOTHING }),
    one(
      { wrappedDataKey: own.wrappedDataKey, key: key('files'), associatedData: NOTHING },
      { bare: 'INVALID_REQUEST' },
    ),
  ],
  createKey: ({ full }) => [one({ ...made, ...unlimited, keyId: full('files') })],
  importKey: ({ full, key, wrappedKey }) => [
    one({ ...made, ...unlimited, keyId: 'brought', wrappedKey, asVersion: undefined }, INVALID),
    one({ ...made, ...unlimited, keyId: full('files'), wrappedKey, asVersion: undefined }),
    one({
      ...made,
      ...unlimited,
      keyId: key('files'),
      wrappedKey,
      asVersion: { expectedVersion: 0, acceptLoss: false },
    }),
  ],
  getKey: ({ key }) => [one({ key: key('files') })],
  listKeys: ({ pageToken }) => [
    one({ pageSize: 1, pageToken, purpose: 'PURPOSE_UNSPECIFIED', states: [], labels: {}, prefix: '' }, INVALID),
  ],
  updateKey: ({ key }) => [
    one({ key: key('files'), labels: { labels: { a: 'b' } }, limits: undefined, grants: undefined, revision: 0n }),
  ],
  rotateKey: ({ key }) => [
    one({ key: key('files'), algorithm: '', joseAlgorithm: '', expectedVersion: 0, acceptLoss: false }),
  ],
  suspendKey: ({ key }) => [one({ key: key('files'), reason })],
  resumeKey: ({ key }) => [one({ key: key('files'), reason })],
  revokeKey: ({ key }) => [one({ key: key('files'), version: 0, reason })],
  destroyKey: ({ key }) => [one({ key: key('files'), reason })],
  restoreKey: ({ key }) => [one({ key: key('files'), reason })],
  getPublicKey: ({ key }) => [
    one({ key: key('signer'), version: 0, format: 'PUBLIC_KEY_FORMAT_JWK' }),
    one({ key: key('signer'), version: 0, format: 'PUBLIC_KEY_FORMAT_JWKS' }),
  ],
  // An answer, not a refusal, where the name is one of the caller's own: "there is no such key".
  explain: ({ key }) => [one({ operation: 'encrypt', key: key('files'), algorithm: '' }, { bare: 'ok' })],
  encryptStream: ({ key }) => [
    stream({ key: key('files'), associatedData: NOTHING, localKey: 'LOCAL_KEY_UNSPECIFIED' }, DATA),
    stream({ key: key('files'), associatedData: NOTHING, localKey: 'LOCAL_KEY_REQUIRED' }, NOTHING),
  ],
  decryptStream: ({ key, container }, own) => [
    stream({ key: '', ...opened }, container),
    stream({ key: 'files', ...opened }, container),
    stream({ key: '', ...opened, localKey: 'LOCAL_KEY_REQUIRED' }, container),
    stream({ key: key('files'), ...opened }, own.container, { bare: 'INVALID_REQUEST' }),
  ],
  signStream: ({ key }) => [
    stream({ key: key('signer'), form: 'SIGNATURE_FORM_RAW', type: '', context: NOTHING }, DATA),
  ],
  verifyStream: ({ key, jws }) => [
    stream({ key: '', signature: signedBy(detached(jws)), version: 0, context: NOTHING }, DATA),
    stream({ key: key('signer'), signature: raw, version: 0, context: NOTHING }, DATA),
  ],
  reEncryptStream: ({ key, container }, own) => [
    stream({ sourceKey: '', targetKey: 'files', associatedData: NOTHING }, container),
    stream({ sourceKey: '', targetKey: key('files'), associatedData: NOTHING }, own.container),
  ],
  reSignStream: ({ key, jws }, own) => [
    stream({ jws: detached(jws), sourceKey: '', targetKey: 'signer' }, DATA),
    stream({ jws: detached(own.jws), sourceKey: '', targetKey: key('signer') }, DATA),
  ],
  // In the words for a record that is not there at all.
  getReceipt: ({ eventId }) => [
    one({ eventId, waitMs: 0, countersigned: false }, { code: 'RECORD_UNKNOWN', bare: 'RECORD_UNKNOWN' }),
  ],
  // Of those that carry operations, the answer of the operation counts.
  pipeline: ({ key }) => [one({ calls: carried(key('files')), token: '', cancel: [] }, { code: 'ok', bare: 'ok' })],
  batch: ({ key }) => [one({ calls: carried(key('files')) }, { code: 'ok', bare: 'ok' })],
} as const satisfies Rows;

/** What has no room for a name: answers of the caller's own tenant, and nothing of another's. */
export const OF_THE_CALLER: {
  readonly [Name in Exclude<RpcName, keyof typeof NAMED>]: (
    theirs: Theirs,
    own: Own & { readonly publicJwk: string; readonly rsaJwk: string },
  ) => Attempt<Name>;
} = {
  whoAmI: () => one({}),
  getStatus: () => one({}),
  generateRandom: () => one({ length: 16 }),
  encryptTo: (_, { rsaJwk }) => one({ publicJwk: rsaJwk, plaintext: DATA, associatedData: NOTHING }),
  verifyWith: (_, { publicJwk, jws }) =>
    one({ publicJwk, signature: signedBy(jws), input: undefined, context: NOTHING }),
  verifyWithStream: (_, { publicJwk, jws }) =>
    stream({ publicJwk, signature: signedBy(detached(jws)), context: NOTHING }, DATA),
  rotateTenantKek: () => one({}),
  getImportKey: () => one({}),
  listRecords: () => one({ from: 0n, pageSize: 1000, newest: false }),
  tailRecords: () => one({ from: 0n }),
  getCheckpoint: () => one({}),
  // A finding, in the same words for every checkpoint that is none of this log.
  verifyLog: ({ checkpoint }) => one({ trustedCheckpoint: checkpoint }),
};
