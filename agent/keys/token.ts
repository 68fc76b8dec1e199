// What the keys room needs of the token.
import type { Purpose } from '../../proto/documents/algorithms.ts';
import type { PublicJwk } from '../../proto/documents/key-record.ts';
import type { Clock } from '../clock.ts';

export interface TokenCall {
  readonly tenant: string;
  /** Whose token it is for, where that is not the queue's tenant; "*" for every token of the host. */
  readonly owner?: string;
  readonly deadline: number;
  readonly signal: AbortSignal;
}

/** A key of the token as its label and its attributes say. */
export interface KeyDescription {
  readonly label: string;
  /** Algorithm ids of its objects, sorted: of a composite two. */
  readonly algorithms: readonly string[];
  readonly purpose?: Purpose;
  /** It was generated in the token. */
  readonly isLocal: boolean;
  readonly publicJwk?: PublicJwk;
  /** Why it cannot be used; then nothing else is known but its label. */
  readonly fault?: string;
}

export interface KeysToken {
  generate(
    what: { readonly algorithm: string; readonly purpose: Purpose; readonly label: string; readonly tokenId?: string },
    call: TokenCall,
  ): Promise<{ readonly tokenId: string; readonly publicJwk?: PublicJwk }>;
  create(
    what: {
      readonly algorithm: string;
      readonly purpose: Purpose;
      readonly label: string;
      readonly tokenId: string;
      readonly material: readonly Buffer[];
    },
    call: TokenCall,
  ): Promise<{ readonly tokenId: string; readonly publicJwk?: PublicJwk }>;
  /** Ids of the keys whose label begins so, sorted. */
  list(labelPrefix: string, call: TokenCall): Promise<readonly string[]>;
  /** What cannot be used has a fault. Rejects where there is none. */
  describe(tokenId: string, call: TokenCall): Promise<KeyDescription>;
  destroy(tokenId: string, call: TokenCall): Promise<void>;
  /** The CKA_ID for a new key that wraps, by the scheme that the tenant's token does best. */
  wrappingKeyId(call: Pick<TokenCall, 'tenant' | 'owner'>): string;
  generateWrappingKey(
    what: { readonly label: string; readonly tokenId?: string },
    call: TokenCall,
  ): Promise<{ readonly tokenId: string }>;
  /** iv, what is wrapped and tag, by the scheme of the key. */
  wrap(tokenId: string, input: { aad: Buffer; data: Buffer }, call: TokenCall): Promise<Buffer>;
  unwrap(tokenId: string, input: { aad: Buffer; data: Buffer }, call: TokenCall): Promise<Buffer>;
  random(length: number, call: TokenCall): Promise<Buffer>;
}

const PLATFORM_TENANT = '_platform';
const HOUSEKEEPING_MS = 30_000; // a token that does not destroy an object in this time is down

/** A call of the agent itself, which only its own `signal` cancels. */
export const housekeepingCall = (clock: Clock, signal = new AbortController().signal): TokenCall => ({
  tenant: PLATFORM_TENANT,
  deadline: clock.now() + HOUSEKEEPING_MS,
  signal,
});

/** The same call without the caller's cancellation: an object half made is worse than one made for nothing. */
export const uncancelled = (call: TokenCall): TokenCall => ({ ...call, signal: new AbortController().signal });
