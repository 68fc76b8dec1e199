// Uses of keys with a hard limit, where many hosts share the limit: taken in slices that the catalogue of all hosts
// grants. Invariant: a use is made only out of a granted slice, and a slice is in memory alone: what a crash leaves of it
// is forfeited, so the limit is never exceeded. At an orderly end the rest is given back.
import { randomBytes } from 'node:crypto';
import type { KeyRecord } from '../../proto/documents/key-record.ts';
import { primaryVersion } from '../../proto/documents/key-states.ts';
import { AgentError, asAgentError } from '../errors.ts';
import { type Central, isDoubtful } from './central.ts';

const LEASE_ID_BYTES = 16;
const WANTED = 1024; // a slice; the catalogue grants at most a sixteenth of what is left

interface Slice {
  readonly leaseId: Buffer;
  readonly version: number;
  left: number;
  /** Uses leased to all hosts when this slice was granted, it included. */
  readonly leased: number;
}

interface Asking {
  readonly leaseId: Buffer;
  readonly version: number;
  readonly granted: Promise<Slice>;
}

export class UseLeases {
  readonly #central: Central;
  readonly #slices = new Map<string, Slice>();
  readonly #asking = new Map<string, Asking>();
  /** Leases whose grant was lost: asked for again by the same id, they are answered as the first time. */
  readonly #lost = new Map<string, { readonly leaseId: Buffer; readonly version: number }>();
  /** By key: uses leased to all hosts as last heard. */
  readonly #leased = new Map<string, { readonly version: number; readonly leased: number }>();

  constructor({ central }: { readonly central: Central }) {
    this.#central = central;
  }

  /** Takes one use of the primary version. Resolves with the uses made by all hosts, as an upper bound. */
  async use(record: KeyRecord): Promise<number> {
    const version = primaryVersion(record)?.version;
    if (version === undefined) throw new AgentError('KEY_STATE', { message: 'no primary version' });
    const name = `${record.tenant}/${record.keyId}`;
    for (;;) {
      const slice = this.#slices.get(name);
      if (slice !== undefined && slice.version === version && slice.left > 0) {
        slice.left -= 1;
        return slice.leased - slice.left;
      }
      // All who wait share one slice; who finds it used up asks for the next.
      await this.#refill(record, name, version);
    }
  }

  /** Uses made of the key's version that was used last, by all hosts, as far as is known. */
  usesOf(tenant: string, keyId: string): number {
    const name = `${tenant}/${keyId}`;
    return (this.#leased.get(name)?.leased ?? 0) - (this.#slices.get(name)?.left ?? 0);
  }

  /** Of one version: what is left of its slice here, and the uses leased to all hosts as last heard. */
  known(tenant: string, keyId: string, version: number): { readonly left: number; readonly leased: number } {
    const name = `${tenant}/${keyId}`;
    const slice = this.#slices.get(name);
    const heard = this.#leased.get(name);
    return {
      left: slice?.version === version ? slice.left : 0,
      leased: heard?.version === version ? heard.leased : 0,
    };
  }

  /** Counts begin anew with another version; what is left of the old one's slice goes back. */
  keyChanged(record: KeyRecord): void {
    const name = `${record.tenant}/${record.keyId}`;
    const version = primaryVersion(record)?.version;
    if ((this.#leased.get(name)?.version ?? version) !== version) this.#leased.delete(name);
    const slice = this.#slices.get(name);
    if (slice === undefined || slice.version === version) return;
    this.#slices.delete(name);
    void this.#giveBack(slice);
  }

  /** Gives back what is left of every slice. Never rejects: what cannot be given back is forfeited. */
  async giveBack(): Promise<void> {
    const slices = [...this.#slices.values()];
    this.#slices.clear();
    await Promise.all(slices.map((slice) => this.#giveBack(slice)));
  }

  async #refill(record: KeyRecord, name: string, version: number): Promise<void> {
    const under = this.#asking.get(name);
    if (under !== undefined && under.version === version) {
      await under.granted;
      return;
    }
    const lost = this.#lost.get(name);
    const leaseId = lost?.version === version ? lost.leaseId : randomBytes(LEASE_ID_BYTES);
    const asking = { leaseId, version, granted: this.#ask(record, name, version, leaseId) };
    this.#asking.set(name, asking);
    try {
      const old = this.#slices.get(name);
      const slice = await asking.granted;
      this.#slices.set(name, slice);
      if (old !== undefined && old.left > 0) void this.#giveBack(old);
    } finally {
      if (this.#asking.get(name) === asking) this.#asking.delete(name);
    }
  }

  async #ask({ tenant, keyId, limits }: KeyRecord, name: string, version: number, leaseId: Buffer): Promise<Slice> {
    try {
      const lease = await this.#central.leaseUses({ leaseId, tenant, keyId, version, wanted: WANTED });
      this.#lost.delete(name);
      this.#leased.set(name, { version, leased: lease.leased });
      return { leaseId, version, left: lease.granted, leased: lease.leased };
    } catch (thrown) {
      const error = asAgentError(thrown);
      if (isDoubtful(error)) this.#lost.set(name, { leaseId, version });
      else this.#lost.delete(name);
      if (error.code !== 'KEY_LIMIT') throw error;
      const hardUses = String(limits.hardUses ?? '');
      throw new AgentError('KEY_LIMIT', {
        message: `the key has reached its hard limit of ${hardUses} uses on all hosts together; rotate it`,
        metadata: { hardUses },
        cause: error,
      });
    }
  }

  async #giveBack({ leaseId, left }: Slice): Promise<void> {
    if (left === 0) return;
    await this.#central.returnUses(leaseId, left).catch(() => undefined); // forfeited, as after a crash
  }
}
