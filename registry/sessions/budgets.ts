// The session budgets of tokens: set by administrators, leased to hosts. Invariant: a share is stored before it is answered,
// so that every replica counts it, whatever becomes of this one.
import type { Clock } from '../../agent/clock.ts';
import { invalid, RegistryError } from '../errors.ts';
import { type Asked, leased, MARGIN_MS, settled } from './division.ts';
import type { BudgetRow, SessionsStore, ShareRow, TokenName } from './store.ts';

export interface SessionsEvents {
  /** A host was answered; `held` and `share` as they are after it. */
  sessionsLeased(event: {
    host: string;
    token: string;
    outcome: 'kept' | 'grown' | 'shrunk' | 'none';
    share: number;
    held: number;
    hosts: number;
  }): void;
  budgetSet(event: { token: string; total: number; reserve: number; admin: string }): void;
}

export interface Lease {
  readonly share: number;
  readonly grant: number;
  readonly leaseSeconds: number;
  readonly renewSeconds: number;
  readonly total: number;
  readonly hosts: number;
}

const LEASE_SECONDS = { least: 3, most: 86_400, usual: 60 } as const;
const MAX_TOTAL = 100_000;
const MAX_HOSTS = 4096; // of one token: all of them are one row
const MAX_NAMES = 64; // of one host for one token, as many as it has tokens: one host must not fill the row
/** A host that stops has closed everything by then. */
const LEAVE_MS = 120_000;
const RENEWALS = 3; // in a lease
const SOON_S = 1;
/** Without a budget a host asks so often whether there is one now. */
const UNLIMITED_RENEW_S = 30;

/** Within the transaction of the store: there is no budget, nothing is written. */
class NoBudget extends RegistryError {
  constructor() {
    super('INTERNAL', { message: 'the token has no budget' });
  }
}

const textOf = ({ label, serial }: TokenName): string => (serial === '' ? label : `${label} (${serial})`);

const outcomeOf = (before: ShareRow | undefined, { share }: ShareRow): 'kept' | 'grown' | 'shrunk' | 'none' => {
  if (share === 0) return 'none';
  const known = before?.share ?? 0;
  return share === known ? 'kept' : share > known ? 'grown' : 'shrunk';
};

export class SessionBudgets {
  readonly unlimitedRenewSeconds = UNLIMITED_RENEW_S;
  readonly #store: SessionsStore;
  readonly #clock: Clock;
  readonly #events: SessionsEvents;

  constructor(parts: { readonly store: SessionsStore; readonly clock: Clock; readonly events: SessionsEvents }) {
    this.#store = parts.store;
    this.#clock = parts.clock;
    this.#events = parts.events;
  }

