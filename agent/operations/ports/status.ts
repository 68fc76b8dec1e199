// What the agent says of itself.

/** Parts without which the agent cannot serve, as the health service names them. */
export type Part = 'policy' | 'keys' | 'token' | 'audit';

export interface TokenView {
  readonly label: string;
  readonly model: string;
  readonly serial: string;
  readonly library: string;
  readonly sessions: number;
  readonly restarts: number;
  readonly abilities: readonly string[];
}

/** A token of the host, whether or not it is there. */
export interface TokenState {
  /** As the configuration calls it. */
  readonly name: string;
  readonly healthy: boolean;
  readonly detail: string;
  readonly token: TokenView | undefined;
  /** What the operator says of the validation of its module. */
  readonly certificate:
    | {
        readonly identifier: string;
        readonly standard: string;
        readonly level: number;
        readonly expires: number;
        readonly status: string;
        /** Why an auditor would ask, or empty. */
        readonly warning: string;
      }
    | undefined;
}

/** The agent as GetStatus shows it to one tenant. Times are milliseconds since 1970. */
export interface AgentState {
  readonly version: string;
  readonly host: string;
  readonly startedAt: number;
  /** `registry` only where there is one; the agent serves without it. */
  readonly parts: readonly { readonly part: Part | 'registry'; readonly healthy: boolean; readonly detail: string }[];
  /** The platform policy, then the tenant's own where there is one. */
  readonly policies: readonly {
    readonly scope: 'platform' | 'tenant';
    readonly version: number;
    readonly digest: string;
    readonly expiresAt: number;
    readonly verifiedAt: number;
    readonly stale: boolean;
  }[];
  /** The tenant's token; of the platform the agent's own. Undefined until it was there once. */
  readonly token: TokenView | undefined;
  /** What the tenant may know of: the platform every token, others their own. */
  readonly tokens: readonly TokenState[];
  readonly fipsBoundary: '' | 'algorithms' | 'private-keys' | 'everything';
  readonly opensslFips: boolean;
}

export interface StatusPort {
  /** Never throws: what is wrong stands in `parts`. */
  state(tenant: string): AgentState | Promise<AgentState>;
}
