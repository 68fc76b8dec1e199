// A policy folder for tests: officers with real keys, a trust anchor, and platform and tenant policies signed by as
// many officers as the threshold asks for. Everything lies in a temporary folder.
import { mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { generateOfficerKeys, type OfficerKeys, officerOf, officerSigner } from '../../proto/documents/officer-keys.ts';
import { signPolicy } from '../../proto/documents/policy-sign.ts';
import { type PolicyTemplate, policyFromTemplate } from '../../proto/documents/policy-templates.ts';
import type { PlatformPolicy, TenantPolicy } from '../../proto/documents/policy-types.ts';
import { TRUST_ANCHOR_SCHEMA, type TrustAnchor } from '../../proto/documents/trust-anchor.ts';

export interface PolicyFolderInput {
  /** A folder to fill; by default a new temporary one. */
  readonly dir?: string;
  /** Number of officers, and how many must sign; by default one of one. */
  readonly officers?: number;
  readonly threshold?: number;
  readonly template?: PolicyTemplate;
  /** Milliseconds since 1970 at which the policies begin; by default a minute ago. */
  readonly now?: number;
  readonly tenants?: readonly string[];
  /** Fields of the platform policy that differ from the template. */
  readonly platform?: Partial<PlatformPolicy>;
  /** Tenants with a policy of their own, and the fields of it. */
  readonly tenantPolicies?: Readonly<Record<string, Partial<TenantPolicy>>>;
}

export interface PolicyFolder extends AsyncDisposable {
  readonly dir: string;
  readonly officers: readonly OfficerKeys[];
  readonly anchor: TrustAnchor;
  /** The platform policy last published. */
  readonly platform: PlatformPolicy;
  /** Signs and publishes the next version of the platform policy with these changes. */
  publishPlatform(changes?: Partial<PlatformPolicy>): Promise<PlatformPolicy>;
  /** Signs and publishes the next version of a tenant's policy with exactly these fields. */
  publishTenant(tenant: string, fields?: Partial<TenantPolicy>): Promise<TenantPolicy>;
  remove(): Promise<void>;
}

const MINUTE_MS = 60_000;

/** Writes by rename, as a careful deployment does, so that no reader sees half a file. */
export const publishFile = async (path: string, bytes: Uint8Array | string): Promise<void> => {
  const partial = `${path}.partial`;
  await writeFile(partial, bytes, { mode: 0o644 });
  await rename(partial, path);
};

const json = (value: unknown): Buffer => Buffer.from(`${JSON.stringify(value, null, 2)}\n`);

export const makePolicyFolder = async (input: PolicyFolderInput = {}): Promise<PolicyFolder> => {
  const { officers: count = 1, threshold = count, template = 'default', tenants = ['acme', 'globex'] } = input;
  const dir = input.dir ?? (await mkdtemp(join(tmpdir(), 'mortise-policy-')));
  const issuedAt = (input.now ?? Date.now()) - MINUTE_MS;
  const officers = Array.from({ length: count }, (_, index) => generateOfficerKeys({ name: `officer-${index + 1}` }));
  const signers = officers.slice(0, threshold).map(officerSigner);
  const anchor: TrustAnchor = { schema: TRUST_ANCHOR_SCHEMA, threshold, officers: officers.map(officerOf) };
  let platform = {
    ...policyFromTemplate({ scope: 'platform', template, issuedAt, tenants, version: 0 }),
    ...input.platform,
  };
  const versions = new Map<string, number>();

  const publishPlatform: PolicyFolder['publishPlatform'] = async (changes = {}) => {
    platform = { ...platform, version: platform.version + 1, ...changes };
    await publishFile(join(dir, 'platform.json'), await signPolicy({ payload: json(platform), signers }));
    return platform;
  };

  const publishTenant: PolicyFolder['publishTenant'] = async (tenant, fields = {}) => {
    const version = (versions.get(tenant) ?? 0) + 1;
    const head = policyFromTemplate({ scope: 'tenant', template: 'default', issuedAt, tenant, version });
    const policy: TenantPolicy = { ...head, ...fields };
    versions.set(tenant, policy.version);
    const signed = await signPolicy({ payload: json(policy), signers, platform });
    await publishFile(join(dir, 'tenants', `${tenant}.json`), signed);
    return policy;
  };

  const remove = (): Promise<void> => rm(dir, { recursive: true, force: true });
  await mkdir(join(dir, 'tenants'), { recursive: true });
  await publishFile(join(dir, 'trust-anchor.json'), json(anchor));
  await publishPlatform();
  for (const [tenant, fields] of Object.entries(input.tenantPolicies ?? {})) await publishTenant(tenant, fields);
  return {
    dir,
    officers,
    anchor,
    get platform() {
      return platform;
    },
    publishPlatform,
    publishTenant,
    remove,
    [Symbol.asyncDispose]: remove,
  };
};
