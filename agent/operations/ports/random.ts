// Where random bytes come from.
import type { TokenCall } from './token.ts';

/** Bytes of the token's generator mixed with the operating system's. */
export interface RandomPort {
  /** From the pool that is filled in bulk; for CEKs, seeds and nonces. */
  take(length: number): Promise<Buffer>;
  /** Past the pool, in the queue of the call; fails where the token fails. */
  fresh(length: number, call: TokenCall): Promise<Buffer>;
}
