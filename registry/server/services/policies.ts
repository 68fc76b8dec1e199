// PoliciesService: proto to plain and back.
import {
  type PoliciesServiceService,
  type PolicyVersion,
  type SignedPolicy,
  WatchPoliciesResponse,
} from '../../../proto/gen/mortise/registry/v1/policies.ts';
import { invalid } from '../../errors.ts';
import { type RecordPort, recordCrossing } from '../audit-trail.ts';
import { type Call, hostOf, requireReadable, requireTenant } from '../caller.ts';
import { Encoded } from '../message.ts';
import { nextPage, pageSize, pageStart } from '../pages.ts';
import type { Handlers } from '../rpc.ts';

export interface PlainPolicy {
  readonly tenant: string;
  readonly version: number;
  readonly digest: string;
  readonly jws: Buffer;
  readonly publishedAt: number;
  readonly publishedBy: string;
  readonly officers: readonly string[];
  readonly notBefore: number;
  readonly expiresAt: number;
}

export interface PoliciesPort {
  /** Version 0: the newest. */
  get(tenant: string, version: number): Promise<PlainPolicy>;
  history(query: {
    readonly tenant: string;
    readonly below?: number;
    readonly limit: number;
  }): Promise<readonly PlainPolicy[]>;
}

interface PlainNews {
  readonly policies: readonly PlainPolicy[];
  readonly snapshotComplete: boolean;
  readonly asOf: number;
}

export interface PolicyWatchPort {
  watch(
    tenants: readonly string[],
    known: ReadonlyMap<string, { readonly version: number; readonly digest: string }>,
    signal: AbortSignal,
  ): AsyncIterable<PlainNews>;
}

const MAX_TENANTS = 10_000;
const MESSAGES_KEPT = 16;

const signedPolicyOf = ({ tenant, version, digest, jws, publishedAt }: PlainPolicy): SignedPolicy => ({
  tenant,
  version: BigInt(version),
  digest,
  jws,
  publishTime: new Date(publishedAt),
});

export const policyVersionOf = (row: PlainPolicy): PolicyVersion => ({
  version: BigInt(row.version),
  digest: row.digest,
  publishTime: new Date(row.publishedAt),
  publishedBy: row.publishedBy,
  officers: [...row.officers].sort(),
  notBefore: new Date(row.notBefore),
  expireTime: new Date(row.expiresAt),
});

const watchedTenants = (call: Call, asked: readonly string[]): readonly string[] => {
  if (asked.length > MAX_TENANTS) throw invalid('tenants', `at most ${MAX_TENANTS}`);
  for (const tenant of asked) requireTenant(call, tenant);
  return asked.length === 0 ? hostOf(call).tenants : [...new Set(asked)];
};

/** What was last told, serialized once for all hosts that are told the same at the same time. */
const encodings = (refreshSeconds: number): ((news: PlainNews) => Encoded) => {
  let told: { readonly asOf: number; readonly messages: Map<string, Encoded> } = { asOf: 0, messages: new Map() };
  return ({ policies, snapshotComplete, asOf }) => {
    if (told.asOf !== asOf) told = { asOf, messages: new Map() };
    const name = `${snapshotComplete} ${policies.map(({ tenant, version }) => `${tenant}/${version}`).join(' ')}`;
    const known = told.messages.get(name);
    if (known !== undefined) return known;
    const rows = policies.map(signedPolicyOf);
    const message = { policies: rows, snapshotComplete, asOf: new Date(asOf), refreshSeconds };
    const made = new Encoded(WatchPoliciesResponse.encode(message).finish());
    if (told.messages.size >= MESSAGES_KEPT) told.messages.clear();
    told.messages.set(name, made);
    return made;
  };
};

export const policiesHandlers = (
  parts: {
    readonly policies: PoliciesPort;
    readonly watch: PolicyWatchPort;
    readonly records: RecordPort;
    readonly refreshSeconds: number;
  },
  encode = encodings(parts.refreshSeconds),
): Handlers<typeof PoliciesServiceService> => ({
  watchPolicies: async function* (call, request): AsyncGenerator<Encoded> {
    const tenants = watchedTenants(call, request.tenants);
    const known = request.known.map(
      ({ tenant, version, digest }) => [tenant, { version: Number(version), digest }] as const,
    );
    for await (const news of parts.watch.watch(tenants, new Map(known), call.signal)) yield encode(news);
  },

  getPolicy: async (call, { tenant, version }) => {
    requireReadable(call, tenant);
    await recordCrossing(parts.records, call, { operation: 'get-policy', tenants: [tenant] });
    return { policy: signedPolicyOf(await parts.policies.get(tenant, Number(version))) };
  },

  getPolicyHistory: async (call, request) => {
    const { tenant } = request;
    requireReadable(call, tenant);
    await recordCrossing(parts.records, call, { operation: 'get-policy-history', tenants: [tenant] });
    const question = ['policies', tenant];
    const start = pageStart(request, question);
    const limit = pageSize(request);
    const rows = await parts.policies.history({ tenant, limit, ...(start !== undefined && { below: Number(start) }) });
    const last = rows.length < limit ? undefined : rows.at(-1)?.version;
    return {
      versions: rows.map(policyVersionOf),
      nextPageToken: nextPage(last === undefined ? undefined : String(last), question),
    };
  },
});
