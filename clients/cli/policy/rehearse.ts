// mortise policy rehearse: what a draft would have refused of what was done, before it is signed.

import { PolicyError } from '../../../proto/documents/policy-error.ts';
import { findWidenings } from '../../../proto/documents/policy-narrow.ts';
import type { PlatformPolicy, Policy, TenantPolicy } from '../../../proto/documents/policy-types.ts';
import type { Key, MortiseError } from '../../typescript/index.ts';
import type { Context } from '../context.ts';
import { CliError, type Exit } from '../exit-codes.ts';
import { MAX_DOCUMENT_BYTES, readInput } from '../files.ts';
import { inventory } from '../inventory/entries.ts';
import { cellText, factsText, tableText } from '../output.ts';
import { CountProgress } from '../progress.ts';
import { readAnyPolicy } from './read.ts';
import { type Draft, Rehearsal } from './rehearsal.ts';
import { type Step, trailOfAgent, trailOfFile, type Window } from './trail.ts';
import type { Catalogue, KnownVersion } from './trail-question.ts';

export interface RehearseOptions {
  readonly platform?: string;
  readonly tenantPolicy?: readonly string[];
  readonly records?: string;
  readonly keys?: string;
  readonly tenant?: string;
  readonly since?: Date;
  readonly until?: Date;
  readonly at?: Date;
  readonly top: number;
}

/** What no audit record says, so that no rehearsal can know it. */
const CANNOT_KNOW = [
  'calls that were never made, or that were refused or failed then: only operations that were done are judged',
  'who may call at all: issuers, workloads, scopes, revoked tokens and grants are not rehearsed',
  'rate limits, limits of keys, composite verification, and the validity and lease of the draft',
  'the algorithm that a new key would get where the caller left it to the default',
  'public keys that callers brought, where a JOSE name stands for several sizes',
] as const;

const KEYS_LIMIT = { bytes: 256 * MAX_DOCUMENT_BYTES, advice: 'narrow the inventory with --prefix' };

const tenantPolicyOf = async (context: Context, path: string): Promise<TenantPolicy> => {
  const policy = await readAnyPolicy(context.io, path);
  if (policy.scope === 'tenant') return policy;
  throw new CliError('usage', `${path} is not a tenant's policy`);
};

const refuseWidening = (platform: PlatformPolicy, policy: TenantPolicy): void => {
  const [widening] = findWidenings(platform, policy);
  if (widening === undefined) return;
  const { path, platform: above, tenant } = widening;
  throw new PolicyError('WIDENING', path, `no agent takes this policy: ${path}: platform ${above}, here ${tenant}`);
};

const draftOf = async (context: Context, policy: Policy, options: RehearseOptions): Promise<Draft> => {
  const { platform: path, tenantPolicy = [], tenant } = options;
  if (policy.scope === 'tenant') {
    if (path === undefined)
      throw new CliError('usage', 'the draft is of a tenant: give the platform policy with --platform');
    if (tenant !== undefined && tenant !== policy.tenant) {
      throw new CliError('usage', `the draft is of tenant ${policy.tenant}, not of ${tenant}`);
    }
    const platform = await readAnyPolicy(context.io, path);
    if (platform.scope !== 'platform') throw new CliError('usage', `${path} is not a platform policy`);
    refuseWidening(platform, policy);
    return { platform, tenants: new Map([[policy.tenant, policy]]), only: policy.tenant };
  }
  if (path !== undefined) throw new CliError('usage', 'the draft is the platform policy itself: leave --platform out');
  const tenants = await Promise.all(tenantPolicy.map((file) => tenantPolicyOf(context, file)));
  return { platform: policy, tenants: new Map(tenants.map((row) => [row.tenant, row])), only: tenant };
};

type KnownKeys = Iterable<Pick<Key, 'tenant' | 'keyId' | 'versions'>>;

const addVersions = (into: Map<string, KnownVersion>, keys: KnownKeys): Map<string, KnownVersion> => {
  for (const { tenant, keyId, versions } of keys) {
    for (const { version, algorithm, joseAlgorithm: jose, custody } of versions) {
      into.set(`${tenant}/${keyId}/${version}`, { algorithm, jose, custody });
    }
  }
  return into;
};

