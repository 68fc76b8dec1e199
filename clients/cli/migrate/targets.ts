// Which key version a ciphertext belongs under, and whether it is there already. Records of keys are read once each.
import type { CallOptions, Key, MortiseClient, MortiseError } from '../../typescript/index.ts';
import { primaryOf } from '../key-text.ts';
import type { Ciphertext, Named } from './ciphertext.ts';

/** Why a file is not moved; each stands in the statement. */
export type Reason =
  | 'current'
  | 'unrecognised'
  | 'foreign'
  | 'key-unknown'
  | 'key-state'
  | 'wrong-purpose'
  | 'no-message'
  | 'too-large'
  | 'not-replaceable'
  | 'changed'
  | 'gone'
  | 'refused'
  | 'failed';

export interface Outdated {
  readonly state: 'outdated';
  /** `kid` of each key that it is taken from; of a ciphertext without one, the key that was given for it. */
  readonly from: readonly string[];
  /** Keys that it goes to, with the version that is primary now. */
  readonly to: readonly { readonly keyId: string; readonly version: number; readonly algorithm: string }[];
  /** Its keys that stay. */
  readonly others: number;
  /** Set where the ciphertext does not name the key itself. */
  readonly sourceKey: string | undefined;
}

export type Assessment = Outdated | { readonly state: 'left'; readonly reason: Reason; readonly detail: string };

export const left = (reason: Reason, detail: string): Assessment => ({ state: 'left', reason, detail });

interface Own {
  readonly kid: string;
  readonly keyId: string;
  /** Undefined where the ciphertext does not say. */
  readonly version: number | undefined;
}

const KID = /^([a-z0-9][a-z0-9-]{0,62})\/([a-z0-9][a-z0-9._-]{0,63})\/([1-9]\d{0,8})$/;

export class Targets {
  readonly #client: MortiseClient;
  readonly #call: CallOptions;
  readonly #tenant: string;
  readonly #to: string | undefined;
  readonly #key: string | undefined;
  readonly #keys = new Map<string, Promise<Key | undefined>>();

  constructor(input: {
    readonly client: MortiseClient;
    readonly call: CallOptions;
    readonly tenant: string;
    /** Key to move to; undefined: each to the primary version of its own. */
    readonly to: string | undefined;
    /** Key of ciphertexts that name none. */
    readonly key: string | undefined;
  }) {
    this.#client = input.client;
    this.#call = input.call;
    this.#tenant = input.tenant;
    this.#to = input.to;
    this.#key = input.key;
  }

  async assess(found: Ciphertext): Promise<Assessment> {
    const own = found.keys.map((key) => this.#own(key)).filter((key) => key !== undefined);
    if (own.length === 0) return left('foreign', 'it names no key of this tenant');
    const outdated: Own[] = [];
    const to = new Map<string, Outdated['to'][number]>();
    for (const key of own) {
      const target = await this.#target(key, found);
      if ('state' in target) return target;
      if (key.keyId === target.keyId && key.version !== undefined && key.version >= target.version) continue;
      outdated.push(key);
      to.set(target.keyId, target);
    }
    if (outdated.length === 0) return left('current', '');
    const sourceKey = outdated.find(({ version }) => version === undefined)?.keyId;
    const others = found.keys.length - outdated.length;
    return { state: 'outdated', from: outdated.map(({ kid }) => kid), to: [...to.values()], others, sourceKey };
  }

  #own({ kid }: Named): Own | undefined {
    if (kid === undefined) {
      return this.#key === undefined ? undefined : { kid: this.#key, keyId: this.#key, version: undefined };
    }
    const match = KID.exec(kid);
    if (match === null || match[1] !== this.#tenant) return undefined;
    return { kid, keyId: match[2] as string, version: Number(match[3]) };
  }

  async #target({ keyId, version }: Own, found: Ciphertext): Promise<Outdated['to'][number] | Assessment> {
    const source = await this.#get(keyId);
    if (source === undefined) return left('key-unknown', `there is no key ${keyId}`);
    const state = source.versions.find((row) => row.version === version)?.state;
    if (state === 'DESTROYED') return left('key-state', `version ${version} of ${keyId} is destroyed`);
    const target = this.#to === undefined ? source : await this.#get(this.#to);
    if (target === undefined) return left('key-unknown', `there is no key ${this.#to}`);
    const purpose = found.form === 'jws' ? 'sign' : 'encrypt';
    if (target.purpose !== purpose) return left('wrong-purpose', `${target.keyId} is for "${target.purpose}"`);
    const primary = primaryOf(target);
    if (primary === undefined) return left('key-state', `${target.keyId} is ${target.state}`);
    return { keyId: target.keyId, version: primary.version, algorithm: primary.algorithm };
  }

  #get(keyId: string): Promise<Key | undefined> {
    let key = this.#keys.get(keyId);
    if (key === undefined) {
      key = this.#client.keys.get(keyId, this.#call).catch((error: MortiseError) => {
        this.#keys.delete(keyId);
        if (error.code === 'KEY_UNKNOWN') return undefined;
        throw error;
      });
      this.#keys.set(keyId, key);
    }
    return key;
  }
}
