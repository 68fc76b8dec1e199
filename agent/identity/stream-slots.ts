// The share of the streams that each tenant may have open at once: a stream holds memory and keys for as long as its
// client likes. Invariant: what was entered is left exactly once.
import { AgentError } from '../errors.ts';

export interface StreamSlots {
  /** One more stream of the tenant, until the answer is called. */
  enter(tenant: string): () => void;
}

export const createStreamSlots = ({ perTenant }: { readonly perTenant: number }): StreamSlots => {
  const open = new Map<string, number>();
  return {
    enter: (tenant) => {
      const count = open.get(tenant) ?? 0;
      if (count >= perTenant) {
        throw new AgentError('OVERLOADED', { message: `the tenant has ${perTenant} streams open, which is its share` });
      }
      open.set(tenant, count + 1);
      let left = false;
      return () => {
        if (left) return;
        left = true;
        const rest = (open.get(tenant) ?? 1) - 1;
        if (rest > 0) open.set(tenant, rest);
        else open.delete(tenant);
      };
    },
  };
};
