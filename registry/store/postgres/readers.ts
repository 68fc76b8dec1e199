// Who of many may read a tenant's rows, in one statement. Invariant: judged by the same words as `mortise.enter` judges one.
import type { Actor } from '../../actor.ts';
import type { Session } from './connections.ts';

/** Names that may act for tenant $1, of those in $2. */
const ALLOWED = {
  host: `SELECT h.host AS name FROM mortise.hosts h WHERE h.host = ANY ($2) AND h.state = 'ACTIVE'
    AND ($1 = '_platform' OR $1 = ANY (h.tenants))`,
  admin: `SELECT a.name FROM mortise.admins a WHERE a.name = ANY ($2) AND NOT a.revoked
    AND (cardinality(a.tenants) = 0 OR $1 = ANY (a.tenants))`,
  auditor: `SELECT a.name FROM mortise.admins a WHERE a.name = ANY ($2) AND NOT a.revoked
    AND $1::text IS NOT NULL AND 'audit.read-any' = ANY (a.scopes)`,
} as const;

export const refusedOf = async (session: Session, tenant: string, actors: readonly Actor[]): Promise<Actor[]> => {
  const refused: Actor[] = [];
  for (const kind of ['host', 'admin', 'auditor'] as const) {
    const asked = actors.flatMap((actor) => (actor.kind === kind ? [actor] : []));
    if (asked.length === 0) continue;
    const values = [tenant, asked.map(({ name }) => name)];
    const { rows } = await session.query<{ name: string }>(ALLOWED[kind], values);
    const allowed = new Set(rows.map(({ name }) => name));
    refused.push(...asked.filter(({ name }) => !allowed.has(name)));
  }
  return refused;
};
