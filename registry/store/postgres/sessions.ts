// Session budgets in PostgreSQL: a row for each token, locked for each change.
import type { BudgetRow, SessionsStore } from '../../sessions/store.ts';
import type { Connections } from './connections.ts';

export const sessionsStore = (db: Connections): SessionsStore => {
  const rows = async (text: string, values: readonly unknown[] = []): Promise<BudgetRow[]> => {
    const found = await db.asPlatform((session) => session.query<{ row: BudgetRow | null }>(text, values));
    return found.rows.map(({ row }) => row).filter((row) => row !== null);
  };
  return {
    sessionBudget: async ({ label, serial }) =>
      (await rows('SELECT row FROM mortise.session_budgets WHERE label = $1 AND serial = $2', [label, serial]))[0],
    sessionBudgets: () => rows('SELECT row FROM mortise.session_budgets ORDER BY label, serial'),
    changeSessionBudget: ({ label, serial }, change) =>
      db.asPlatform(async (session) => {
        const name = [label, serial];
        await session.query('INSERT INTO mortise.session_budgets VALUES ($1, $2, NULL) ON CONFLICT DO NOTHING', name);
        const text = 'SELECT row FROM mortise.session_budgets WHERE label = $1 AND serial = $2 FOR UPDATE';
        const { rows: locked } = await session.query<{ row: BudgetRow | null }>(text, name);
        const row = change(locked[0]?.row ?? undefined);
        const update = 'UPDATE mortise.session_budgets SET row = $3 WHERE label = $1 AND serial = $2';
        await session.query(update, [...name, JSON.stringify(row)]);
        return row;
      }),
  };
};
