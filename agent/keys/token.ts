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
  destroy(tokenId: string, call: TokenCall): Promise<void>;
  gcmEncrypt(tokenId: string, input: { iv: Buffer; aad: Buffer; data: Buffer }, call: TokenCall): Promise<Buffer>;
  gcmDecrypt(tokenId: string, input: { iv: Buffer; aad: Buffer; data: Buffer }, call: TokenCall): Promise<Buffer>;
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
