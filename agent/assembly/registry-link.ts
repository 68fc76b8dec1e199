// The agent's rooms joined to its registry: policies come in, the audit log goes out, and health says how it stands. An
// agent without a registry has no such link. Invariant: it begins when log and keys are open and ends before them.

import type { Handover } from '../audit/handover.ts';
import type { AuditLog } from '../audit/types.ts';
import type { Clock } from '../clock.ts';
import type { Config, RegistryConfig } from '../config/config.ts';
import type { Policy } from '../policy/policy.ts';
import { PublishedPolicies } from '../policy/source.ts';
import type { Events } from '../telemetry/events.ts';
import { type IdentityFiles, rememberedTenants } from '../uplink/identity.ts';
import type { HostState, LedgerSource, PartHealth, UplinkEvents } from '../uplink/ports.ts';
import { Uplink } from '../uplink/uplink.ts';
import { sealMacKey } from './mac-key-seal.ts';

export interface RegistryLinkOptions {
  readonly config: Config;
  readonly registry: RegistryConfig;
  readonly clock: Clock;
  readonly version: string;
  readonly startedAt: number;
  readonly events: Events['uplink'];
  readonly policies: PublishedPolicies;
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

export class RegistryLink {
  readonly #options: RegistryLinkOptions;
  readonly #refused = new Map<string, string>();
  #handover: Handover | undefined;
  #uplink: Uplink | undefined;
  #parts: () => readonly PartHealth[] = () => [];

  constructor(options: RegistryLinkOptions) {
    this.#options = options;
  }

  /** Begins to connect. `parts` tells how the rest of the agent is. */
  async open(rooms: {
    readonly log: AuditLog;
    readonly policy: Policy;
    readonly parts: () => readonly PartHealth[];
  }): Promise<void> {
    const { config, registry, version, startedAt, policies, changed } = this.#options;
    this.#handover = await rooms.log.handover(() => this.#uplink?.cosigner);
    this.#parts = rooms.parts;
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
      assigned: (tenants) => {
        policies.assign(tenants);
        rooms.policy.servedChanged();
      },
      state: () => this.#state(rooms.policy),
      changed,
    });
    rooms.policy.onChange(() => this.#uplink?.changed());
    const addresses = registry.addresses.map(({ host, port }) => `${host}:${port}`);
    this.#options.events.enabled({ addresses, backlog: () => this.#backlog() });
    this.#uplink.start();
  }

  /** For GetStatus, health and the registry itself. */
  health(): PartHealth & { readonly part: 'registry' } {
    const { connected = false, detail = 'not begun: it needs the audit log' } = this.#uplink?.state() ?? {};
    const refused = [...this.#refused].map(([tenant, why]) => `the log of ${tenant} is refused: ${why}`);
    const waiting = this.#backlog();
    const backlog = waiting > 0 ? `; ${waiting} records wait to be handed in` : '';
    const healthy = connected && refused.length === 0;
    return { part: 'registry', healthy, detail: [`${detail}${backlog}`, ...refused].join('; ') };
  }

  async close(): Promise<void> {
    await this.#uplink?.close();
  }

  #backlog(): number {
    return (this.#handover?.logs() ?? []).reduce((sum, { size, acknowledged }) => sum + size - acknowledged, 0);
  }

  #state(policy: Policy): HostState {
    const backlogs = (this.#handover?.logs() ?? []).map(({ tenant, size, acknowledged }) => ({
      tenant,
      records: Math.max(0, size - acknowledged),
    }));
    return { policies: policy.inForce(), catalogs: [], backlogs, parts: this.#parts() };
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
    const { events } = this.#options;
    return {
      ...events,
      ledgerRefused: (event) => {
        this.#refused.set(event.tenant, `${event.code} at ${event.index}`);
        events.ledgerRefused(event);
      },
      ledgerAcknowledged: ({ tenant }) => void this.#refused.delete(tenant),
    };
  }
}