const catalogueOfFile = async (context: Context, path: string): Promise<Catalogue> => {
  const text = (await readInput(context.io, path, KEYS_LIMIT)).toString('utf8');
  try {
    return addVersions(new Map(), (JSON.parse(text) as { keys: KnownKeys }).keys);
  } catch (cause) {
    throw new CliError('usage', `${path} is not what "mortise inventory --output json" prints`, cause);
  }
};

const catalogueOfAgent = async (context: Context): Promise<Catalogue> => {
  const known = new Map<string, KnownVersion>();
  try {
    for await (const key of inventory(await context.client(), {}, context.call)) addVersions(known, [key]);
    return known;
  } catch (error) {
    if ((error as MortiseError).code !== 'PERMISSION_DENIED') throw error;
    context.note('without the scope keys.read, keys are judged by their JOSE names alone\n');
    return new Map();
  }
};

const reportText = (rehearsal: Rehearsal, policy: Policy, at: Date, top: number): string => {
  const { counts, rows, leftOut } = rehearsal;
  const facts = factsText([
    ['draft', `${policy.scope === 'platform' ? 'platform' : `tenant ${policy.tenant}`}, version ${policy.version}`],
    ['judged as of', at],
    ['records', counts.records],
    ['operations judged', counts.judged],
    ['would be refused', counts.refused],
    ['depends on the key', counts.depends || undefined],
    ['would be warned of', counts.warned],
    ['failed already then', counts.failedBefore],
    ['not judged', counts.notJudged],
    ['of other tenants', counts.otherTenants || undefined],
  ]);
  const head = ['COUNT', 'KEY', 'PRINCIPAL', 'OPERATION', 'ALGORITHM', 'CODE', 'RULE', 'LAST'];
  const shown = rows
    .slice(0, top)
    .map((row) => [
      row.count,
      row.key,
      row.principal,
      row.operation,
      row.algorithm,
      row.verdict === 'depends' ? `${row.code}?` : row.code,
      row.rule,
      row.lastTime.slice(0, 19),
    ]);
  const table = rows.length === 0 ? 'nothing that was done would be refused\n' : tableText(head, shown);
  const hidden = rows.length - shown.length;
  const more = hidden > 0 ? `and ${hidden} more rows; --top shows them\n` : '';
  const rest = leftOut > 0 ? `and ${leftOut} refusals of too many different kinds to list\n` : '';
  const limits = CANNOT_KNOW.map((text) => `  ${cellText(text)}\n`).join('');
  return `${facts}\n${table}${more}${rest}\nwhat a rehearsal cannot know:\n${limits}`;
};

export const rehearse = async (context: Context, options: RehearseOptions, path: string): Promise<Exit> => {
  const { io } = context;
  const { records, keys, since, until, top } = options;
  const policy = await readAnyPolicy(io, path);
  const draft = await draftOf(context, policy, options);
  const at = options.at ?? new Date(Math.max(Date.now(), Date.parse(policy.notBefore)));
  const window: Window = { since, until };
  const fromAgent = async () => trailOfAgent(await context.client(), window, context.call);
  const trail: AsyncIterable<Step> = records === undefined ? await fromAgent() : trailOfFile(io, records, window);
  const catalogue =
    keys !== undefined
      ? await catalogueOfFile(context, keys)
      : records === undefined
        ? await catalogueOfAgent(context)
        : new Map<string, KnownVersion>();
  const rehearsal = new Rehearsal({ draft, at: at.getTime(), catalogue });
  const progress = new CountProgress({ io, enabled: !context.json, doing: 'rehearsing' });
  try {
    for await (const { record, done, size } of trail) {
      io.signal.throwIfAborted();
      rehearsal.add(record);
      progress.show(done, size);
    }
  } finally {
    progress.clear();
  }
  const { counts, rows, leftOut } = rehearsal;
  const about = {
    scope: policy.scope,
    version: policy.version,
    ...(policy.scope === 'tenant' && { tenant: policy.tenant }),
  };
  await context.print({
    text: reportText(rehearsal, policy, at, top),
    json: { draft: about, at, since, until, counts, refusals: rows, refusalsLeftOut: leftOut, cannotKnow: CANNOT_KNOW },
  });
  return counts.refused + counts.depends === 0 ? 'ok' : 'negative';
};
