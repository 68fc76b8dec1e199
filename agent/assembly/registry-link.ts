// The agent's rooms joined to its registry: policies come in, the audit log goes out, and health says how it stands. An
// agent without a registry has no such link. Invariant: it begins when log and keys are open and ends before them.

import { setTimeout as sleep } from 'node:timers/promises';
import type { Handover } from '../audit/handover.ts';
import type { AuditLog } from '../audit/types.ts';
import type { Clock } from '../clock.ts';
import type { Config, RegistryConfig } from '../config/config.ts';
import type { Central } from '../keys/central.ts';
import type { Keys } from '../keys/keys.ts';
import type { Policy } from '../policy/policy.ts';
import { PublishedPolicies } from '../policy/source.ts';
import type { Events } from '../telemetry/events.ts';
import { followCatalog } from '../uplink/catalog-feed.ts';
import { type IdentityFiles, rememberedTenants } from '../uplink/identity.ts';
import type { HostState, LedgerSource, PartHealth, SharedToken, UplinkEvents } from '../uplink/ports.ts';
import { Refusal } from '../uplink/refusal.ts';
import type { Feed } from '../uplink/session.ts';
import { leaveShares, shareFeeds } from '../uplink/session-feed.ts';
import { Uplink } from '../uplink/uplink.ts';
import { concernsTenant } from './health.ts';
import { sealMacKey } from './mac-key-seal.ts';
import type { Recorder } from './recorder.ts';
import { catalogSink, centralOf } from './shared-keys.ts';

export interface RegistryLinkOptions {
  readonly config: Config;
  readonly registry: RegistryConfig;
  readonly clock: Clock;
  readonly version: string;
  readonly startedAt: number;
  readonly events: Events['uplink'];
  readonly policies: PublishedPolicies;
  readonly recorder: Recorder;
  /** Those whose sessions the registry may divide. */
  readonly shares: readonly SharedToken[];
  readonly changed: () => void;
}

/** The policies of the registry that this host was enrolled at; undefined where the agent stands alone. */
export const publishedPolicies = async (config: Config, clock: Clock): Promise<PublishedPolicies | undefined> => {
  const { registry, policy } = config;
  if (registry === undefined) return undefined;
  const tenants = await rememberedTenants(registry.dir);
  return new PublishedPolicies({ trustAnchor: policy.trustAnchor, clock, tenants });
};

/** Undefined where the agent stands alone. */
export const openRegistryLink = (
  options: Omit<RegistryLinkOptions, 'registry' | 'policies'>,
  policies: PublishedPolicies | undefined,
): RegistryLink | undefined => {
  const { registry } = options.config;
  return registry === undefined || policies === undefined
    ? undefined
    : new RegistryLink({ ...options, registry, policies });
};

const GIVE_BACK_MS = 2_000;

export class RegistryLink {
  /** For the keys room. */
  readonly central: Central;
  readonly #options: RegistryLinkOptions;
  readonly #refused = new Map<string, string>();
  #handover: Handover | undefined;
  #uplink: Uplink | undefined;
  #shared: Keys['shared'];
  #parts: () => readonly PartHealth[] = () => [];

