// How the sessions of a budget are divided, and what a host is answered. Pure functions on a budget's row. Invariant: what
// counts as open on all hosts is never above the total by anything that is granted here, whatever answers were lost and
// whichever hosts went silent; only what hosts have open before they first ask is counted as it is.
import type { BudgetRow, ShareRow } from './store.ts';

/** One session keeps the login, another one works. */
export const LEAST_SHARE = 2;
/** Between the end of a lease on the host and the use of its sessions by others: clocks of replicas differ. */
export const MARGIN_MS = 5_000;

export interface Asked {
  readonly host: string;
  readonly name: string;
  readonly held: number;
  readonly grant: number;
  readonly wanted: number;
  readonly fallback: number;
}

const isOver = ({ leaseEnd }: ShareRow, now: number): boolean => now >= leaseEnd + MARGIN_MS;

/** What each host counts for now: a silent one for what it falls back to, one that has stopped for nothing. */
export const settled = (shares: readonly ShareRow[], now: number): readonly ShareRow[] =>
  shares.flatMap((row) => {
    if (!isOver(row, now)) return [row];
    const held = row.leaving ? 0 : Math.min(row.held, row.fallback);
    return held === 0 ? [] : [{ ...row, share: Math.min(row.share, held), held }];
  });

type Member = Pick<ShareRow, 'host' | 'name' | 'since' | 'wanted'>;

/**
 * The share of each member, as many as there are: equal but for members that want less, at least LEAST_SHARE, and where
 * that is too much for all, LEAST_SHARE for those that were there first and nothing for the others.
 */
export const divided = (available: number, members: readonly Member[]): ReadonlyMap<Member, number> => {
  const byAge = [...members].sort(
    (a, b) => a.since - b.since || (`${a.host} ${a.name}` < `${b.host} ${b.name}` ? -1 : 1),
  );
  const served = byAge.slice(0, Math.max(0, Math.floor(available / LEAST_SHARE)));
  const shares = new Map<Member, number>(byAge.map((member) => [member, 0]));
  // Those who want least come first, so that what they leave is divided among the others.
  const waiting = served.reverse().sort((a, b) => a.wanted - b.wanted);
  let left = available;
  for (const [at, member] of waiting.entries()) {
    const share = Math.min(Math.max(LEAST_SHARE, member.wanted), Math.floor(left / (waiting.length - at)));
    shares.set(member, share);
    left -= share;
  }
  return shares;
};

const sum = (rows: readonly ShareRow[]): number => rows.reduce((all, { held }) => all + held, 0);

const isMember = (row: ShareRow, now: number): boolean => !row.leaving && !isOver(row, now);

/** What the host holds after its question, and with it what it is answered. */
export const leased = (
  budget: BudgetRow,
  asked: Asked,
  now: number,
): { readonly own: ShareRow; readonly others: readonly ShareRow[]; readonly members: number } => {
  const { host, name, wanted, fallback } = asked;
  const isOwn = (row: ShareRow): boolean => row.host === host && row.name === name;
  const others = settled(
    budget.shares.filter((row) => !isOwn(row)),
    now,
  );
  const [before] = settled(budget.shares.filter(isOwn), now);
  // Whoever does not know the last answer may have an older question under way: what it holds is not less for that.
  const held = before === undefined || asked.grant === before.grant ? asked.held : Math.max(before.held, asked.held);
  const since = before?.since ?? now;
  const member = { host, name, since, wanted };
  const members = [...others.filter((row) => isMember(row, now)), member];
  const silent = others.filter((row) => !isMember(row, now));
  const target = divided(budget.total - budget.reserve - sum(silent), members).get(member) as number;
  const free = budget.total - budget.reserve - sum(others);
  const given = Math.max(held, Math.min(target, free));
  const share = Math.min(target, given);
  const own = {
    ...{ host, name, since, wanted, fallback, leaving: false },
    share: share < LEAST_SHARE ? 0 : share,
    held: given,
    grant: (before?.grant ?? 0) + 1,
    leaseEnd: now + budget.leaseSeconds * 1000,
  };
  return { own, others, members: members.length };
};
