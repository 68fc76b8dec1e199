// Administrators: scopes and tenants by name. Invariants: nobody gives what he has not; somebody who can manage
// administrators is always left.
import type { Clock } from '../../agent/clock.ts';
import { invalid, RegistryError } from '../errors.ts';
import type { Authority } from './authority.ts';
import { type AdminCaller, type HandedOut, type HostEvents, tokenLife, withRetries } from './hosts.ts';
import { ADMIN_SCOPES, grantable, isPlatform, type Rights, reaches } from './scopes.ts';
import type { AdminRow, HostsStore } from './store.ts';
import { makeToken } from './tokens.ts';

const NAME_PATTERN = /^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$/;

/** May these rights change that administrator at all? */
const rulesOver = (admin: Rights, other: AdminRow): boolean =>
  isPlatform(admin) || (other.tenants.length > 0 && other.tenants.every((tenant) => reaches(admin, tenant)));

export class Admins {
  readonly #store: HostsStore;
  readonly #authority: Authority;
  readonly #clock: Clock;
  readonly #events: HostEvents;

  constructor(parts: {
    readonly store: HostsStore;
    readonly authority: Authority;
    readonly clock: Clock;
    readonly events: HostEvents;
  }) {
    this.#store = parts.store;
    this.#authority = parts.authority;
    this.#clock = parts.clock;
    this.#events = parts.events;
  }

  async create(
    admin: AdminCaller,
    input: Rights & { readonly name: string; readonly tokenSeconds: number },
  ): Promise<{ readonly row: AdminRow; readonly token: HandedOut }> {
    const { name } = input;
    if (!NAME_PATTERN.test(name)) throw invalid('name', 'must be [A-Za-z0-9] then up to 63 of [A-Za-z0-9._@-]');
    const rights = grantable(admin, input);
    const expiresAt = this.#clock.now() + tokenLife(input.tokenSeconds) * 1000;
    const { rootHash } = this.#authority;
    const made = makeToken({ kind: 'admin', name, tenants: [], expiresAt, rootHash });
    const row = await withRetries(async () => {
      const before = await this.#store.admin(name);
      if (before !== undefined && !rulesOver(admin, before)) throw new RegistryError('PERMISSION_DENIED');
      if (before !== undefined) await this.#requireOthers(before, rights);
      const { certificates } = before?.revoked === false ? before : {};
      const revision = (before?.revision ?? 0) + 1;
      const next: AdminRow = {
        name,
        ...rights,
        revoked: false,
        tokenId: made.row.id,
        ...(certificates && { certificates }),
        revision,
      };
      return (await this.#store.change({ admin: next, token: made.row })) ? next : undefined;
    });
    this.#events.tokenMade({ kind: 'admin', name, admin: admin.name, expiresAt });
    return { row, token: { text: made.text, expiresAt } };
  }

  /** The first administrator, with every scope, for `init`. Fails where there is one already. */
  async createFirst(name: string): Promise<HandedOut> {
    if ((await this.#store.admins()).length > 0) {
      throw new RegistryError('PERMISSION_DENIED', { message: 'the store has administrators already' });
    }
    const root: AdminCaller = { name: 'init', scopes: ADMIN_SCOPES, tenants: [] };
    return (await this.create(root, { name, scopes: ADMIN_SCOPES, tenants: [], tokenSeconds: 0 })).token;
  }

  async list(admin: AdminCaller): Promise<readonly AdminRow[]> {
    return (await this.#store.admins()).filter((row) => rulesOver(admin, row));
  }

  async revoke(admin: AdminCaller, name: string): Promise<AdminRow> {
    return withRetries(async () => {
      const before = await this.#store.admin(name);
      if (before === undefined) throw new RegistryError(isPlatform(admin) ? 'ADMIN_UNKNOWN' : 'PERMISSION_DENIED');
      if (!rulesOver(admin, before)) throw new RegistryError('PERMISSION_DENIED');
      if (before.revoked) return before;
      await this.#requireOthers(before, undefined);
      const { certificates: _, tokenId: __, ...kept } = before;
      const next: AdminRow = { ...kept, revoked: true, revision: before.revision + 1 };
      if (!(await this.#store.change({ admin: next }))) return undefined;
      this.#events.revoked({ kind: 'admin', name, admin: admin.name, reason: '' });
      return next;
    });
  }

  /** Fails where the change of `row` to `rights` would leave nobody who manages administrators of the platform. */
  async #requireOthers(row: AdminRow, rights: Rights | undefined): Promise<void> {
    const manages = (of: Rights): boolean => isPlatform(of) && of.scopes.includes('admins.manage');
    if (row.revoked || !manages(row) || (rights !== undefined && manages(rights))) return;
    const others = (await this.#store.admins()).filter((other) => other.name !== row.name && !other.revoked);
    if (!others.some((other) => manages(other) && other.certificates !== undefined))
      throw new RegistryError('LAST_ADMIN');
  }
}
