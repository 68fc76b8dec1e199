// A host without an agent: the agent's own uplink over real TLS with a real certificate, and beside it nothing but notes of
// when what arrived.
import { rm } from 'node:fs/promises';
import { followCatalog } from '../../../agent/uplink/catalog-feed.ts';
import type { Address } from '../../../agent/uplink/channel.ts';
import { enrol } from '../../../agent/uplink/enrol.ts';
import type { AppliedPolicy, CatalogSink, LedgerSource, PoliciesSink, Position } from '../../../agent/uplink/ports.ts';
import { Uplink } from '../../../agent/uplink/uplink.ts';

export const TENANT = 'acme';

/** Of the one clock that all processes of the machine share, in milliseconds. */
export const sharedNow = (): number => Number(process.hrtime.bigint()) / 1e6;

interface Payload {
  readonly version: number;
}

const versionOf = (jws: Buffer): number => {
  const { payload } = JSON.parse(jws.toString()) as { payload: string };
  return (JSON.parse(Buffer.from(payload, 'base64url').toString()) as Payload).version;
};

const NO_RECORDS: LedgerSource = {
  publicJwk: '{}',
  logs: () => [],
  log: () => undefined,
  read: async () => [],
  checkpoints: () => [],
  sealedMacKey: async () => '',
  acknowledge: async () => undefined,
  onChange: () => () => undefined,
};

const START = Buffer.alloc(32);

export class LightHost {
  readonly host: string;
  /** When each version of the policy, and each position of the catalogue, arrived first. */
  readonly policies = new Map<number, number>();
  readonly positions = new Map<number, number>();
  /** When it was welcomed, and when an attempt or a session ended, with the code. */
  readonly connections: number[] = [];
  readonly losses: { readonly at: number; readonly code: string }[] = [];
  readonly #dir: string;
  readonly #uplink: Uplink;
  #policy: AppliedPolicy | undefined;
  #position: Position = { tenant: TENANT, position: 0, head: START };
  #changed: () => void = () => undefined;

  constructor(options: { readonly host: string; readonly dir: string; readonly address: Address }) {
    const { host, dir, address } = options;
    this.host = host;
    this.#dir = dir;
    this.#uplink = new Uplink({
      addresses: [address],
      files: { dir, host, brought: undefined },
      requireHybrid: true,
      version: 'bench',
      startedAt: Date.now(),
      policies: this.#policiesSink(),
      ledger: NO_RECORDS,
      feeds: [{ name: 'catalog', run: (client, signal) => followCatalog(client, this.#catalogSink(), signal) }],
      state: () => ({
        policies: this.#policy === undefined ? [] : [this.#policy],
        catalogs: [{ tenant: TENANT, position: this.#position.position }],
        backlogs: [],
        parts: [],
      }),
      assigned: () => undefined,
      changed: () => this.#changed(),
      events: {
        connected: () => void this.connections.push(sharedNow()),
        disconnected: ({ code }) => void this.losses.push({ at: sharedNow(), code }),
        revoked: () => undefined,
        renewed: () => undefined,
        renewFailed: () => undefined,
        clockDiffers: () => undefined,
        streamFailed: () => undefined,
        ledgerRefused: () => undefined,
        ledgerRewound: () => undefined,
        ledgerAcknowledged: () => undefined,
        catalogRewound: () => undefined,
        catalogTold: () => undefined,
        catalogRebuilt: () => undefined,
      },
    });
  }

  static async enrol(options: {
    readonly host: string;
    readonly dir: string;
    readonly address: Address;
    readonly token: string;
  }): Promise<LightHost> {
    await enrol({ ...options, requireHybrid: true, ownAnchor: undefined });
    return new LightHost(options);
  }

  get uplink(): Uplink {
    return this.#uplink;
  }

  /** Resolves when it has policy and catalogue. */
  async connect(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#changed = () => {
      if (this.#uplink.state().connected && this.#policy !== undefined) resolve();
    };
    this.#uplink.start();
    await promise;
    this.#changed = () => undefined;
  }

  async close(): Promise<void> {
    await this.#uplink.close();
    await rm(this.#dir, { recursive: true, force: true });
  }

  #policiesSink(): PoliciesSink {
    return {
      applied: () => (this.#policy === undefined ? [] : [this.#policy]),
      receive: async ({ policies }) => {
        for (const { tenant, jws } of policies) {
          const version = versionOf(jws);
          if (!this.policies.has(version)) this.policies.set(version, sharedNow());
          this.#policy = { tenant, version, digest: '0'.repeat(64), since: Date.now() };
        }
        if (policies.length > 0) this.#told();
      },
    };
  }

  #catalogSink(): CatalogSink {
    return {
      positions: () => [this.#position],
      opened: () => undefined,
      rewound: () => undefined,
      known: () => ({ changes: [], uses: [] }),
      found: async () => [],
      told: () => undefined,
      rebuilt: () => undefined,
      apply: (_tenant, { at }) => {
        if (at === undefined) return;
        if (!this.positions.has(at.position)) this.positions.set(at.position, sharedNow());
        this.#position = at;
        this.#told();
      },
    };
  }

  /** As an agent does: what it has applied it tells at once. */
  #told(): void {
    this.#uplink.changed();
    this.#changed();
  }
}
