// Content keys kept in memory, where policy allows it.

/** A content key and how it was wrapped; the bytes are the holder's own, to be wiped. */
export interface WrappedContentKey {
  readonly cek: Buffer;
  readonly encryptedKey: Buffer;
  /** Header members besides alg, enc and kid. */
  readonly members: Readonly<Record<string, unknown>>;
}

/** A place in the cache: what is there, as a copy, or where to put what was made in its stead. */
export type CacheSlot<T> = { readonly found: T } | { keep(value: T): void };

interface CachedUse {
  readonly tenant: string;
  readonly keyId: string;
  readonly version: number;
  /** Bytes of content that this use protects or reveals. */
  readonly bytes: number;
}

/**
 * Content keys that policy lets the agent keep (docs/spec/formats.md). Undefined where it does not. Each answer takes
 * one use and the bytes off what policy allows; `keep` copies, and keeps nothing where a key or policy changed meanwhile.
 */
export interface DataKeysPort {
  toEncrypt(use: CachedUse): CacheSlot<WrappedContentKey> | undefined;
  /** `wrap` names the encrypted key and everything of the header that it depends on; asked only where policy keeps any. */
  toDecrypt(use: CachedUse & { wrap(): string }): CacheSlot<Buffer> | undefined;
}
