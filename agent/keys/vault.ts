// Custody `wrapped`: seeds under the tenant's KEK. Invariant: a seed is in memory only while it is made or used, or as
// policy lets it be kept (unwrapped-keys.ts), and is wiped afterwards; and a KEK is destroyed only when no stored blob is under it and none can come to be.
import type { Custody } from '../../proto/documents/algorithms.ts';
import type { KeyRecord, KeyVersionRecord, PublicJwk } from '../../proto/documents/key-record.ts';
import { schemeOfKey } from '../../proto/documents/wrap-schemes.ts';
import {
  decodeWrappedKey,
  encodeWrappedKey,
  type WrappedIdentity,
  type WrappedKey,
  WrappedKeyError,
  wrappedKeyAad,
} from '../../proto/documents/wrapped-key.ts';
import type { Clock } from '../clock.ts';
import { AgentError } from '../errors.ts';
import { kekVersionOf } from './blobs.ts';
import type { Catalog } from './catalog.ts';
import type { Kek, TenantKeks } from './keks.ts';
import { type DeriveMaterial, mixWithSystemRandom, type SeedRow, seedRow, type VaultCustody } from './seeds.ts';
import type { KeysToken, TokenCall } from './token.ts';
import { HELD_ONCE, type Held, type UnwrappedKeys } from './unwrapped-keys.ts';

export interface VaultEvents {
  /** A stored blob does not open: damaged, moved, or its KEK is gone. */
  blobRefused(event: { tenant: string; keyId: string; version: number; cause: unknown }): void;
  kekRotated(event: { tenant: string; version: number; rewrapped: number }): void;
  /** A KEK stays because a record that cannot be read may hold a blob under it. */
  kekKept(event: { tenant: string; version: number }): void;
}

const MAX_PASSES = 16; // each pass finds only blobs that were under way during the one before
const MAX_CONFLICTS = 16;

const requireRow = (algorithm: string, custody: Custody): SeedRow => {
  const row = custody === 'hsm' ? undefined : seedRow(algorithm, custody);
  if (row === undefined) throw new AgentError('HSM_UNSUPPORTED', { message: `${algorithm} cannot be held ${custody}` });
  return row;
};

const identityOf = (record: KeyRecord, version: KeyVersionRecord): WrappedIdentity => ({
  tenant: record.tenant,
  keyId: record.keyId,
  version: version.version,
  algorithm: version.algorithm,
});

/** It is being made or destroyed, is destroyed, or was never heard of here. */
const kekNotLive = (version: number): AgentError =>
  new AgentError('KEY_STATE', {
    message: 'the key material is wrapped by a key encryption key that is not live',
    metadata: { state: 'KEK_NOT_LIVE', kek: String(version) },
  });

/** Wipes the seed when it was used. */
const usingUp = async <T>(seed: Buffer, held: Held, use: (seed: Buffer, held: Held) => Promise<T> | T): Promise<T> => {
  try {
    return await use(seed, held);
  } finally {
    seed.fill(0);
  }
};

export class Vault {
  readonly #catalog: Catalog;
  readonly #keks: TenantKeks;
  readonly #token: KeysToken;
  readonly #clock: Clock;
  readonly #events: VaultEvents;
  readonly #derive: DeriveMaterial;
  readonly #unwrapped: UnwrappedKeys;
  readonly #rotating = new Set<string>();

  constructor(options: {
    readonly catalog: Catalog;
    readonly keks: TenantKeks;
    readonly token: KeysToken;
    readonly clock: Clock;
    readonly events: VaultEvents;
    readonly derive: DeriveMaterial;
    readonly unwrapped: UnwrappedKeys;
  }) {
    this.#catalog = options.catalog;
    this.#keks = options.keks;
    this.#token = options.token;
    this.#clock = options.clock;
    this.#events = options.events;
    this.#derive = options.derive;
    this.#unwrapped = options.unwrapped;
  }

