// What the token room is given to open a token, and how long each thing may take.
import type { Clock } from '../clock.ts';
import type { TokenEvents } from './events.ts';

export interface TokenOptions {
  /** PKCS11_LIBRARY_PATH. */
  readonly library: string;
  /** PKCS11_TOKEN_LABEL; where it is absent `slotIndex` selects. */
  readonly tokenLabel?: string;
  /** PKCS11_SLOT_INDEX, among the slots that hold a token. */
  readonly slotIndex?: number;
  /**
   * Gives the PIN in a buffer of its own, which is wiped. Asked once for each start of the process. The buffer should be
   * a part of one above 64 bytes: V8 keeps smaller ones in its heap, where they are moved and leave copies.
   */
  readonly pin: () => Promise<Buffer>;
  /** PKCS11_SESSION_POOL_SIZE. */
  readonly sessions: number;
  /** At most so many sessions at the token to begin with, that of the login included; at least two are opened. */
  readonly sessionLimit?: number;
  /** PKCS11_SESSION_TIMEOUT_SECONDS, in milliseconds. */
  readonly acquireTimeoutMs: number;
  /** PKCS11_DISABLED_MECHANISMS: CKM_ names. */
  readonly disabledMechanisms?: readonly string[];
  /** The agent's environment; only the variables of vendors' libraries are passed on. */
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** File in the data folder that remembers the slow part of the self-test. */
  readonly selfTestFile?: string;
  readonly clock?: Clock;
  readonly events: TokenEvents;
  readonly limits?: Partial<TokenLimits>;
}

export interface TokenLimits {
  /** Budget of one call in the library, after which the process is killed. */
  readonly operationMs: number;
  readonly generateMs: number;
  /** From spawn to ready. */
  readonly startMs: number;
  /** How soon a token that is back is to be noticed. */
  readonly recoveryMs: number;
  /** For draining, and again for an orderly end, before the process is killed. */
  readonly stopMs: number;
  /** Calls that one tenant may have waiting. */
  readonly waitingPerTenant: number;
  /** A session beyond the first that had nothing to do for so long is closed, and its thread's memory given back. */
  readonly idleSessionMs: number;
}

export const LIMITS: TokenLimits = {
  operationMs: 10_000, // ten times what a slow network HSM takes for RSA-4096
  generateMs: 120_000, // RSA-4096 in a smart card
  startMs: 30_000,
  recoveryMs: 2_000,
  stopMs: 5_000,
  waitingPerTenant: 1024,
  idleSessionMs: 5 * 60_000,
};
