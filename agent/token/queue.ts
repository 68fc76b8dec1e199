// Fair queueing between tenants by the time that their calls take in the token (start-time fair queueing, Goyal, Vin
// and Cheng 1996). Invariant: the tenant that has had least is served next, so a flood or slow calls of one tenant
// delay only its own; no tenant holds more than its bound.

interface Tenant<T> {
  readonly waiting: Set<T>;
  /** Virtual time at which what it has had ends. */
  finish: number;
}

const MAX_IDLE_TENANTS = 1024; // tenants without calls whose finish is remembered; above it the past is forgotten

export class FairQueue<T> {
  readonly #tenants = new Map<string, Tenant<T>>();
  readonly #boundPerTenant: number;
  #virtual = 0;
  #length = 0;

  constructor({ boundPerTenant }: { readonly boundPerTenant: number }) {
    this.#boundPerTenant = boundPerTenant;
  }

  get length(): number {
    return this.#length;
  }

  /** False where the tenant has its bound waiting already. */
  push(tenant: string, item: T): boolean {
    let row = this.#tenants.get(tenant);
    if (row === undefined) {
      row = { waiting: new Set(), finish: this.#virtual };
      this.#tenants.set(tenant, row);
    }
    if (row.waiting.size >= this.#boundPerTenant) return false;
    row.waiting.add(item);
    this.#length += 1;
    return true;
  }

  /** Takes a waiting item out; false where it does not wait here. */
  remove(tenant: string, item: T): boolean {
    const row = this.#tenants.get(tenant);
    if (row === undefined || !row.waiting.delete(item)) return false;
    this.#length -= 1;
    return true;
  }

  /** The next item; `costOf` says what it will take of the token. */
  shift(costOf: (item: T) => number): T | undefined {
    let next: Tenant<T> | undefined;
    let start = Number.POSITIVE_INFINITY;
    for (const row of this.#tenants.values()) {
      if (row.waiting.size === 0) continue;
      const its = Math.max(row.finish, this.#virtual);
      if (its >= start) continue;
      next = row;
      start = its;
    }
    if (next === undefined) return undefined;
    const [item] = next.waiting as unknown as [T];
    next.waiting.delete(item);
    this.#length -= 1;
    this.#virtual = start;
    next.finish = start + Math.max(1, costOf(item));
    if (this.#tenants.size > MAX_IDLE_TENANTS) this.#forgetIdle();
    return item;
  }

  *[Symbol.iterator](): Generator<T> {
    for (const { waiting } of this.#tenants.values()) yield* waiting;
  }

  #forgetIdle(): void {
    for (const [name, row] of this.#tenants) if (row.waiting.size === 0) this.#tenants.delete(name);
  }
}
