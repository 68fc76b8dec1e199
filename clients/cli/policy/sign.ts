// mortise policy sign: puts officers' signatures on a draft, or adds them to what others have signed. A widening tenant
// policy is refused before any passphrase is asked for.
import { join } from 'node:path';
import { officerSigner, openOfficerKeys, readOfficer } from '../../../proto/documents/officer-keys.ts';
import { parsePolicy } from '../../../proto/documents/policy.ts';
import { findWidenings, requireNarrowing } from '../../../proto/documents/policy-narrow.ts';
import { cosignPolicy, judgeSignatures, type OfficerSigner, signPolicy } from '../../../proto/documents/policy-sign.ts';
import type { PlatformPolicy, Policy } from '../../../proto/documents/policy-types.ts';
import type { TrustAnchor } from '../../../proto/documents/trust-anchor.ts';
import type { Context } from '../context.ts';
import { CliError, type Exit } from '../exit-codes.ts';
import { refuseExisting, writeFileWhole } from '../files.ts';
import { factsText, tableText } from '../output.ts';
import { askPassphrase } from '../passphrase.ts';
import { PLATFORM_FILE, policyOf, TRUST_ANCHOR_FILE, tenantFile } from './folder.ts';
import { passphraseFileAt } from './init.ts';
import { isSigned, payloadOf, readAnchor, readDocument, readPlatform } from './read.ts';

export interface SignOptions {
  readonly officer: readonly string[];
  readonly passphraseFile?: readonly string[];
  readonly dir?: string;
  readonly anchor?: string;
  readonly platform?: string;
  readonly out?: string;
  readonly force: boolean;
}

/** Paths that --dir stands for; each can be given by itself. */
const placesOf = (options: SignOptions, policy: Policy, file: string, signed: boolean) => {
  const folder = options.dir === undefined ? undefined : policyOf(options.dir);
  const inFolder = (name: string): string | undefined => (folder === undefined ? undefined : join(folder, name));
  const anchor = options.anchor ?? inFolder(TRUST_ANCHOR_FILE);
  const own = policy.scope === 'platform' ? PLATFORM_FILE : tenantFile(policy.tenant);
  const out = options.out ?? (signed ? file : inFolder(own));
  if (anchor === undefined)
    throw new CliError('usage', 'name the trust anchor with --anchor, or its folder with --dir');
  if (out === undefined) throw new CliError('usage', 'name the file to write with --out, or the folder with --dir');
  return { anchor, out, platform: options.platform ?? inFolder(PLATFORM_FILE) };
};

const readSigners = async (context: Context, options: SignOptions): Promise<readonly OfficerSigner[]> => {
  const signers: OfficerSigner[] = [];
  for (const [at, path] of options.officer.entries()) {
    const bytes = await readDocument(context.io, path);
    const { name } = readOfficer(bytes);
    const file = passphraseFileAt(options.passphraseFile, at, options.officer.length);
    const passphrase = await askPassphrase(context.io, name, file);
    try {
      signers.push(officerSigner(await openOfficerKeys(passphrase, bytes)));
    } finally {
      passphrase.fill(0);
    }
  }
  return signers;
};

const reportWidening = async (context: Context, platform: PlatformPolicy, policy: Policy): Promise<boolean> => {
  if (policy.scope === 'platform') return false;
  const widenings = findWidenings(platform, policy);
  if (widenings.length === 0) return false;
  const rows = widenings.map(({ path, platform: above, tenant }) => [path, above, tenant]);
  await context.print({
    text: `refused: a tenant policy may only narrow the platform's\n\n${tableText(['WHERE', 'PLATFORM', 'TENANT'], rows)}`,
    json: { signed: false, widenings },
  });
  return true;
};

const report = async (context: Context, bytes: Buffer, anchor: TrustAnchor, policy: Policy, out: string) => {
  const { officers } = judgeSignatures(bytes, anchor);
  const missing = Math.max(0, anchor.threshold - officers.length);
  const facts = factsText([
    ['wrote', out],
    ['policy', policy.scope === 'platform' ? 'platform' : `tenant ${policy.tenant}`],
    ['version', policy.version],
    ['signed by', officers.join(', ')],
    ['threshold', `${anchor.threshold} of ${anchor.officers.length}`],
    ['in force', missing === 0 ? 'can be' : `not yet: ${missing} more officer${missing === 1 ? '' : 's'} must sign`],
  ]);
  const { threshold } = anchor;
  await context.print({ text: facts, json: { signed: true, out, officers, threshold, complete: missing === 0 } });
};

export const sign = async (context: Context, options: SignOptions, file: string): Promise<Exit> => {
  const bytes = await readDocument(context.io, file);
  const signed = isSigned(bytes);
  const policy = parsePolicy(signed ? payloadOf(bytes) : bytes);
  const places = placesOf(options, policy, file, signed);
  const anchor = await readAnchor(context.io, places.anchor);
  if (places.out !== file) await refuseExisting(places.out, options.force);
  let platform: PlatformPolicy | undefined;
  if (policy.scope === 'tenant') {
    if (places.platform === undefined) throw new CliError('usage', 'name the signed platform policy with --platform');
    platform = await readPlatform(context.io, places.platform, anchor);
    if (await reportWidening(context, platform, policy)) return 'refused';
    requireNarrowing(platform, policy);
  }
  const signers = await readSigners(context, options);
  const about = platform === undefined ? {} : { platform };
  let result = signed ? bytes : await signPolicy({ payload: bytes, signers, ...about });
  if (signed) for (const signer of signers) result = await cosignPolicy({ jws: result, signer, ...about });
  await writeFileWhole(places.out, result, { force: options.force || places.out === file, mode: 0o644 });
  await report(context, result, anchor, policy, places.out);
  return 'ok';
};
