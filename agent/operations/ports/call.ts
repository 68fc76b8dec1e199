// One call and who makes it, from the server down.
import type { Scope } from '../../../proto/documents/operations.ts';

/** The connection's peer as the kernel gave it at connect(2). Never authorise by pid. */
export interface Peer {
  readonly uid: number;
  readonly gid: number;
  readonly pid: number;
}

export interface Caller {
  readonly tenant: string;
  readonly principal: string;
  readonly scopes: ReadonlySet<Scope>;
  readonly authenticatedBy: 'jwt' | 'peer';
  /** Throws what these credentials are refused with by now. For streams, which outlive the call that opened them. */
  readonly stands?: () => void;
}

/** One call, from the server down. */
export interface Call {
  readonly correlationId: string;
  readonly caller: Caller;
  readonly peer: Peer;
  /** Milliseconds since 1970; the server always sets one. */
  readonly deadline: number;
  readonly signal: AbortSignal;
}
