// Session budgets in LMDB: a row for each token.
import type { BudgetRow, SessionsStore } from '../../sessions/store.ts';
import type { Environment } from './environment.ts';

export const sessionsStore = (env: Environment): SessionsStore => ({
  sessionBudget: async ({ label, serial }) => env.get('session-budget', label, serial),
  sessionBudgets: async () => [...env.rows<BudgetRow>({ prefix: ['session-budget'] })].map(({ value }) => value),
  changeSessionBudget: ({ label, serial }, change) =>
    env.write(() => {
      const row = change(env.get<BudgetRow>('session-budget', label, serial));
      env.put(['session-budget', label, serial], row);
      return row;
    }),
});
