// Which hosts of a tenant have applied a position of its catalogue. Invariant: nobody is left out silently: every host
// that may serve the tenant is among those who have it or among the missing.
import { setTimeout as gather } from 'node:timers/promises';
import type { Clock } from '../../agent/clock.ts';
import { Wakeup } from '../wakeup.ts';
import type { Heartbeats } from './heartbeats.ts';
import type { HostRow, HostsStore, PresenceRow } from './store.ts';

export interface MissingHost {
  readonly host: string;
  readonly position: number;
  readonly connected: boolean;
  readonly lastSeen: number | undefined;
}

export interface Arrival {
  readonly applied: readonly string[];
  readonly missing: readonly MissingHost[];
}

const PAGE = 500;
const GATHER_MS = 20; // a thousand hosts tell within a second: one look for many of them
const LOOK_AGAIN_MS = 5_000; // connections that ended with their replica are told by nobody

const hostsOf = async (store: HostsStore, tenant: string): Promise<HostRow[]> => {
  const all: HostRow[] = [];
  for (;;) {
    const after = all.at(-1)?.host;
    const page = await store.hosts({ tenant, state: 'ACTIVE', limit: PAGE, ...(after !== undefined && { after }) });
    all.push(...page);
    if (page.length < PAGE) return all;
  }
};

const mayServe = (row: HostRow, now: number): boolean =>
  row.bringsCertificate || (row.certificates?.expiresAt ?? 0) > now;

/** Hosts that may serve the tenant now. */
export const servingHosts = async (store: HostsStore, tenant: string, clock: Clock): Promise<string[]> =>
  (await hostsOf(store, tenant)).filter((row) => mayServe(row, clock.now())).map(({ host }) => host);

/** The arrival now, and each time it changed, until nobody is missing or the signal aborts. */
export async function* waitForHosts(
  parts: { readonly store: HostsStore; readonly heartbeats: Heartbeats; readonly clock: Clock },
  target: { readonly tenant: string; readonly position: number },
  signal: AbortSignal,
): AsyncGenerator<Arrival> {
  const { store, heartbeats, clock } = parts;
  const { tenant, position } = target;
  const changed = new Wakeup();
  const stopHosts = store.watchHosts(() => changed.raise());
  const stopPresences = store.watchPresences(() => changed.raise());
  let told = '';
  try {
    while (!signal.aborted) {
      const hosts = (await hostsOf(store, tenant)).filter((row) => mayServe(row, clock.now()));
      const rows = await store.presences(hosts.map(({ host }) => host));
      const arrival = arrivalOf(hosts, new Map(rows.map((row) => [row.host, row])), heartbeats, { tenant, position });
      const text = JSON.stringify([
        arrival.applied,
        arrival.missing.map(({ host, position: at, connected }) => [host, at, connected]),
      ]);
      if (text !== told) yield arrival;
      told = text;
      if (arrival.missing.length === 0) return;
      await changed.wait({ signal, ms: LOOK_AGAIN_MS });
      await gather(GATHER_MS);
    }
  } finally {
    stopHosts();
    stopPresences();
  }
}

const arrivalOf = (
  hosts: readonly HostRow[],
  presences: ReadonlyMap<string, PresenceRow>,
  heartbeats: Heartbeats,
  { tenant, position }: { readonly tenant: string; readonly position: number },
): Arrival => {
  const applied: string[] = [];
  const missing: MissingHost[] = [];
  for (const { host } of hosts) {
    const presence = presences.get(host);
    const reached = presence?.catalogs.find((row) => row.tenant === tenant)?.position ?? 0;
    if (reached >= position) applied.push(host);
    else {
      const connected = presence !== undefined && heartbeats.isConnected(presence);
      missing.push({ host, position: reached, connected, lastSeen: presence?.lastSeen });
    }
  }
  return { applied, missing };
};
