// Keys that wrap key material on its way in.
import type { PublicJwk } from '../../../proto/documents/key-record.ts';
import type { TokenCall } from './token.ts';

/** Keys of the token that wrap key material for ImportKey; see agent/keys/import-keys.ts for their bounds. */
export interface ImportKeysPort {
  open(
    what: { readonly tenant: string; readonly algorithm: string; readonly jose: string },
    call: TokenCall,
  ): Promise<ImportKeyView>;
  /** For one attempt; undefined where the tenant has none of this name that still takes one. */
  take(tenant: string, kid: string): ImportKeyView | undefined;
  /** Destroys it; never rejects. */
  end(tenant: string, kid: string): Promise<void>;
}

export interface ImportKeyView {
  readonly kid: string;
  readonly algorithm: string;
  readonly jose: string;
  readonly tokenId: string;
  readonly publicJwk: PublicJwk;
  /** Milliseconds since 1970. */
  readonly expiresAt: number;
}
