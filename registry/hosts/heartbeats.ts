// The hosts that are connected, and what each last said it has applied. Invariants: a host has one heartbeat at a time on
// all replicas together, the newest; what a host said is stored once somebody could have acted on it.
import type { Clock } from '../../agent/clock.ts';
import { RegistryError } from '../errors.ts';
import { PresenceWriter } from './presence-writer.ts';
import type { HostsStore, PresenceRow } from './store.ts';

/** What a message may say; what it leaves out stays as it was. */
export type Said = Partial<
  Pick<PresenceRow, 'agentVersion' | 'startedAt' | 'policies' | 'catalogs' | 'backlogs' | 'parts'>
>;

export interface HeartbeatEvents {
  hostConnected(event: { host: string; agentVersion: string }): void;
  hostGone(event: { host: string; reason: string }): void;
  presenceFailed(event: { host: string; cause: unknown }): void;
}

const SILENT_BEATS = 3;
/** What a host calls its parts is its own; a row grows no further by new names. */
const MAX_PARTS = 64;

/** Later rows replace earlier ones of the same name. */
const merged = <T extends object, K extends keyof T>(
  before: readonly T[],
  said: readonly T[] | undefined,
  by: K,
): readonly T[] => {
  if (said === undefined || said.length === 0) return before;
  const rows = new Map(before.map((row) => [row[by], row]));
  for (const row of said) rows.set(row[by], row);
  return [...rows.values()].sort((a, b) => (String(a[by]) < String(b[by]) ? -1 : 1));
};

const NOTHING = { agentVersion: '', startedAt: 0, policies: [], catalogs: [], backlogs: [], parts: [] } as const;

/** One open heartbeat of a host. */
export class Heartbeat {
  readonly host: string;
  readonly #hub: Heartbeats;
  readonly #tenants: ReadonlySet<string>;
  readonly #ended = new AbortController();
  #row: PresenceRow;
  #silence: NodeJS.Timeout | undefined;

  constructor(
    hub: Heartbeats,
    options: { readonly host: string; readonly tenants: readonly string[]; readonly row: PresenceRow },
  ) {
    this.#hub = hub;
    this.host = options.host;
    this.#tenants = new Set(options.tenants);
    this.#row = options.row;
    this.#listen();
  }

  /** Aborts with the RegistryError that ends it. */
  get signal(): AbortSignal {
    return this.#ended.signal;
  }

  get row(): PresenceRow {
    return this.#row;
  }

  said(said: Said): void {
    this.#listen();
    const own = <T extends { readonly tenant: string }>(rows: readonly T[] | undefined): readonly T[] | undefined =>
      rows?.filter(({ tenant }) => tenant === '_platform' || this.#tenants.has(tenant));
    const { policies, catalogs, backlogs, parts } = this.#row;
    this.#row = {
      ...this.#row,
      ...(said.agentVersion && { agentVersion: said.agentVersion }),
      ...(said.startedAt && { startedAt: said.startedAt }),
      policies: merged(policies, own(said.policies), 'tenant'),
      catalogs: merged(catalogs, own(said.catalogs), 'tenant'),
      backlogs: merged(backlogs, own(said.backlogs), 'tenant').filter(({ records }) => records > 0),
      parts: merged(parts, said.parts, 'part').slice(0, MAX_PARTS),
      lastSeen: this.#hub.now(),
    };
    if (this.#hub.isNewest(this)) void this.#hub.presences.put(this.#row);
  }

  end(error: RegistryError): void {
    this.#ended.abort(error);
  }

  /** The stream is over. */
  async leave(reason: string): Promise<void> {
    clearTimeout(this.#silence);
    if (!this.#hub.forget(this, reason)) return; // another one has taken its place, and says where the host is
    const { replica: _, ...row } = this.#row;
    this.#row = row;
    await this.#hub.presences.put(row);
  }

  #listen(): void {
    clearTimeout(this.#silence);
    const ms = this.#hub.intervalMs * SILENT_BEATS;
    const silent = (): void =>
      this.end(new RegistryError('DEADLINE_EXCEEDED', { message: `no heartbeat for ${ms} ms` }));
    this.#silence = setTimeout(silent, ms);
    this.#silence.unref();
  }
}

export class Heartbeats implements Disposable {
  readonly presences: PresenceWriter;
  readonly intervalMs: number;
  readonly #store: HostsStore;
  readonly #replica: string;
  readonly #clock: Clock;
  readonly #events: HeartbeatEvents;
  readonly #open = new Map<string, Heartbeat>();
  readonly #stop: () => void;

  constructor(parts: {
    readonly store: HostsStore;
    readonly replica: string;
    readonly intervalSeconds: number;
    readonly clock: Clock;
    readonly events: HeartbeatEvents;
  }) {
    this.#store = parts.store;
    this.presences = new PresenceWriter({ store: parts.store, events: parts.events });
    this.intervalMs = parts.intervalSeconds * 1000;
    this.#replica = parts.replica;
    this.#clock = parts.clock;
    this.#events = parts.events;
    this.#stop = parts.store.watchPresences(({ host, replica }) => {
      if (replica !== undefined && replica !== this.#replica) void this.#seenElsewhere(host);
    });
  }

  get size(): number {
    return this.#open.size;
  }

  now(): number {
    return this.#clock.now();
  }

  /** Begins a heartbeat by its first message; an older one of the host ends. */
  join(host: string, tenants: readonly string[], first: Said): Heartbeat {
    this.#open.get(host)?.end(new RegistryError('HEARTBEAT_REPLACED'));
    const row = { ...NOTHING, host, replica: this.#replica, lastSeen: this.now() };
    const heartbeat = new Heartbeat(this, { host, tenants, row });
    this.#open.set(host, heartbeat);
    this.#events.hostConnected({ host, agentVersion: first.agentVersion ?? '' });
    heartbeat.said(first);
    return heartbeat;
  }

  isNewest(heartbeat: Heartbeat): boolean {
    return this.#open.get(heartbeat.host) === heartbeat;
  }

  /** False where the host has a newer one. */
  forget(heartbeat: Heartbeat, reason: string): boolean {
    if (!this.isNewest(heartbeat)) return false;
    this.#open.delete(heartbeat.host);
    this.#events.hostGone({ host: heartbeat.host, reason });
    return true;
  }

  /** Whether the row says that the host has a heartbeat; a replica that was killed leaves rows that grow old. */
  isConnected(row: PresenceRow): boolean {
    return row.replica !== undefined && this.now() - row.lastSeen < this.intervalMs * (SILENT_BEATS + 1);
  }

  [Symbol.dispose](): void {
    this.#stop();
  }

  /** Another replica has a newer heartbeat of a host that is open here. */
  async #seenElsewhere(host: string): Promise<void> {
    const ours = this.#open.get(host);
    if (ours === undefined) return;
    try {
      const row = await this.#store.presence(host);
      const isElsewhere = row?.replica !== undefined && row.replica !== this.#replica;
      if (!isElsewhere || row.lastSeen <= ours.row.lastSeen) return;
      this.forget(ours, 'connected to another replica'); // its end must not say that the host is gone
      ours.end(new RegistryError('HEARTBEAT_REPLACED'));
    } catch (cause) {
      this.#events.presenceFailed({ host, cause });
    }
  }
}
