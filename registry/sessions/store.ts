// What this room needs of the store: one row for each token with a budget, with what each host holds of it. Rows are plain
// data; a change reads and writes one row in one transaction, and is durable when it resolves.

/** A token as it names itself. */
export interface TokenName {
  readonly label: string;
  /** Empty where it has none. */
  readonly serial: string;
}

/** What one connection of a host to the token holds. */
export interface ShareRow {
  readonly host: string;
  /** Name of the token on the host. */
  readonly name: string;
  /** Milliseconds since 1970, UTC; so are all times of rows. */
  readonly since: number;
  /** What the host was last told that it may have open. */
  readonly share: number;
  /** What may be open there: more than the share until the host says that it has closed the rest. */
  readonly held: number;
  /** Most sessions that it would use. */
  readonly wanted: number;
  /** What it keeps once its lease is over. */
  readonly fallback: number;
  /** Number of the answer that it was last given. */
  readonly grant: number;
  readonly leaseEnd: number;
  /** It said that it stops: it keeps nothing once the lease is over. */
  readonly leaving: boolean;
}

export interface BudgetRow extends TokenName {
  /** 0: the budget was removed. */
  readonly total: number;
  /** In no share: for hosts that start. */
  readonly reserve: number;
  readonly leaseSeconds: number;
  readonly setBy: string;
  readonly setAt: number;
  readonly shares: readonly ShareRow[];
}

/** Fails with STORE_UNAVAILABLE alone, and with what `change` throws. */
export interface SessionsStore {
  sessionBudget(token: TokenName): Promise<BudgetRow | undefined>;
  /** All of them, by label and serial number: they are few. */
  sessionBudgets(): Promise<readonly BudgetRow[]>;
  /** Nobody else changes the row meanwhile, on any replica. `change` may be called again, and must be a pure function. */
  changeSessionBudget(token: TokenName, change: (row: BudgetRow | undefined) => BudgetRow): Promise<BudgetRow>;
}
