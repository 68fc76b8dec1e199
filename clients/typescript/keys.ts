// The lifecycle of keys. A `key` is a key id or `<tenant>/<key id>`; the tenant is always the caller's own.
import { PublicKeyFormat as FormatMessage } from '../../proto/gen/mortise/agent/v1/keys.ts';
import { Purpose as PurposeMessage } from '../../proto/gen/mortise/agent/v1/types.ts';
import { envelopeOf, keyOf, keyStateMessage, limitsMessage, purposeMessage } from './convert.ts';
import type { CallOptions, Calls } from './transport.ts';
import type { Envelope, Grant, Key, KeyLimits, KeyState, Purpose } from './types.ts';

/** A key to be made. */
export interface NewKey {
  /** `[a-z0-9]` and then up to 63 of `[a-z0-9._-]`. */
  readonly keyId: string;
  readonly purpose: Purpose;
  /** Id in the algorithm table. Default: the policy's for this purpose. */
  readonly algorithm?: string;
  /** RSA signing keys only: RS256 RS384 RS512 PS256 PS384 PS512. Default PS256. */
  readonly joseAlgorithm?: string;
  /** Up to 32. */
  readonly labels?: Readonly<Record<string, string>>;
  readonly limits?: KeyLimits;
  readonly grants?: readonly Grant[];
  readonly activationTime?: Date;
}

/** A key to be made of material that was made elsewhere. */
export interface KeyToImport extends NewKey {
  readonly algorithm: string;
  /** Compact JWE to the public JWK of `importKey`. */
  readonly wrappedKey: string;
}

/** Material that was made elsewhere, to be the primary version of a key that there is. */
export interface VersionToImport {
  readonly keyId: string;
  readonly algorithm: string;
  readonly joseAlgorithm?: string;
  /** Compact JWE to the public JWK of `importKey`. */
  readonly wrappedKey: string;
  /** Refuse with KEY_CONFLICT unless this is the primary version. */
  readonly expectedVersion?: number;
  /** Accept that the new algorithm loses an ability of the old one. */
  readonly acceptLoss?: boolean;
}

/** Which keys to list. */
export interface KeyQuery {
  readonly purpose?: Purpose;
  /** Default: all but DESTROYED. */
  readonly states?: readonly KeyState[];
  /** Only keys that carry all of these. */
  readonly labels?: Readonly<Record<string, string>>;
  readonly prefix?: string;
  /** 1 to 500. Default 100. */
  readonly pageSize?: number;
}

/** What to put in place of the present labels, limits or grants; what is absent stays. */
export interface KeyChanges {
  readonly labels?: Readonly<Record<string, string>>;
  readonly limits?: KeyLimits;
  readonly grants?: readonly Grant[];
  /** Refuse with KEY_CONFLICT unless this is the record's revision. Makes the call safe to repeat. */
  readonly revision?: number;
}

/** Options of rotate. */
export interface RotateOptions extends CallOptions {
  /** Default: as before. */
  readonly algorithm?: string;
  readonly joseAlgorithm?: string;
  /** Refuse with KEY_CONFLICT unless this is the primary version. Makes the call safe to repeat. */
  readonly expectedVersion?: number;
  /** Accept that the new algorithm loses an ability of the old one. */
  readonly acceptLoss?: boolean;
}

/** Options of the changes that the audit trail keeps a reason for. */
export interface ReasonOptions extends CallOptions {
  /** At most 255 bytes. */
  readonly reason?: string;
}

/** Form of a public key: JWK and JWKS are JSON text. */
export type PublicKeyFormat = 'jwk' | 'pem' | 'jwks';

const FORMATS: Readonly<Record<PublicKeyFormat, FormatMessage>> = {
  jwk: FormatMessage.JWK,
  pem: FormatMessage.PEM,
  jwks: FormatMessage.JWKS,
};

const grantMessages = (grants: readonly Grant[]): { principal: string; operations: string[] }[] =>
  grants.map(({ principal, operations }) => ({ principal, operations: [...operations] }));

/** The keys of the caller's tenant. */
export class KeyOperations {
  readonly #transport: Calls;

  constructor(transport: Calls) {
    this.#transport = transport;
  }

