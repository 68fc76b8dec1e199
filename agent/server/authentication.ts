// Who makes a call, whatever door it came through: credentials → caller. Invariant: a refusal leaves with its record, or
// as AUDIT_UNAVAILABLE.
import { asAgentError } from '../errors.ts';
import type { Caller, Peer } from '../operations/ports.ts';

export type Authenticate = (credentials: { peer: Peer; authorization: readonly string[] }) => Promise<Caller>;
/** Records that somebody unknown was refused; rejects where that cannot be recorded. */
export type Refuse = (refusal: { peer: Peer; operation: string; code: string; correlationId: string }) => Promise<void>;

export interface Credentials {
  readonly peer: Peer;
  readonly authorization: readonly string[];
  /** What stands in the record of a refusal. */
  readonly operation: string;
  readonly correlationId: string;
}

export class Authentication {
  readonly #authenticate: Authenticate;
  readonly #refuse: Refuse;

  constructor(parts: { readonly authenticate: Authenticate; readonly refuse: Refuse }) {
    this.#authenticate = parts.authenticate;
    this.#refuse = parts.refuse;
  }

  /** Rejects with an AgentError whose refusal is recorded. */
  async callerOf({ peer, authorization, operation, correlationId }: Credentials): Promise<Caller> {
    try {
      return await this.#authenticate({ peer, authorization });
    } catch (thrown) {
      const error = asAgentError(thrown);
      await this.#refuse({ peer, operation, code: error.code, correlationId });
      throw error;
    }
  }
}
