// A catalogue of all hosts in memory, as the keys room sees it, with faults that tests script. What it takes goes to the
// replicas that follow it, in order, when the test says so.
import { createHash } from 'node:crypto';
import { AgentError } from '../../agent/errors.ts';
import type { Central, CentralKek, Change, Lease } from '../../agent/keys/central.ts';
import type { Replica } from '../../agent/keys/replica.ts';
import type { KeyRecord } from '../../proto/documents/key-record.ts';
import { parseKeyRecord } from '../../proto/documents/key-record-parse.ts';

interface Stored {
  readonly tenant: string;
  readonly name: string;
  readonly revision: number;
  readonly change: Change;
}

const lost = (): AgentError => new AgentError('REGISTRY_UNAVAILABLE', { metadata: { outcome: 'unknown' } });

export class FakeCentral implements Central {
  readonly log: Stored[] = [];
  /** Nobody is asked. */
  down = false;
  /** What is asked is done, and the answer does not come. */
  losesAnswers = false;
  readonly #followers = new Map<Replica, number>();
  readonly #leases = new Map<
    string,
    { readonly what: string; readonly granted: number; open: boolean; leased: number }
  >();
  readonly leased = new Map<string, number>();

  unreachable(): string | undefined {
    return this.down ? 'the registry cannot be reached' : undefined;
  }

  async putRecord(record: KeyRecord, bytes: Buffer): Promise<void> {
    const { tenant, keyId, revision } = record;
    this.#put({ tenant, name: `key/${keyId}`, revision, change: { kind: 'key', bytes } });
  }

  async putKek(tenant: string, kek: CentralKek): Promise<void> {
    this.#put({ tenant, name: `kek/${kek.version}`, revision: kek.revision, change: { kind: 'kek', kek } });
  }

  async leaseUses(what: Parameters<Central['leaseUses']>[0]): Promise<Lease> {
    this.#refuseDown();
    const id = what.leaseId.toString('hex');
    const name = `${what.tenant}/${what.keyId}/${what.version}`;
    let lease = this.#leases.get(id);
    if (lease === undefined) {
      const left = (this.#record(what.tenant, what.keyId)?.limits.hardUses ?? 0) - (this.leased.get(name) ?? 0);
      if (left <= 0) throw new AgentError('KEY_LIMIT');
      const granted = Math.min(what.wanted, Math.max(1, Math.floor(left / 16)));
      const leased = (this.leased.get(name) ?? 0) + granted;
      this.leased.set(name, leased);
      lease = { what: name, granted, open: true, leased };
      this.#leases.set(id, lease);
    }
    if (this.losesAnswers) throw lost();
    return lease;
  }

  async returnUses(leaseId: Buffer, unused: number): Promise<void> {
    this.#refuseDown();
    const lease = this.#leases.get(leaseId.toString('hex'));
    if (lease?.open !== true || unused > lease.granted) throw new AgentError('INVALID_REQUEST');
    lease.open = false;
    this.leased.set(lease.what, (this.leased.get(lease.what) ?? 0) - unused);
  }

  /** Opens a stream to the replica from the position that it has, and brings it up to date. */
  follow(replica: Replica, tenant: string): string | undefined {
    replica.opened();
    this.#followers.set(replica, replica.position(tenant).position);
    return this.deliver(replica, tenant);
  }

  /** Brings what the replica has not heard; answers why it went backwards. */
  deliver(replica: Replica, tenant: string): string | undefined {
    const from = this.#followers.get(replica) ?? 0;
    const news = this.log.slice(from).filter((row) => row.tenant === tenant);
    this.#followers.set(replica, this.log.length);
    const changes = news.map(({ change }) => change);
    return replica.apply(tenant, { changes, at: this.#at(), inSnapshot: false, isFirst: false, isComplete: true });
  }

  /** All entries as they are now, as a snapshot; `rebuild`: behind the news of one. */
  snapshot(replica: Replica, tenant: string, rebuild?: string): string | undefined {
    replica.opened();
    if (rebuild !== undefined) replica.rebuilt(tenant, rebuild);
    const newest = new Map(this.log.filter((row) => row.tenant === tenant).map((row) => [row.name, row.change]));
    const at = this.#at();
    return replica.apply(tenant, {
      changes: [...newest.values()],
      at,
      inSnapshot: true,
      isFirst: true,
      isComplete: true,
    });
  }

  #at() {
    const head = createHash('sha256').update(String(this.log.length)).digest('hex');
    return { position: this.log.length, head };
  }

  #record(tenant: string, keyId: string): KeyRecord | undefined {
    const row = this.log.findLast((stored) => stored.tenant === tenant && stored.name === `key/${keyId}`);
    return row?.change.kind === 'key' ? parseKeyRecord(row.change.bytes) : undefined;
  }

  #put(next: Stored): void {
    this.#refuseDown();
    const stored = this.log.findLast((row) => row.tenant === next.tenant && row.name === next.name);
    if (next.revision === 1 && stored !== undefined) throw new AgentError('KEY_EXISTS');
    if (next.revision > 1 && stored === undefined) throw new AgentError('KEY_UNKNOWN');
    if ((stored?.revision ?? 0) !== next.revision - 1) throw new AgentError('KEY_CONFLICT');
    this.log.push(next);
    if (this.losesAnswers) throw lost();
  }

  #refuseDown(): void {
    if (this.down) throw new AgentError('REGISTRY_UNAVAILABLE');
  }
}
