// What the token room tells the log and the metrics: one function per event. None may throw; none is given a secret.
import type { RequestName } from './requests.ts';

export interface TokenEvents {
  /** The token process was spawned. */
  tokenStarted(event: { readonly pid: number }): void;
  /** It has logged in and tested itself. */
  tokenReady(event: {
    readonly pid: number;
    readonly durationMs: number;
    readonly label: string;
    readonly model: string;
    readonly restarts: number;
    /** What the module cannot do, by self-test, and why. */
    readonly lacks: readonly { readonly name: string; readonly why: string }[];
  }): void;
  tokenExited(event: {
    readonly pid: number;
    readonly code: number | null;
    readonly signal: string | null;
    readonly expected: boolean;
    /** Calls that were in it. */
    readonly inFlight: number;
  }): void;
  /** A call outlived its budget; the process is killed. */
  tokenHung(event: { readonly pid: number; readonly request: string; readonly budgetMs: number }): void;
  /** It is started again after a wait. */
  tokenRestarting(event: { readonly attempt: number; readonly delayMs: number; readonly reason: string }): void;
  tokenStartFailed(event: { readonly reason: string; readonly detail: string }): void;
  /** The PIN was refused: nothing is tried until `unlock`. */
  tokenLoginRefused(event: { readonly reason: string; readonly detail: string }): void;
  /** A session could not be opened, or its thread ended. */
  tokenSessionFailed(event: { readonly detail: string }): void;
  /** A line that the process or the vendor's library wrote, bounded. */
  tokenOutput(event: { readonly stream: 'stdout' | 'stderr'; readonly line: string }): void;
  /** Once per call. Times are 0 where the call did not get so far. */
  tokenCallFinished(event: {
    readonly tenant: string;
    readonly request: RequestName;
    /** "ok" or an error code. */
    readonly outcome: string;
    readonly queuedMs: number;
    /** In the library, as the process measured it. */
    readonly serviceMs: number;
    /** What the token said; for the log only. */
    readonly detail?: string;
  }): void;
  /** Calls pass, are refused at once, or one is let through to see. */
  tokenBreaker(state: 'closed' | 'open' | 'half-open'): void;
  /** Gauge: sessions of workers that are open. */
  tokenSessions(open: number): void;
  /** Gauge: calls that wait for a session. */
  tokenQueue(waiting: number): void;
}
