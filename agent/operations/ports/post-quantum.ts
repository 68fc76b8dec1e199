// Post-quantum signatures outside the token.

import type { KeyObject } from 'node:crypto';
import type { TokenCall } from './token.ts';
import type { HeldSeed } from './vault.ts';

interface PqMessage {
  readonly algorithm: string;
  readonly message: Buffer;
  /** Context string of FIPS 204 and 205, up to 255 bytes; empty where absent. */
  readonly context?: Buffer;
}

/** Post-quantum signatures outside the token. Whatever takes long is done off the event loop, and ends with its call. */
export interface PostQuantumPort {
  /** `withMaterial` is asked when the work can begin, so that private bytes are in memory no longer than it takes. */
  sign(
    what: PqMessage,
    call: TokenCall,
    withMaterial: <T>(use: (material: Buffer, held?: HeldSeed) => Promise<T>) => Promise<T>,
  ): Promise<Buffer>;
  /** A malformed signature is a wrong one. */
  verify(what: PqMessage & { readonly key: KeyObject; readonly signature: Buffer }): Promise<boolean>;
  /** FN-DSA, by its public bytes; off the event loop, in the tenant's turn. */
  verifyFnDsa(
    what: Omit<PqMessage, 'context'> & { readonly publicKey: Buffer; readonly signature: Buffer },
    call: TokenCall,
  ): Promise<boolean>;
}
