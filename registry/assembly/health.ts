// How the parts are: looked at again and again, told when it changes, and on request. Invariant: a part that does not
// answer in time is not healthy.
import type { GetRegistryStatusResponse } from '../../proto/gen/mortise/registry/v1/admin.ts';
import type { Config } from '../config/config.ts';
import type { Authority } from '../hosts/authority.ts';
import type { HostsStore } from '../hosts/store.ts';
import type { Part } from '../server/server.ts';

export interface HealthPart {
  readonly part: Part;
  /** Rejects where it does not do its work. */
  check(): Promise<void>;
}

export interface PartHealth {
  readonly part: Part;
  readonly healthy: boolean;
  readonly detail: string;
}

const LOOK_MS = 5_000;
const PATIENCE_MS = 3_000;
const PAGE = 500;

const lookAt = async ({ part, check }: HealthPart): Promise<PartHealth> => {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => late.reject(new Error(`no answer in ${PATIENCE_MS} ms`)), PATIENCE_MS);
  try {
    await Promise.race([check(), late.promise]);
    return { part, healthy: true, detail: '' };
  } catch (error) {
    return { part, healthy: false, detail: error instanceof Error ? error.message : 'failed' };
  } finally {
    clearTimeout(timer);
  }
};

export const lookAtAll = (parts: readonly HealthPart[]): Promise<readonly PartHealth[]> =>
  Promise.all(parts.map(lookAt));

export const watchHealth = (parts: readonly HealthPart[], tell: (health: PartHealth) => void) => {
  let looking: Promise<void> | undefined;
  const look = async (): Promise<void> => {
    for (const health of await lookAtAll(parts)) tell(health);
  };
  const timer = setInterval(() => {
    looking ??= look().finally(() => {
      looking = undefined;
    });
  }, LOOK_MS);
  timer.unref();
  return {
    look,
    close: async (): Promise<void> => {
      clearInterval(timer);
      await looking;
    },
  };
};

const countAll = async <T>(read: (after: string | undefined) => Promise<readonly T[]>, nameOf: (row: T) => string) => {
  let count = 0;
  for (let after: string | undefined; ; ) {
    const page = await read(after);
    count += page.length;
    const last = page.at(-1);
    if (page.length < PAGE || last === undefined) return BigInt(count);
    after = nameOf(last);
  }
};

/** The answer of GetRegistryStatus. */
export const registryStatus = async (of: {
  readonly config: Config;
  readonly version: string;
  readonly startedAt: number;
  readonly store: HostsStore & { readonly kind: string };
  readonly authority: Authority;
  readonly heartbeats: { readonly size: number };
  readonly parts: readonly HealthPart[];
}): Promise<GetRegistryStatusResponse> => {
  const { config, version, store, authority } = of;
  const page = (after: string | undefined) => ({ limit: PAGE, ...(after !== undefined && { after }) });
  const [parts, hosts, tenants] = await Promise.all([
    lookAtAll(of.parts),
    countAll(
      (after) => store.hosts({ ...page(after), state: 'ACTIVE' }),
      ({ host }) => host,
    ),
    countAll(
      (after) => store.tenants(page(after)),
      ({ tenant }) => tenant,
    ),
  ]);
  return {
    version,
    replica: config.replica,
    startTime: new Date(of.startedAt),
    parts: parts.map(({ part, healthy, detail }) => ({ part, healthy, detail })),
    store: store.kind,
    hosts,
    connectedHosts: BigInt(of.heartbeats.size),
    tenants,
    trustDomain: authority.trustDomain,
    rootSha256: authority.rootHash.toString('hex'),
    rootExpireTime: new Date(authority.root.validTo),
    cosigner: authority.cosigner,
    requiresHybridTls: config.tls.requireHybrid,
  };
};
