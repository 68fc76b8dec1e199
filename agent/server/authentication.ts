// Who makes a call, whatever door it came through: credentials → caller. Invariant: a refusal leaves with its record, or
// as AUDIT_UNAVAILABLE.
import { asAgentError } from '../errors.ts';
import type { Caller, Peer } from '../operations/ports/call.ts';

/** At once where nothing has to be waited for; a refusal is a promise that rejects. */
export type Authenticate = (credentials: { peer: Peer; authorization: readonly string[] }) => Caller | Promise<Caller>;
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

  /** At once where nothing has to be waited for; rejects with an AgentError whose refusal is recorded. */
  callerOf(credentials: Credentials): Caller | Promise<Caller> {
    const { peer, authorization } = credentials;
    const caller = this.#authenticate({ peer, authorization });
    return caller instanceof Promise ? caller.catch((thrown) => this.#refused(thrown, credentials)) : caller;
  }

  async #refused(thrown: unknown, { peer, operation, correlationId }: Credentials): Promise<never> {
    const error = asAgentError(thrown);
    await this.#refuse({ peer, operation, code: error.code, correlationId });
    throw error;
  }
}
