// The catalogue where another one, of all hosts, decides on changes. Invariant: a change is asked for there first and
// stored here once it was taken; reads are served from here, whether or not anybody else can be reached. A change whose
// answer was lost leaves its tenant in doubt, until the other catalogue has been followed to its end again.
import type { KeyRecord } from '../../proto/documents/key-record.ts';
import { encodeKeyRecord } from '../../proto/documents/key-record-parse.ts';
import { AgentError, asAgentError } from '../errors.ts';
import { Catalog, type CatalogEvents } from './catalog.ts';
import { type Central, isDoubtful } from './central.ts';
import type { UseLeases } from './leases.ts';
import type { KeyStore } from './store.ts';
import type { UseCounters } from './uses.ts';

export class ReplicatedCatalog extends Catalog {
  readonly #central: Central;
  readonly #leases: UseLeases;
  readonly #doubt: (tenant: string) => void;
  readonly #frozen: (tenant: string) => string | undefined;

  constructor(options: {
    readonly store: KeyStore;
    readonly uses: UseCounters;
    readonly leases: UseLeases;
    readonly events: CatalogEvents;
    readonly central: Central;
    admit(next: KeyRecord, previous: KeyRecord | undefined): void;
    /** An answer of the tenant was lost. */
    doubt(tenant: string): void;
    /** Why nothing of the tenant may be changed, or undefined. */
    frozen(tenant: string): string | undefined;
  }) {
    super(options);
    this.#central = options.central;
    this.#leases = options.leases;
    this.#doubt = (tenant) => options.doubt(tenant);
    this.#frozen = (tenant) => options.frozen(tenant);
  }

  override requireChangeable(tenant: string): void {
    const why = this.#frozen(tenant) ?? this.#central.unreachable();
    if (why !== undefined) throw new AgentError('REGISTRY_UNAVAILABLE', { message: why });
  }

  override async insert(record: KeyRecord): Promise<void> {
    if (this.get(record.tenant, record.keyId) !== undefined) throw new AgentError('KEY_EXISTS');
    if (record.revision !== 1) throw new AgentError('INTERNAL', { cause: new Error('a new record has revision 1') });
    await this.#change(record, undefined);
  }

  override async replace(next: KeyRecord): Promise<void> {
    const previous = this.get(next.tenant, next.keyId);
    if (previous === undefined) throw new AgentError('KEY_UNKNOWN');
    if (previous.revision !== next.revision - 1) throw new AgentError('KEY_CONFLICT');
    await this.#change(next, previous);
  }

  /** With a hard limit a use is taken out of what this host was granted, and counted here all the same. */
  override async use(record: KeyRecord): Promise<number> {
    const { hardUses, ...others } = record.limits;
    if (hardUses === undefined) return super.use(record);
    const used = await this.#leases.use(record);
    await super.use({ ...record, limits: others });
    return used;
  }

  /** Of a key with a hard limit, those of all hosts as far as this one has heard. */
  override uses(tenant: string, keyId: string): number {
    return Math.max(super.uses(tenant, keyId), this.#leases.usesOf(tenant, keyId));
  }

  /**
   * Hands a key in that this host made while it stood alone; its revisions begin anew. Rejects with KEY_EXISTS where all
   * hosts have another key of this id.
   */
  async share(record: KeyRecord): Promise<void> {
    const first = { ...record, revision: 1 };
    await this.#central.putRecord(first, encodeKeyRecord(first));
    // What was changed here meanwhile, nobody could have decided on.
    this.apply([first]);
  }

  async #change(next: KeyRecord, previous: KeyRecord | undefined): Promise<void> {
    const { tenant, keyId } = next;
    this.requireChangeable(tenant);
    this.admit(next, previous);
    try {
      await this.#central.putRecord(next, encodeKeyRecord(next));
    } catch (thrown) {
      const error = asAgentError(thrown);
      if (isDoubtful(error)) this.#doubt(tenant);
      if (error.code !== 'KEY_UNKNOWN') throw error;
      // This host has the key and the registry has not: not the caller's doing.
      const message = 'the registry does not have this key; an operator must put it right';
      throw new AgentError('KEY_CONFLICT', { message, cause: error });
    }
    // The watch may have brought it, or what came after it, meanwhile.
    const stored = this.isCorrupt(tenant, keyId) ? undefined : this.get(tenant, keyId);
    if (stored === undefined || stored.revision < next.revision) this.apply([next]);
    this.report(next, previous);
  }
}
