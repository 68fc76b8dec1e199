// The newest policies, told to whoever watches. Invariants: `asOf` is a time at which the store was asked and said the
// same as is told; of one policy, versions are told in ascending order.

import type { Clock } from '../../agent/clock.ts';
import { PLATFORM_TENANT } from '../../proto/documents/policy-types.ts';
import { Wakeup } from '../wakeup.ts';
import type { PolicyEvents } from './policies.ts';
import type { PoliciesStore, PolicyHead, PolicyRow } from './store.ts';

export interface Known {
  readonly version: number;
  readonly digest: string;
}

export interface PolicyNews {
  readonly policies: readonly PolicyRow[];
  readonly snapshotComplete: boolean;
  /** Milliseconds since 1970. */
  readonly asOf: number;
}

const MAX_MESSAGE_BYTES = 3 * 1024 * 1024; // policies of at most 1 MiB in messages of at most 4
const MAX_KEPT_BYTES = 32 * 1024 * 1024;

/** Documents lately asked for: one publication is fetched by every host at the same moment. */
class Documents {
  readonly #store: PoliciesStore;
  readonly #rows = new Map<string, Promise<PolicyRow | undefined>>();
  #bytes = 0;

  constructor(store: PoliciesStore) {
    this.#store = store;
  }

  async get({ tenant, version }: PolicyHead): Promise<PolicyRow | undefined> {
    const key = `${tenant}/${version}`;
    const known = this.#rows.get(key);
    if (known !== undefined) return known;
    if (this.#bytes > MAX_KEPT_BYTES) this.#forget();
    const read = this.#store.policy(tenant, version);
    this.#rows.set(key, read);
    try {
      const row = await read;
      this.#bytes += row?.jws.length ?? 0;
      if (row === undefined) this.#rows.delete(key);
      return row;
    } catch (error) {
      this.#rows.delete(key);
      throw error;
    }
  }

  #forget(): void {
    this.#rows.clear();
    this.#bytes = 0;
  }
}

export class PolicyWatch implements AsyncDisposable {
  readonly #store: PoliciesStore;
  readonly #documents: Documents;
  readonly #clock: Clock;
  readonly #events: PolicyEvents;
  readonly #refreshMs: number;
  readonly #heads = new Map<string, PolicyHead>();
  readonly #watchers = new Set<Wakeup>();
  readonly #stop: () => void;
  readonly #timer: NodeJS.Timeout;
  #asOf = 0;
  #again = false;
  #loading: Promise<void> | undefined;

  constructor(parts: {
    readonly store: PoliciesStore;
    readonly clock: Clock;
    readonly events: PolicyEvents;
    readonly refreshSeconds: number;
  }) {
    this.#store = parts.store;
    this.#documents = new Documents(parts.store);
    this.#clock = parts.clock;
    this.#events = parts.events;
    this.#refreshMs = parts.refreshSeconds * 1000;
    this.#stop = parts.store.watchPolicies(() => void this.load());
    this.#timer = setInterval(() => void this.load(), this.#refreshMs);
    this.#timer.unref();
  }

  /** Open watches. */
  get size(): number {
    return this.#watchers.size;
  }

  /** Whether the store has said lately what the newest policies are. */
  get isCurrent(): boolean {
    return this.#clock.now() - this.#asOf < 3 * this.#refreshMs;
  }

  /** Asks the store; never rejects. What is published while it is asked is asked for once more. */
  load(): Promise<void> {
    this.#again = true;
    this.#loading ??= this.#loadAll();
    return this.#loading;
  }

  /**
   * First the newest policies of the tenants (the platform's too) but those that are known, then each change, and at
   * least every refresh period a word that nothing has changed. Silent while the store cannot be asked.
   */
  async *watch(
    tenants: readonly string[],
    known: ReadonlyMap<string, Known>,
    signal: AbortSignal,
  ): AsyncGenerator<PolicyNews> {
    const wakeup = new Wakeup();
    this.#watchers.add(wakeup);
    const wanted = [PLATFORM_TENANT, ...tenants];
    const told = new Map(known);
    let first = true;
    let toldAsOf = 0;
    try {
      while (!signal.aborted) {
        const asOf = this.#asOf;
        const news = wanted.map((tenant) => this.#heads.get(tenant)).filter((head) => head !== undefined);
        const changed = news.filter((head) => isNews(head, told.get(head.tenant)));
        if (asOf > 0) {
          yield* this.#tell(changed, told, { asOf, first, fresh: asOf > toldAsOf });
          [first, toldAsOf] = [false, asOf];
        }
        await wakeup.wait({ signal });
      }
    } finally {
      this.#watchers.delete(wakeup);
    }
  }

  async *#tell(
    changed: readonly PolicyHead[],
    told: Map<string, Known>,
    { asOf, first, fresh }: { readonly asOf: number; readonly first: boolean; readonly fresh: boolean },
  ): AsyncGenerator<PolicyNews> {
    let policies: PolicyRow[] = [];
    let bytes = 0;
    for (const head of changed) {
      const row = await this.#documents.get(head);
      if (row === undefined) continue;
      told.set(head.tenant, head);
      if (bytes + row.jws.length > MAX_MESSAGE_BYTES) {
        yield { policies, snapshotComplete: false, asOf };
        [policies, bytes] = [[], 0];
      }
      policies.push(row);
      bytes += row.jws.length;
    }
    if (first || fresh || policies.length > 0) yield { policies, snapshotComplete: first, asOf };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    this.#stop();
    await this.#loading;
  }

  async #loadAll(): Promise<void> {
    while (this.#again) {
      this.#again = false;
      await this.#load();
    }
    this.#loading = undefined;
  }

  async #load(): Promise<void> {
    const asOf = this.#clock.now();
    try {
      for (const head of await this.#store.policyHeads()) this.#heads.set(head.tenant, head);
      this.#asOf = asOf;
      for (const watcher of this.#watchers) watcher.raise();
    } catch (cause) {
      this.#events.policiesUnknown({ cause });
    }
  }
}

/** Also where the caller knows a higher version: then he is told what the registry has, and sees that it was taken back. */
const isNews = (head: PolicyHead, known: Known | undefined): boolean =>
  known === undefined || known.version !== head.version || known.digest !== head.digest;
