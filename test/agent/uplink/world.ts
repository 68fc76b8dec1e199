// An uplink over real TLS to the fake registry, with everything that it needs of an agent in the test's hands.
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { enrol } from '../../../agent/uplink/enrol.ts';
import type { CatalogSink, HostState, LedgerSource, PoliciesSink, UplinkEvents } from '../../../agent/uplink/ports.ts';
import type { Feed } from '../../../agent/uplink/session.ts';
import { Uplink } from '../../../agent/uplink/uplink.ts';
import { FakeRegistry } from '../../fakes/registry.ts';
import { temporaryFolder } from '../../support/folder.ts';

export interface Heard {
  readonly name: keyof UplinkEvents;
  readonly event: Readonly<Record<string, unknown>>;
}

export interface UplinkWorld {
  readonly registry: FakeRegistry;
  readonly dir: string;
  readonly heard: Heard[];
  readonly received: { tenant: string; jws: Buffer }[];
  readonly host: string;
  state: HostState;
  make(options?: MakeOptions): Uplink;
  /** The first event of a name from now on, or one that has come since `from`. */
  next(name: keyof UplinkEvents, from?: number): Promise<Readonly<Record<string, unknown>>>;
}

export interface MakeOptions {
  readonly urls?: readonly string[];
  readonly requireHybrid?: boolean;
  readonly brought?: { certificateFile: string; keyFile: string };
  readonly feeds?: readonly Feed[];
  readonly ledger?: LedgerSource;
  readonly policies?: PoliciesSink;
}

export const addressOf = (url: string): { host: string; port: number } => {
  const { hostname, port } = new URL(url);
  return { host: hostname, port: Number(port) };
};

const EVENTS = [
  'connected',
  'disconnected',
  'revoked',
  'renewed',
  'renewFailed',
  'clockDiffers',
  'streamFailed',
  'ledgerRefused',
  'ledgerRewound',
  'ledgerAcknowledged',
  'catalogRewound',
  'catalogTold',
  'catalogRebuilt',
] as const satisfies readonly (keyof UplinkEvents)[];

const NO_LOGS: LedgerSource = {
  logs: () => [],
  log: () => undefined,
  publicJwk: '{}',
  read: async () => [],
  checkpoints: () => [],
  sealedMacKey: async () => '',
  acknowledge: async () => undefined,
  onChange: () => () => undefined,
};

export const NO_CATALOG: CatalogSink = {
  positions: () => [],
  opened: () => undefined,
  apply: () => undefined,
  rewound: () => undefined,
  known: () => ({ changes: [], uses: [] }),
  found: async () => [],
  told: () => undefined,
  rebuilt: () => undefined,
};

export const setUp = async (t: TestContext, options: { enrolled?: boolean } = {}): Promise<UplinkWorld> => {
  const registry = await FakeRegistry.make(Buffer.from('{"the":"anchor"}'));
  t.after(() => registry[Symbol.asyncDispose]());
  const dir = join(temporaryFolder(t), 'registry');
  const host = 'host-a';
  const heard: Heard[] = [];
  const waiters = new Set<() => void>();
  const events = Object.fromEntries(
    EVENTS.map((name) => [
      name,
      (event: Readonly<Record<string, unknown>>) => {
        heard.push({ name, event });
        for (const look of [...waiters]) look();
      },
    ]),
  ) as unknown as UplinkEvents;
  const token = registry.admit(host, ['acme']);
  if (options.enrolled !== false) {
    await enrol({ address: addressOf(registry.url), dir, host, token, requireHybrid: true, ownAnchor: undefined });
  }
  const world: UplinkWorld = {
    registry,
    dir,
    heard,
    received: [],
    host,
    state: { policies: [], catalogs: [], backlogs: [], parts: [] },
    make: (made = {}) => {
      const uplink = new Uplink({
        addresses: (made.urls ?? [registry.url]).map(addressOf),
        files: { dir, host, brought: made.brought },
        requireHybrid: made.requireHybrid ?? true,
        version: '0',
        startedAt: Date.now(),
        events,
        policies: made.policies ?? {
          applied: () => world.state.policies,
          receive: async ({ policies }) => void world.received.push(...policies),
        },
        ledger: made.ledger ?? NO_LOGS,
        feeds: made.feeds ?? [],
        state: () => world.state,
        assigned: () => undefined,
        changed: () => undefined,
      });
      t.after(() => uplink.close());
      uplink.start();
      return uplink;
    },
    next: (name, from = 0) => {
      const { promise, resolve, reject } = Promise.withResolvers<Readonly<Record<string, unknown>>>();
      const patience = setTimeout(() => reject(new Error(`${name} was not heard`)), 30_000);
      let at = from;
      const look = (): void => {
        for (; at < heard.length; at += 1) {
          if (heard[at]?.name !== name) continue;
          waiters.delete(look);
          clearTimeout(patience);
          resolve(heard[at]?.event ?? {});
          return;
        }
      };
      waiters.add(look);
      look();
      return promise;
    },
  };
  return world;
};

/** Puts a certificate of the test's authority where a host that brings its own would have it. */
export const bring = async (world: UplinkWorld, named = world.host) => {
  const { key, certificate } = await world.registry.authority.bring(named);
  await mkdir(world.dir, { recursive: true, mode: 0o700 });
  const [certificateFile, keyFile] = [join(world.dir, 'tls.crt'), join(world.dir, 'tls.key')];
  await writeFile(certificateFile, certificate);
  await writeFile(keyFile, key, { mode: 0o600 });
  await writeFile(join(world.dir, 'roots.pem'), world.registry.authority.rootPem);
  const { sealingJwk, cosigner } = world.registry.ledger;
  const pinned = { schema: 'mortise.registry-credentials/v1', trustDomain: 'registry.test', sealingJwk, cosigner };
  await writeFile(join(world.dir, 'registry.json'), JSON.stringify(pinned));
  return { certificateFile, keyFile };
};