  /** Of a `split` key the post-quantum half; `publicJwk` is then that half's. */
  async generate(
    what: WrappedIdentity & { readonly custody?: VaultCustody },
    call: TokenCall,
  ): Promise<{ readonly wrapped: string; readonly publicJwk: PublicJwk }> {
    const row = requireRow(what.algorithm, what.custody ?? 'wrapped');
    const kek = await this.#keks.current(what.tenant, call);
    const seed = await this.#token.random(row.seedBytes, call);
    try {
      if (seed.length !== row.seedBytes) throw new AgentError('HSM_UNAVAILABLE', { message: 'the token gave no seed' });
      mixWithSystemRandom(seed);
      if (row.publicJwk === undefined) return await this.#wrapDerived(what, kek, seed, call);
      return { wrapped: await this.#wrap(what, kek, seed, call), publicJwk: row.publicJwk(seed) };
    } finally {
      seed.fill(0);
    }
  }

  async #wrapDerived(what: WrappedIdentity, kek: Kek, seed: Buffer, call: TokenCall) {
    const { material, publicJwk } = await this.#derive(what.algorithm, seed, call);
    try {
      return { wrapped: await this.#wrap(what, kek, material, call), publicJwk };
    } finally {
      material.fill(0);
    }
  }

  /** Runs `use` with the private bytes in memory and wipes them afterwards, whatever happens. */
  async withSeed<T>(
    record: KeyRecord,
    version: KeyVersionRecord,
    call: TokenCall,
    use: (seed: Buffer, held: Held) => Promise<T> | T,
  ): Promise<T> {
    const slot = this.#unwrapped.of(record, version);
    if (slot !== undefined && 'found' in slot) return await usingUp(slot.found.seed, slot.found.held, use);
    const seed = await this.#unwrap(record, version, call);
    slot?.keep(seed);
    return await usingUp(seed, HELD_ONCE, use);
  }

  /**
   * Makes the next KEK, moves every blob of the tenant to it and destroys the older ones. A rotation that was cut off
   * is taken up where it stopped; then no further KEK is made.
   */
  async rotateKek(tenant: string, call: TokenCall): Promise<{ readonly version: number; readonly rewrapped: number }> {
    if (this.#rotating.has(tenant)) {
      throw new AgentError('KEY_CONFLICT', { message: 'a rotation of the tenant KEK is under way' });
    }
    this.#rotating.add(tenant);
    this.#unwrapped.kekRotated(tenant);
    try {
      const kek = this.#isCutOff(tenant) ? await this.#keks.current(tenant, call) : await this.#keks.next(tenant, call);
      const rewrapped = await this.#moveAll(tenant, kek, call);
      await this.#destroyOlder(tenant, kek, call);
      this.#events.kekRotated({ tenant, version: kek.version, rewrapped });
      return { version: kek.version, rewrapped };
    } finally {
      this.#rotating.delete(tenant);
    }
  }

  /** A rotation has made its KEK and not come to its end. Without any KEK the rotation makes the first one. */
  #isCutOff(tenant: string): boolean {
    const live = this.#keks.live(tenant);
    const newest = live.at(-1);
    if (newest === undefined) return true; // `current` makes it
    if (live.length === 1) return false;
    return !this.#keks.keepsOlder || this.#catalog.records(tenant).some((record) => this.#isBehind(record, newest));
  }

