// mortise policy verify: would an agent take these files? Signatures, threshold, validity, and narrowing.

import { parsePolicy } from '../../../proto/documents/policy.ts';
import { PolicyError } from '../../../proto/documents/policy-error.ts';
import { findWidenings } from '../../../proto/documents/policy-narrow.ts';
import { type JudgedSignature, judgeSignatures, policyDigest } from '../../../proto/documents/policy-sign.ts';
import type { PlatformPolicy, Policy } from '../../../proto/documents/policy-types.ts';
import type { TrustAnchor } from '../../../proto/documents/trust-anchor.ts';
import type { Context } from '../context.ts';
import { CliError, type Exit } from '../exit-codes.ts';
import { cellText, factsText, tableText } from '../output.ts';
import { isSigned, readAnchor, readDocument, readPlatform } from './read.ts';

export interface VerifyOptions {
  readonly anchor: string;
  readonly platform?: string;
  readonly at?: Date;
}

interface Report {
  readonly file: string;
  readonly acceptable: boolean;
  readonly policy: Policy | undefined;
  readonly digest: string;
  readonly signatures: readonly JudgedSignature[];
  readonly officers: readonly string[];
  readonly threshold: number;
  readonly problems: readonly { readonly code: string; readonly message: string }[];
}

const parsed = (payload: Buffer): Policy | PolicyError => {
  try {
    return parsePolicy(payload);
  } catch (error) {
    if (error instanceof PolicyError) return error;
    throw error;
  }
};

const problemsOf = (policy: Policy, platform: PlatformPolicy | undefined, now: number): Report['problems'] => {
  const problems: { code: string; message: string }[] = [];
  if (now >= Date.parse(policy.expiresAt))
    problems.push({ code: 'EXPIRED', message: `expired at ${policy.expiresAt}` });
  if (now < Date.parse(policy.notBefore)) {
    problems.push({ code: 'NOT_YET_VALID', message: `valid from ${policy.notBefore}` });
  }
  if (policy.scope === 'platform' || platform === undefined) return problems;
  if (!platform.tenants.includes(policy.tenant)) {
    problems.push({ code: 'TENANT_UNKNOWN', message: `the platform has no tenant "${policy.tenant}"` });
  }
  for (const { path, platform: above, tenant } of findWidenings(platform, policy)) {
    problems.push({ code: 'WIDENING', message: `${path}: platform ${above}, here ${tenant}` });
  }
  return problems;
};

const judge = (
  file: string,
  bytes: Buffer,
  about: { readonly anchor: TrustAnchor; readonly platform: PlatformPolicy | undefined; readonly now: number },
): Report => {
  if (!isSigned(bytes)) throw new CliError('usage', `${file} is a draft; "mortise policy sign" signs it`);
  const { anchor, platform, now } = about;
  const { payload, officers, signatures } = judgeSignatures(bytes, anchor);
  const policy = parsed(payload);
  const problems: { code: string; message: string }[] = [];
  if (officers.length < anchor.threshold) {
    const message = `${officers.length} of ${anchor.threshold} needed officers signed with both keys`;
    problems.push({ code: 'SIGNATURE_THRESHOLD', message });
  }
  if (policy instanceof PolicyError) problems.push({ code: policy.code, message: policy.message });
  else problems.push(...problemsOf(policy, platform, now));
  return {
    file,
    acceptable: problems.length === 0,
    policy: policy instanceof PolicyError ? undefined : policy,
    digest: policyDigest(payload),
    signatures,
    officers,
    threshold: anchor.threshold,
    problems,
  };
};

const nameOf = (policy: Policy | undefined): string =>
  policy === undefined ? 'unreadable' : policy.scope === 'platform' ? 'platform' : `tenant ${policy.tenant}`;

const reportText = (report: Report, narrowingChecked: boolean): string => {
  const { policy } = report;
  const facts = factsText([
    ['file', report.file],
    ['policy', nameOf(policy)],
    ['version', policy?.version],
    ['valid', policy && `${policy.notBefore} to ${policy.expiresAt}`],
    ['SHA-256', report.digest],
    ['officers', `${report.officers.join(', ') || 'none'} (${report.threshold} needed)`],
    ['narrowing', policy?.scope === 'tenant' && !narrowingChecked ? 'not checked: give --platform' : undefined],
    ['verdict', report.acceptable ? 'an agent will take it' : 'an agent will REFUSE it'],
  ]);
  const signatures = tableText(
    ['OFFICER', 'ALGORITHM', 'SIGNATURE'],
    report.signatures.map(({ officer, algorithm, verdict }) => [officer, algorithm, verdict]),
  );
  const problems = report.problems.map(({ code, message }) => `${code}: ${cellText(message)}\n`).join('');
  return `${facts}\n${signatures}${problems && `\n${problems}`}`;
};

export const verify = async (context: Context, options: VerifyOptions, files: readonly string[]): Promise<Exit> => {
  const { io } = context;
  const anchor = await readAnchor(io, options.anchor);
  const platform = options.platform === undefined ? undefined : await readPlatform(io, options.platform, anchor);
  const now = (options.at ?? new Date()).getTime();
  const reports: Report[] = [];
  for (const file of files) reports.push(judge(file, await readDocument(io, file), { anchor, platform, now }));
  const text = reports.map((report) => reportText(report, platform !== undefined)).join('\n');
  const json = reports.map(({ policy, ...rest }) => ({
    ...rest,
    ...(policy && { scope: policy.scope, version: policy.version, expiresAt: policy.expiresAt }),
  }));
  await context.print({ text, json: { policies: json } });
  return reports.every(({ acceptable }) => acceptable) ? 'ok' : 'negative';
};