  /**
   * Makes a key with its first version. Idempotent by key id where purpose and algorithm agree.
   * @throws {MortiseError} KEY_EXISTS, ALGORITHM_FORBIDDEN, POLICY_DENIED, FIPS_ONLY, HSM_UNSUPPORTED, …
   */
  async create(key: NewKey, options: CallOptions = {}): Promise<{ readonly key: Key; readonly envelope: Envelope }> {
    const answer = await this.#transport.call(
      'createKey',
      {
        keyId: key.keyId,
        purpose: purposeMessage(key.purpose),
        algorithm: key.algorithm ?? '',
        joseAlgorithm: key.joseAlgorithm ?? '',
        labels: { ...key.labels },
        limits: key.limits && limitsMessage(key.limits),
        grants: grantMessages(key.grants ?? []),
        activationTime: key.activationTime,
      },
      options,
    );
    return { key: keyOf(answer.key), envelope: envelopeOf(answer.envelope) };
  }

  /** Reads a record. @throws {MortiseError} KEY_UNKNOWN, PERMISSION_DENIED */
  async get(key: string, options: CallOptions = {}): Promise<Key> {
    return keyOf((await this.#transport.call('getKey', { key }, options)).key);
  }

  /** One page, in order of key id; `nextPageToken` is empty on the last. */
  async page(
    query: KeyQuery & { readonly pageToken?: string } = {},
    options: CallOptions = {},
  ): Promise<{ readonly keys: readonly Key[]; readonly nextPageToken: string }> {
    const answer = await this.#transport.call(
      'listKeys',
      {
        pageSize: query.pageSize ?? 0,
        pageToken: query.pageToken ?? '',
        purpose: query.purpose === undefined ? PurposeMessage.UNSPECIFIED : purposeMessage(query.purpose),
        states: (query.states ?? []).map(keyStateMessage),
        labels: { ...query.labels },
        prefix: query.prefix ?? '',
      },
      options,
    );
    return { keys: answer.keys.map(keyOf), nextPageToken: answer.nextPageToken };
  }

  /** Every key that fits, page after page; the deadline is that of one page. */
  async *list(query: KeyQuery = {}, options: CallOptions = {}): AsyncGenerator<Key, void, undefined> {
    let pageToken = '';
    do {
      const page = await this.page({ ...query, pageToken }, options);
      yield* page.keys;
      pageToken = page.nextPageToken;
    } while (pageToken !== '');
  }

  /** Replaces labels, limits or grants. Repeated by the client only where `revision` is given. */
  async update(key: string, changes: KeyChanges, options: CallOptions = {}): Promise<Key> {
    const answer = await this.#transport.call(
      'updateKey',
      {
        key,
        labels: changes.labels && { labels: { ...changes.labels } },
        limits: changes.limits && limitsMessage(changes.limits),
        grants: changes.grants && { grants: grantMessages(changes.grants) },
        revision: BigInt(changes.revision ?? 0),
      },
      options,
    );
    return keyOf(answer.key);
  }

  /** Makes a new primary version. Not idempotent, and never repeated by the client, unless `expectedVersion` is given. */
  async rotate(key: string, options: RotateOptions = {}): Promise<{ readonly key: Key; readonly envelope: Envelope }> {
    const answer = await this.#transport.call(
      'rotateKey',
      {
        key,
        algorithm: options.algorithm ?? '',
        joseAlgorithm: options.joseAlgorithm ?? '',
        expectedVersion: options.expectedVersion ?? 0,
        acceptLoss: options.acceptLoss ?? false,
      },
      options,
    );
    return { key: keyOf(answer.key), envelope: envelopeOf(answer.envelope) };
  }

  /** Switches a key off until `resume`. Idempotent. */
  async suspend(key: string, options: ReasonOptions = {}): Promise<Key> {
    return keyOf((await this.#transport.call('suspendKey', { key, reason: options.reason ?? '' }, options)).key);
  }

  /** Switches a suspended key on. Idempotent. */
  async resume(key: string, options: ReasonOptions = {}): Promise<Key> {
    return keyOf((await this.#transport.call('resumeKey', { key, reason: options.reason ?? '' }, options)).key);
  }

  /** Withdraws a key, or one retired version of it, for ever. Idempotent. */
  async revoke(key: string, options: ReasonOptions & { readonly version?: number } = {}): Promise<Key> {
    const request = { key, version: options.version ?? 0, reason: options.reason ?? '' };
    return keyOf((await this.#transport.call('revokeKey', request, options)).key);
  }

  /** Starts the undo window; `destroyTime` of the answer is its end. Idempotent. */
  async destroy(key: string, options: ReasonOptions = {}): Promise<Key> {
    return keyOf((await this.#transport.call('destroyKey', { key, reason: options.reason ?? '' }, options)).key);
  }

  /** Takes a key out of its undo window. Idempotent. */
  async restore(key: string, options: ReasonOptions = {}): Promise<Key> {
    return keyOf((await this.#transport.call('restoreKey', { key, reason: options.reason ?? '' }, options)).key);
  }

  /** Public key as text. Default: JWK of the primary version. @throws {MortiseError} INVALID_REQUEST for symmetric keys */
  async publicKey(
    key: string,
    options: CallOptions & { readonly format?: PublicKeyFormat; readonly version?: number } = {},
  ): Promise<{ readonly publicKey: string; readonly envelope: Envelope }> {
    const request = { key, version: options.version ?? 0, format: FORMATS[options.format ?? 'jwk'] };
    const { publicKey, envelope } = await this.#transport.call('getPublicKey', request, options);
    return { publicKey, envelope: envelopeOf(envelope) };
  }

  /**
   * A public key of the agent to wrap a key for `import`: a Compact JWE to it by any JOSE library, with its `kid`, and with
   * `cty` "jwk+json" where the plaintext is a JWK. It takes one import.
   */
  async importKey(
    options: CallOptions = {},
  ): Promise<{ readonly publicJwk: Readonly<Record<string, string>>; readonly expireTime: Date | undefined }> {
    const { publicJwk, expireTime } = await this.#transport.call('getImportKey', {}, options);
    return { publicJwk: JSON.parse(publicJwk), expireTime };
  }

  /**
   * Makes a key of material that was made elsewhere. Never repeated by the client.
   * @throws {MortiseError} KEY_EXISTS, INVALID_CIPHERTEXT, ALGORITHM_FORBIDDEN, POLICY_DENIED, HSM_UNSUPPORTED, …
   */
  async import(
    key: KeyToImport,
    options: CallOptions = {},
  ): Promise<{ readonly key: Key; readonly envelope: Envelope }> {
    const answer = await this.#transport.call(
      'importKey',
      {
        keyId: key.keyId,
        purpose: purposeMessage(key.purpose),
        algorithm: key.algorithm,
        joseAlgorithm: key.joseAlgorithm ?? '',
        wrappedKey: key.wrappedKey,
        labels: { ...key.labels },
        limits: key.limits && limitsMessage(key.limits),
        grants: grantMessages(key.grants ?? []),
        activationTime: key.activationTime,
        asVersion: undefined,
      },
      options,
    );
    return { key: keyOf(answer.key), envelope: envelopeOf(answer.envelope) };
  }

  /**
   * Makes material that was made elsewhere the primary version of a key; the former one is retired, as by `rotate`. Never
   * repeated by the client.
   * @throws {MortiseError} KEY_UNKNOWN, KEY_STATE, KEY_CONFLICT, INVALID_CIPHERTEXT, POLICY_DENIED, HSM_UNSUPPORTED, …
   */
  async importVersion(
    version: VersionToImport,
    options: CallOptions = {},
  ): Promise<{ readonly key: Key; readonly envelope: Envelope }> {
    const { keyId, algorithm, joseAlgorithm = '', wrappedKey, expectedVersion = 0, acceptLoss = false } = version;
    const none = { limits: undefined, labels: {}, grants: [], activationTime: undefined };
    const asVersion = { expectedVersion, acceptLoss };
    const purpose = PurposeMessage.UNSPECIFIED;
    const request = { keyId, purpose, algorithm, joseAlgorithm, wrappedKey, ...none, asVersion };
    const answer = await this.#transport.call('importKey', request, options);
    return { key: keyOf(answer.key), envelope: envelopeOf(answer.envelope) };
  }

  /** Makes a new version of the tenant's key encryption key and moves every blob to it. Never repeated by the client. */
  async rotateTenantKek(options: CallOptions = {}): Promise<{ readonly version: number; readonly rewrapped: number }> {
    const { version, rewrapped } = await this.#transport.call('rotateTenantKek', {}, options);
    return { version, rewrapped: Number(rewrapped) };
  }
}