  async #moveAll(tenant: string, kek: Kek, call: TokenCall): Promise<number> {
    let rewrapped = 0;
    for (let pass = 0; pass < MAX_PASSES; pass += 1) {
      const behind = this.#catalog.records(tenant).filter((record) => this.#isBehind(record, kek));
      if (behind.length === 0) return rewrapped;
      for (const { keyId } of behind) rewrapped += await this.#move(tenant, keyId, kek, call);
    }
    throw new AgentError('KEY_CONFLICT', { message: 'keys changed faster than they could be re-wrapped' });
  }

  #isBehind(record: KeyRecord, kek: Kek): boolean {
    return record.versions.some((row) => (kekVersionOf(row) ?? kek.version) !== kek.version);
  }

  /** Re-wraps the blobs of one record; each record is stored before the next is touched. */
  async #move(tenant: string, keyId: string, kek: Kek, call: TokenCall): Promise<number> {
    for (let attempt = 0; attempt < MAX_CONFLICTS; attempt += 1) {
      const record = this.#catalog.get(tenant, keyId);
      if (record === undefined || !this.#isBehind(record, kek)) return 0;
      let moved = 0;
      const versions: KeyVersionRecord[] = [];
      for (const version of record.versions) {
        const from = kekVersionOf(version);
        if (from === undefined || from === kek.version) versions.push(version);
        else {
          const seed = await this.#unwrap(record, version, call);
          try {
            versions.push({ ...version, wrapped: await this.#wrap(identityOf(record, version), kek, seed, call) });
          } finally {
            seed.fill(0);
          }
          moved += 1;
        }
      }
      try {
        const revision = record.revision + 1;
        await this.#catalog.replace({ ...record, versions, revision, updatedAt: this.#clock.now() });
        return moved;
      } catch (error) {
        if (!(error instanceof AgentError && error.code === 'KEY_CONFLICT')) throw error;
      }
    }
    throw new AgentError('KEY_CONFLICT', { message: `the key ${keyId} changed faster than it could be re-wrapped` });
  }

  async #destroyOlder(tenant: string, kek: Kek, call: TokenCall): Promise<void> {
    for (const { version } of this.#keks.live(tenant)) {
      if (version === kek.version) continue;
      const used = this.#catalog.records(tenant).some((row) => row.versions.some((v) => kekVersionOf(v) === version));
      if (used || this.#keks.keepsOlder || this.#catalog.hasCorrupt(tenant)) this.#events.kekKept({ tenant, version });
      else await this.#keks.destroy(tenant, version, call); // its first step, before any await, makes `admitBlobs` refuse
    }
  }

  async #wrap(identity: WrappedIdentity, kek: Kek, seed: Buffer, call: TokenCall): Promise<string> {
    const blob = { scheme: schemeOfKey(kek.tokenId), kekVersion: kek.version };
    const aad = wrappedKeyAad(identity, blob);
    const sealed = await this.#token.wrap(kek.tokenId, { aad, data: seed }, call);
    return encodeWrappedKey({ ...blob, sealed });
  }

  async #unwrap(record: KeyRecord, version: KeyVersionRecord, call: TokenCall): Promise<Buffer> {
    try {
      return await this.#open(record, version, call);
    } catch (error) {
      // A KEK rotation may have re-wrapped the blob, and destroyed the KEK, since the caller read the record.
      const record2 = this.#catalog.get(record.tenant, record.keyId);
      const version2 = record2?.versions.find((row) => row.version === version.version);
      if (record2 === undefined || version2?.wrapped === undefined || version2.wrapped === version.wrapped) throw error;
      return await this.#open(record2, version2, call);
    }
  }

  async #open(record: KeyRecord, version: KeyVersionRecord, call: TokenCall): Promise<Buffer> {
    try {
      const { bytes } = requireRow(version.algorithm, version.custody);
      const blob: WrappedKey = decodeWrappedKey(version.wrapped ?? '');
      const kek = this.#keks.byVersion(record.tenant, blob.kekVersion);
      if (kek === undefined) throw kekNotLive(blob.kekVersion);
      if (schemeOfKey(kek.tokenId) !== blob.scheme) throw new WrappedKeyError('SCHEME');
      const aad = wrappedKeyAad(identityOf(record, version), blob);
      const seed = await this.#token.unwrap(kek.tokenId, { aad, data: blob.sealed }, call);
      if (seed.length === bytes) return seed;
      seed.fill(0);
      throw new WrappedKeyError('LENGTH');
    } catch (cause) {
      const isOld = cause instanceof AgentError && cause.metadata['state'] === 'KEK_NOT_LIVE';
      const damaged =
        cause instanceof WrappedKeyError || (cause instanceof AgentError && cause.code === 'INVALID_CIPHERTEXT');
      if (!damaged && !isOld) throw cause;
      const { tenant, keyId } = record;
      this.#events.blobRefused({ tenant, keyId, version: version.version, cause });
      if (isOld) throw cause;
      throw new AgentError('KEY_STATE', { message: 'the wrapped key material cannot be opened', cause });
    }
  }
}