  constructor(options: RegistryLinkOptions) {
    this.#options = options;
    this.central = centralOf(
      {
        call: async (method, request) => {
          if (this.#uplink === undefined) throw new Refusal('NOT_CONNECTED', 'the agent is still starting');
          return this.#uplink.call(method, request);
        },
      },
      () => this.#unreachable(),
    );
  }

  /** Begins to connect. `parts` tells how the rest of the agent is. */
  async open(rooms: {
    readonly log: AuditLog;
    readonly policy: Policy;
    readonly keys: Pick<Keys, 'shared' | 'found'>;
    readonly parts: () => readonly PartHealth[];
  }): Promise<void> {
    const { config, registry, version, startedAt, policies, changed } = this.#options;
    this.#handover = await rooms.log.handover(() => this.#uplink?.cosigner);
    this.#parts = rooms.parts;
    this.#shared = rooms.keys.shared;
    const files: IdentityFiles = { dir: registry.dir, host: config.hostId, brought: registry.brought };
    this.#uplink = new Uplink({
      addresses: registry.addresses,
      files,
      requireHybrid: registry.requireHybrid,
      version,
      startedAt,
      events: this.#events(),
      policies: {
        applied: () => rooms.policy.inForce(),
        receive: async (update) => {
          if (policies.receive(update)) await rooms.policy.reload();
        },
      },
      ledger: this.#ledger(this.#handover),
      feeds: [
        ...(this.#shared === undefined ? [] : [this.#catalogFeed(this.#shared, rooms.keys.found)]),
        ...shareFeeds(this.#options.shares),
      ],
      assigned: (tenants) => {
        policies.assign(tenants);
        rooms.policy.servedChanged();
      },
      state: () => this.#state(rooms.policy),
      changed,
    });
    rooms.policy.onChange(() => this.#uplink?.changed());
    const addresses = registry.addresses.map(({ host, port }) => `${host}:${port}`);
    this.#options.events.enabled({ addresses, backlog: () => this.#backlog('_platform') });
    this.#uplink.start();
  }

  /** For GetStatus, health and the registry itself; a tenant is told nothing of another. */
  health(tenant: string): PartHealth & { readonly part: 'registry' } {
    const { connected = false, detail = 'not begun: it needs the audit log' } = this.#uplink?.state() ?? {};
    const refused = [...this.#refused]
      .filter(([of]) => concernsTenant(of, tenant))
      .map(([of, why]) => `the log of ${of} is refused: ${why}`);
    const waiting = this.#backlog(tenant);
    const backlog = waiting > 0 ? `; ${waiting} records wait to be handed in` : '';
    const frozen = (this.#shared?.replica.frozenTenants ?? [])
      .filter((of) => concernsTenant(of, tenant))
      .map((of) => `the catalogue of ${of} does not fit that of this host`);
    const healthy = connected && refused.length === 0 && frozen.length === 0;
    return { part: 'registry', healthy, detail: [`${detail}${backlog}`, ...refused, ...frozen].join('; ') };
  }

  /** Gives back what was leased, for a moment, and ends the session. */
  async close(): Promise<void> {
    if (this.#unreachable() === undefined) {
      const given = [this.#shared?.leases.giveBack(), this.#leaveShares()];
      await Promise.race([Promise.allSettled(given), sleep(GIVE_BACK_MS, undefined, { ref: false })]);
    }
    await this.#uplink?.close();
  }

  #unreachable(): string | undefined {
    const { connected = false, detail = 'the agent is still starting' } = this.#uplink?.state() ?? {};
    return connected ? undefined : `the registry cannot be reached (${detail}); keys can be used, not changed`;
  }

  #catalogFeed({ replica }: NonNullable<Keys['shared']>, found: Keys['found']): Feed {
    const { policies } = this.#options;
    const events = this.#events();
    const applied = (): void => this.#uplink?.changed();
    const sink = catalogSink({ replica, found, tenants: () => policies.tenants(), events, applied });
    return { name: 'catalog', run: (client, signal) => followCatalog(client, sink, signal) };
  }

  async #leaveShares(): Promise<void> {
    if (this.#uplink !== undefined) await leaveShares(this.#uplink, this.#options.shares);
  }

  #backlog(tenant: string): number {
    const logs = (this.#handover?.logs() ?? []).filter((log) => concernsTenant(log.tenant, tenant));
    return logs.reduce((sum, { size, acknowledged }) => sum + size - acknowledged, 0);
  }

  #state(policy: Policy): HostState {
    const backlogs = (this.#handover?.logs() ?? []).map(({ tenant, size, acknowledged }) => ({
      tenant,
      records: Math.max(0, size - acknowledged),
    }));
    return {
      policies: policy.inForce(),
      catalogs: this.#shared?.replica.positions() ?? [],
      backlogs,
      parts: this.#parts(),
    };
  }

  #ledger(handover: Handover): LedgerSource {
    const { hostId: host } = this.#options.config;
    return {
      logs: () => handover.logs(),
      log: (tenant) => handover.log(tenant),
      publicJwk: JSON.stringify(handover.publicJwk),
      read: (tenant, from) => handover.read(tenant, from),
      checkpoints: (tenant, after, upTo) => handover.checkpoints(tenant, after, upTo),
      sealedMacKey: async (epoch) => {
        const jwk = this.#uplink?.sealingJwk;
        return sealMacKey({ key: await handover.macKey(epoch), host, epoch, jwk });
      },
      acknowledge: (tenant, size, checkpoint) => handover.acknowledge(tenant, size, checkpoint),
      onChange: (listener) => handover.onChange(listener),
    };
  }

  #events(): UplinkEvents {
    const { events, recorder } = this.#options;
    return {
      ...events,
      connected: (event) => {
        events.connected(event);
        const { certificateExpireAt: expireAt } = this.#uplink?.state() ?? {};
        if (expireAt !== undefined) events.certificate({ expireAt });
      },
      revoked: (event) => {
        events.revoked(event);
        void recorder.record('host-revoked', event);
      },
      renewed: (event) => {
        events.renewed(event);
        void recorder.record('certificate-renewed', event);
      },
      ledgerRefused: (event) => {
        this.#refused.set(event.tenant, `${event.code} at ${event.index}`);
        events.ledgerRefused(event);
        // What is refused of the platform's own log would grow by a record with each attempt.
        if (event.tenant !== '_platform') void recorder.record('log-refused', event);
      },
      ledgerRewound: (event) => {
        events.ledgerRewound(event);
        void recorder.record('registry-rewound', { part: 'ledger', ...event });
      },
      catalogRewound: (event) => {
        events.catalogRewound(event);
        void recorder.record('registry-rewound', { part: 'catalog', ...event });
      },
      catalogTold: (event) => {
        events.catalogTold(event);
        void recorder.record('catalog-told', { ...event });
      },
      catalogRebuilt: (event) => {
        events.catalogRebuilt(event);
        void recorder.record('catalog-rebuilt', event);
      },
      ledgerAcknowledged: ({ tenant }) => void this.#refused.delete(tenant),
    };
  }
}
