// mortise policy init: drafts from a template, key files of the officers, and the trust anchor that names them.
import { mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { generateOfficerKeys, officerOf, sealOfficerKeys } from '../../../proto/documents/officer-keys.ts';
import { readPolicy } from '../../../proto/documents/policy.ts';
import {
  POLICY_TEMPLATES,
  type PolicyTemplate,
  policyFromTemplate,
} from '../../../proto/documents/policy-templates.ts';
import type { Policy } from '../../../proto/documents/policy-types.ts';
import { readTrustAnchor, TRUST_ANCHOR_SCHEMA, trustAnchorDigest } from '../../../proto/documents/trust-anchor.ts';
import type { Context } from '../context.ts';
import { CliError } from '../exit-codes.ts';
import { refuseExisting, writeFileWhole } from '../files.ts';
import { factsText } from '../output.ts';
import { choosePassphrase } from '../passphrase.ts';
import { draftsOf, keyFileOf, PLATFORM_FILE, policyOf, TRUST_ANCHOR_FILE, tenantFile } from './folder.ts';

export interface InitOptions {
  readonly template: string;
  readonly dir: string;
  readonly tenant?: readonly string[];
  readonly officer?: readonly string[];
  readonly threshold?: number;
  readonly classical: 'Ed25519' | 'ES256';
  readonly validDays?: number;
  readonly passphraseFile?: readonly string[];
  readonly force: boolean;
}

interface Output {
  readonly path: string;
  readonly data: Buffer | string;
  readonly mode: number;
}

const json = (value: unknown): string => `${JSON.stringify(value, null, 2)}\n`;
const isTemplate = (name: string): name is PolicyTemplate => POLICY_TEMPLATES.some((known) => known === name);

/** One file for all officers, or one each. */
export const passphraseFileAt = (
  files: readonly string[] | undefined,
  at: number,
  count: number,
): string | undefined => {
  if (files === undefined) return undefined;
  if (files.length !== 1 && files.length !== count) {
    throw new CliError('usage', `${files.length} passphrase files for ${count} officers; give one for all or one each`);
  }
  return files[files.length === 1 ? 0 : at];
};

const draftFiles = (options: InitOptions, template: PolicyTemplate): readonly Output[] => {
  const tenants = options.tenant ?? [];
  const dates = {
    template,
    issuedAt: Math.floor(Date.now() / 1000) * 1000,
    ...(options.validDays !== undefined && { validDays: options.validDays }),
  };
  const drafts: readonly (readonly [string, Policy])[] = [
    [PLATFORM_FILE, policyFromTemplate({ ...dates, scope: 'platform', tenants })],
    ...tenants.map(
      (tenant) => [tenantFile(tenant), policyFromTemplate({ ...dates, scope: 'tenant', tenant })] as const,
    ),
  ];
  return drafts.map(([name, policy]) => {
    const data = json(policy);
    readPolicy(JSON.parse(data)); // a tenant id that no agent accepts is refused before anything is written
    return { path: join(draftsOf(options.dir), name), data, mode: 0o644 };
  });
};

const officerFiles = async (context: Context, options: InitOptions): Promise<readonly Output[]> => {
  const names = options.officer ?? ['officer'];
  const made = names.map((name) => ({ name, keys: generateOfficerKeys({ name, classical: options.classical }) }));
  const anchor = json({
    schema: TRUST_ANCHOR_SCHEMA,
    threshold: options.threshold ?? names.length,
    officers: made.map(({ keys }) => officerOf(keys)),
  });
  readTrustAnchor(JSON.parse(anchor)); // the threshold fits the officers, and no name is there twice
  const files: Output[] = [{ path: join(policyOf(options.dir), TRUST_ANCHOR_FILE), data: anchor, mode: 0o644 }];
  for (const [at, { name, keys }] of made.entries()) {
    const file = passphraseFileAt(options.passphraseFile, at, names.length);
    const passphrase = await choosePassphrase(context.io, name, file);
    if (context.io.stderr.isTTY) context.note(`sealing the keys of ${name} …\n`);
    files.push({ path: keyFileOf(options.dir, name), data: await sealOfficerKeys(passphrase, keys), mode: 0o600 });
    passphrase.fill(0);
  }
  return files;
};

const nextSteps = (options: InitOptions): string => {
  const { dir } = options;
  const names = options.officer ?? ['officer'];
  const officers = names.slice(0, options.threshold ?? names.length).map((name) => `--officer ${keyFileOf(dir, name)}`);
  const tenants = (options.tenant ?? []).map(
    (tenant) => `  mortise policy sign ${join(draftsOf(dir), tenantFile(tenant))} --dir ${dir} ${officers.join(' ')}\n`,
  );
  return [
    '\nNext: edit the drafts (issuers and workloads say who may call), then sign them, the platform first:\n',
    `  mortise policy sign ${join(draftsOf(dir), PLATFORM_FILE)} --dir ${dir} ${officers.join(' ')}\n`,
    ...tenants,
    `Then start the agent with MORTISE_POLICY_DIR=${policyOf(dir)}\n`,
    'Keep the key files elsewhere: no agent needs them.\n',
  ].join('');
};

export const init = async (context: Context, options: InitOptions): Promise<void> => {
  const { template } = options;
  if (!isTemplate(template)) {
    throw new CliError('usage', `no template "${template}"; there are ${POLICY_TEMPLATES.join(', ')}`);
  }
  const drafts = draftFiles(options, template);
  const planned = [...drafts.map(({ path }) => path), join(policyOf(options.dir), TRUST_ANCHOR_FILE)];
  for (const path of planned) await refuseExisting(path, options.force);
  const files = [...drafts, ...(await officerFiles(context, options))];
  // Where the agent looks for tenants' policies, even before there is one.
  await mkdir(join(policyOf(options.dir), 'tenants'), { recursive: true, mode: 0o755 });
  for (const { path, data, mode } of files) {
    await mkdir(dirname(path), { recursive: true, mode: mode === 0o600 ? 0o700 : 0o755 });
    await writeFileWhole(path, data, { force: options.force, mode });
  }
  const anchor = files.find(({ path }) => path.endsWith(TRUST_ANCHOR_FILE)) as Output;
  const digest = trustAnchorDigest(Buffer.from(anchor.data));
  const facts = factsText([...files.map(({ path }) => ['wrote', path] as const), ['anchor SHA-256', digest]]);
  await context.print({
    text: `${facts}${nextSteps(options)}`,
    json: { files: files.map(({ path }) => path), trustAnchorDigest: digest },
  });
};
