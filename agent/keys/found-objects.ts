// What the token holds of a tenant that no record of this host names, for a catalogue that was lost. Invariant: what is
// told of an object is what its label and its attributes say; where they do not say all of it, it is told why.
import { ALGORITHMS, type AlgorithmRow, type Purpose } from '../../proto/documents/algorithms.ts';
import type { PublicJwk } from '../../proto/documents/key-record.ts';
import { schemeOfKey, type WrapScheme } from '../../proto/documents/wrap-schemes.ts';
import type { Clock } from '../clock.ts';
import type { Catalog } from './catalog.ts';
import { listKeyObjects, parseKeyLabel, type TokenObjects } from './objects.ts';
import { housekeepingCall, type KeyDescription, type KeysToken, type TokenCall } from './token.ts';

export interface FoundObject {
  readonly kind: 'key' | 'kek';
  /** Key id, or the version of a KEK. */
  readonly name: string;
  readonly version: number;
  readonly tokenId: string;
  readonly jose: string;
  readonly algorithm: string;
  readonly purpose?: Purpose;
  /** It was not generated in the token. */
  readonly imported: boolean;
  readonly publicJwk?: PublicJwk;
  /** Why no version can be made of it. */
  readonly fault?: string;
}

const WITH_HMAC = 'AES-256 HMAC-SHA256';
/** Algorithms of the objects of a KEK. */
const KEK_OBJECTS: Readonly<Record<WrapScheme, string>> = {
  'aes-gcm': 'AES-256',
  'aes-cbc-hmac': WITH_HMAC,
  'aes-kwp': WITH_HMAC,
  'aes-kw': WITH_HMAC,
};
const KEK_VERSION = /^[1-9][0-9]{0,9}$/;
const MAX_KEK_VERSION = 0xffffffff;
const IMPORT_KEY = /^import\.[0-9a-f]{32}$/;

const does = ({ jose }: AlgorithmRow, purpose: Purpose | undefined, name: string): boolean =>
  purpose !== undefined && jose[purpose]?.includes(name) === true;

/** The algorithm that does this JOSE algorithm with objects of these types. */
const algorithmOf = (jose: string, { algorithms, purpose }: KeyDescription): string | undefined =>
  ALGORITHMS.find((row) => {
    const { classical = row.id, pqc } = row.components ?? {};
    const parts = pqc === undefined ? [classical] : [classical, pqc].sort();
    return does(row, purpose, jose) && parts.join() === algorithms.join();
  })?.id;

const isHalf = (jose: string, { algorithms, purpose }: KeyDescription): boolean =>
  ALGORITHMS.some((row) => does(row, purpose, jose) && row.components?.classical === algorithms.join());

const keyFault = (name: string, jose: string, described: KeyDescription): string | undefined => {
  if (IMPORT_KEY.test(name)) return 'a key that wraps key material on its way in, of an import that is over';
  if (described.fault !== undefined) return described.fault;
  if (algorithmOf(jose, described) !== undefined) return undefined;
  if (isHalf(jose, described)) return 'half a key: the other half was wrapped, and is lost with its record';
  return `its label says ${jose}, which no key of its types and uses does`;
};

/** An AKP key is for one JOSE algorithm. */
const forOneUse = (publicJwk: PublicJwk, jose: string): PublicJwk =>
  publicJwk['kty'] === 'AKP' ? { ...publicJwk, alg: jose } : publicJwk;

const optional = <K extends string, V>(name: K, value: V | undefined): { [name in K]?: V } =>
  (value === undefined ? {} : { [name]: value }) as { [name in K]?: V };

export class FoundObjects {
  readonly #catalog: Catalog;
  readonly #objects: TokenObjects;
  readonly #token: KeysToken;
  readonly #kekLabelPrefix: string;
  readonly #clock: Clock;

  constructor(options: {
    readonly catalog: Catalog;
    readonly objects: TokenObjects;
    readonly token: KeysToken;
    readonly kekLabelPrefix: string;
    readonly clock: Clock;
  }) {
    this.#catalog = options.catalog;
    this.#objects = options.objects;
    this.#token = options.token;
    this.#kekLabelPrefix = options.kekLabelPrefix;
    this.#clock = options.clock;
  }

  /** Every KEK, and the key objects that no record of this host names. Rejects where the token does not answer. */
  async of(tenant: string, signal: AbortSignal): Promise<readonly FoundObject[]> {
    const call = (): TokenCall => ({ ...housekeepingCall(this.#clock, signal), owner: tenant });
    const versions = this.#catalog.records(tenant).flatMap((record) => record.versions);
    const known = new Set(versions.map(({ tokenId }) => tokenId));
    const keys = (await listKeyObjects(this.#token, tenant, call())).filter((tokenId) => !known.has(tokenId));
    const keks = await this.#token.list(this.#kekPrefix(tenant), call());
    const found: (FoundObject | undefined)[] = [];
    for (const tokenId of keys) found.push(this.#keyOf(tenant, tokenId, await this.#token.describe(tokenId, call())));
    for (const tokenId of keks) found.push(this.#kekOf(tenant, tokenId, await this.#token.describe(tokenId, call())));
    return found.filter((object) => object !== undefined);
  }

  #kekPrefix(tenant: string): string {
    return `${this.#kekLabelPrefix}:${tenant}:v`;
  }

  /** Undefined where the label names no key: there is nothing to say of it. */
  #keyOf(tenant: string, tokenId: string, described: KeyDescription): FoundObject | undefined {
    const label = parseKeyLabel(tenant, described.label);
    if (label === undefined) return undefined;
    const { keyId: name, version, jose } = label;
    const { purpose, publicJwk, isLocal } = described;
    const fault = this.#objects.isNoted(tokenId)
      ? 'made for a change that was not completed; its host destroys it'
      : keyFault(name, jose, described);
    return {
      kind: 'key',
      ...{ name, version, tokenId, jose },
      algorithm: algorithmOf(jose, described) ?? '',
      imported: !isLocal,
      ...optional('purpose', purpose),
      ...optional('publicJwk', publicJwk && forOneUse(publicJwk, jose)),
      ...optional('fault', fault),
    };
  }

  #kekOf(tenant: string, tokenId: string, described: KeyDescription): FoundObject | undefined {
    const name = described.label.slice(this.#kekPrefix(tenant).length);
    if (!KEK_VERSION.test(name) || Number(name) > MAX_KEK_VERSION) return undefined;
    const isWhole = described.algorithms.join(' ') === KEK_OBJECTS[schemeOfKey(tokenId)];
    return {
      kind: 'kek',
      ...{ name, version: Number(name), tokenId, jose: '', algorithm: described.algorithms[0] ?? '' },
      imported: !described.isLocal,
      ...optional(
        'fault',
        described.fault ??
          (isWhole && described.isLocal ? undefined : 'not the keys of a KEK, whole and generated in the token'),
      ),
    };
  }
}