  /** Undefined where the token has no budget. */
  async lease(token: TokenName, asked: Asked): Promise<Lease | undefined> {
    let answer: { readonly own: ShareRow; readonly before: ShareRow | undefined; readonly hosts: number } | undefined;
    const budget = await this.#changeBudget(token, (row) => {
      const { own, others, members } = leased(row, asked, this.#clock.now());
      const names = others.filter(({ host }) => host === asked.host).length;
      if (names >= MAX_NAMES) throw invalid('name', `a host has a token under at most ${MAX_NAMES} names`);
      if (others.length >= MAX_HOSTS) throw new RegistryError('OVERLOADED', { message: 'too many hosts of one token' });
      const before = row.shares.find(({ host, name }) => host === asked.host && name === asked.name);
      answer = { own, before, hosts: members };
      return { ...row, shares: [...others, own] };
    });
    if (budget === undefined || answer === undefined) return undefined;
    const { own, before, hosts } = answer;
    const { share, held, grant } = own;
    const outcome = outcomeOf(before, own);
    this.#events.sessionsLeased({ host: asked.host, token: textOf(token), outcome, share, held, hosts });
    const { leaseSeconds, total, reserve } = budget;
    // Others are still closing what is this host's now, or this host is.
    const fair = Math.min(asked.wanted, Math.floor((total - reserve) / hosts));
    const isSettled = held === share && share >= fair;
    const renewSeconds = isSettled ? Math.max(SOON_S, Math.floor(leaseSeconds / RENEWALS)) : SOON_S;
    return { share, grant, leaseSeconds, renewSeconds, total, hosts };
  }

  /** The host stops: what it holds is free once it has had the time to close it. */
  async leave(token: TokenName, asked: Asked): Promise<void> {
    const isOwn = ({ host, name }: ShareRow): boolean => host === asked.host && name === asked.name;
    await this.#changeBudget(token, (row) => {
      const now = this.#clock.now();
      const shares = settled(row.shares, now).map((share) =>
        isOwn(share) ? { ...share, grant: share.grant + 1, leaving: true, leaseEnd: now + LEAVE_MS } : share,
      );
      return { ...row, shares };
    });
  }

  /** Undefined where it was removed. */
  async set(
    admin: string,
    token: TokenName,
    input: { readonly total: number; readonly reserve: number; readonly leaseSeconds: number },
  ): Promise<BudgetRow | undefined> {
    const { total, reserve } = input;
    const leaseSeconds = input.leaseSeconds === 0 ? LEASE_SECONDS.usual : input.leaseSeconds;
    if (total > MAX_TOTAL) throw invalid('total', `at most ${MAX_TOTAL}`);
    if (total > 0 && reserve > total) throw invalid('reserve', 'more than the total');
    if (leaseSeconds < LEASE_SECONDS.least || leaseSeconds > LEASE_SECONDS.most) {
      throw invalid('lease_seconds', `must be from ${LEASE_SECONDS.least} to ${LEASE_SECONDS.most}`);
    }
    const setAt = this.#clock.now();
    const row = await this.#store.changeSessionBudget(token, (before) => {
      const shares = total === 0 ? [] : settled(before?.shares ?? [], setAt);
      return { ...token, total, reserve, leaseSeconds, setBy: admin, setAt, shares };
    });
    this.#events.budgetSet({ token: textOf(token), total, reserve, admin });
    return row.total === 0 ? undefined : row;
  }

  async list(): Promise<readonly BudgetRow[]> {
    const now = this.#clock.now();
    const rows = await this.#store.sessionBudgets();
    return rows.filter(({ total }) => total > 0).map((row) => ({ ...row, shares: settled(row.shares, now) }));
  }

  /** "leased", "lapsed" or "leaving". */
  stateOf(row: ShareRow): 'leased' | 'lapsed' | 'leaving' {
    if (row.leaving) return 'leaving';
    return this.#clock.now() < row.leaseEnd ? 'leased' : 'lapsed';
  }

  async forget(token: TokenName, host: string): Promise<BudgetRow> {
    const budget = await this.#changeBudget(token, (row) => {
      const now = this.#clock.now();
      const shares = settled(row.shares, now);
      const own = shares.filter((share) => share.host === host);
      if (own.length === 0) throw new RegistryError('HOST_UNKNOWN');
      if (own.some(({ leaving, leaseEnd }) => !leaving && now < leaseEnd + MARGIN_MS)) {
        throw invalid('host', 'its lease still runs; stop its agent, or wait');
      }
      return { ...row, shares: shares.filter((share) => share.host !== host) };
    });
    if (budget === undefined) throw new RegistryError('HOST_UNKNOWN');
    return budget;
  }

  async #changeBudget(token: TokenName, change: (row: BudgetRow) => BudgetRow): Promise<BudgetRow | undefined> {
    const known = await this.#store.sessionBudget(token);
    if (known === undefined || known.total === 0) return undefined; // most tokens have none: nothing is written
    try {
      return await this.#store.changeSessionBudget(token, (row) => {
        if (row === undefined || row.total === 0) throw new NoBudget();
        return change(row);
      });
    } catch (thrown) {
      if (thrown instanceof NoBudget) return undefined;
      throw thrown;
    }
  }
}
