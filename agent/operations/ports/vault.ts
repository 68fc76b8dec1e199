// Wrapped custody: private bytes that are wrapped while they are not used.

import type { KeyObject } from 'node:crypto';
import type { KeyRecord, KeyVersionRecord, PublicJwk } from '../../../proto/documents/key-record.ts';
import type { TokenCall } from './token.ts';

/** How a seed is held while it is used. */
export interface HeldSeed {
  /** It was in memory before this use, as policy allows. */
  readonly isKept: boolean;
  /** The key object that `make` makes of it, kept as long as the seed; `name` tells those of one seed apart. */
  expand(name: string, make: () => KeyObject): KeyObject;
}

/** Keeps seeds wrapped by the tenant's KEK. The associated data is the record's identity. */
export interface VaultPort {
  /** Of custody `split` the post-quantum half; then `publicJwk` is that half's. */
  generate(
    what: {
      readonly tenant: string;
      readonly keyId: string;
      readonly version: number;
      readonly algorithm: string;
      readonly custody?: 'wrapped' | 'split';
    },
    call: TokenCall,
  ): Promise<{ readonly wrapped: string; readonly publicJwk: PublicJwk }>;
  /** Runs `use` with the seed (private bytes) in memory and wipes it afterwards, whatever happens. */
  withSeed<T>(
    record: KeyRecord,
    version: KeyVersionRecord,
    call: TokenCall,
    use: (seed: Buffer, held: HeldSeed) => Promise<T> | T,
  ): Promise<T>;
  /** Makes the next KEK version and re-wraps every blob of the tenant. */
  rotateKek(tenant: string, call: TokenCall): Promise<{ readonly version: number; readonly rewrapped: number }>;
}
