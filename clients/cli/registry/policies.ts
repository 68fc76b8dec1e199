// mortise policy publish, history, fetch: signed policies to and from the registry.

import { parsePolicy } from '../../../proto/documents/policy.ts';
import type { Policy } from '../../../proto/documents/policy-types.ts';
import { AdminServiceService } from '../../../proto/gen/mortise/registry/v1/admin.ts';
import { PoliciesServiceService, type PolicyVersion } from '../../../proto/gen/mortise/registry/v1/policies.ts';
import type { Context } from '../context.ts';
import { CliError } from '../exit-codes.ts';
import { writeFileWhole, writeStream } from '../files.ts';
import { tableText } from '../output.ts';
import { changesOf, changesText } from '../policy/changes.ts';
import { payloadOf, readDocument } from '../policy/read.ts';
import { openSession, type Session, type SessionOptions } from './session.ts';

const PLATFORM = '_platform';

const plain = (row: PolicyVersion) => ({ ...row, version: Number(row.version) });

export const publish = async (
  context: Context,
  options: SessionOptions & { readonly acceptConflicts: boolean },
  file: string,
): Promise<void> => {
  const jws = await readDocument(context.io, file);
  using session = await openSession(context, options);
  const request = { jws, acceptConflicts: options.acceptConflicts };
  const { tenant, version, conflicts } = await session.call(AdminServiceService.publishPolicy, request);
  if (version === undefined) throw new CliError('failure', 'the registry did not say what it published');
  if (conflicts.length > 0) context.note(`policies that widen it now: ${conflicts.join(', ')}\n`);
  await context.print({
    text: `published ${tenant} version ${version.version}, signed by ${version.officers.join(', ')}\n`,
    json: { tenant, conflicts, ...plain(version) },
  });
};

/** As it was signed, its signatures not judged: for reading. */
const readPublished = async (session: Session, tenant: string, version: bigint): Promise<Policy> => {
  const { policy } = await session.call(PoliciesServiceService.getPolicy, { tenant, version });
  if (policy === undefined) throw new CliError('failure', 'the registry answered without a policy');
  return parsePolicy(payloadOf(policy.jws));
};

/** Version 0: the newest. */
export const publishedPolicy = async (
  context: Context,
  options: SessionOptions,
  { tenant, version }: { readonly tenant: string; readonly version: number },
): Promise<Policy> => {
  using session = await openSession(context, options);
  return await readPublished(session, tenant, BigInt(version)); // before the session ends
};

/** What each version changed of the one before it, newest first. */
const changesIn = async (session: Session, tenant: string, versions: readonly PolicyVersion[]) => {
  const changes = [];
  let next = versions[0] && (await readPublished(session, tenant, versions[0].version));
  for (const [at, { version }] of versions.entries()) {
    const row = versions[at + 1];
    const before = row && (await readPublished(session, tenant, row.version));
    if (before !== undefined) changes.push({ version: Number(version), changes: changesOf(before, next) });
    next = before;
  }
  return changes;
};

export const history = async (
  context: Context,
  options: SessionOptions & { readonly diff: boolean },
  tenant = PLATFORM,
): Promise<void> => {
  using session = await openSession(context, options);
  const versions: PolicyVersion[] = [];
  let pageToken = '';
  do {
    const page = await session.call(PoliciesServiceService.getPolicyHistory, { tenant, pageSize: 500, pageToken });
    versions.push(...page.versions);
    pageToken = page.nextPageToken;
  } while (pageToken !== '');
  const text = tableText(
    ['VERSION', 'PUBLISHED', 'BY', 'OFFICERS', 'FROM', 'UNTIL', 'DIGEST'],
    versions.map((row) => [
      String(row.version),
      row.publishTime,
      row.publishedBy,
      row.officers.join(' '),
      row.notBefore,
      row.expireTime,
      `${row.digest.slice(0, 16)}…`,
    ]),
  );
  const changes = options.diff ? await changesIn(session, tenant, versions) : [];
  const tables = changes.map(({ version, changes: rows }) => `\nversion ${version}\n${changesText(rows)}`);
  const json = { tenant, versions: versions.map(plain), ...(options.diff && { changes }) };
  await context.print({ text: `${text}${tables.join('')}`, json });
};

export const fetchPolicy = async (
  context: Context,
  options: SessionOptions & { readonly policyVersion?: number; readonly out?: string; readonly force: boolean },
  tenant = PLATFORM,
): Promise<void> => {
  using session = await openSession(context, options);
  const version = BigInt(options.policyVersion ?? 0);
  const { policy } = await session.call(PoliciesServiceService.getPolicy, { tenant, version });
  if (policy === undefined) throw new CliError('failure', 'the registry answered without a policy');
  const { out, force } = options;
  if (out === undefined) await writeStream(context.io, policy.jws);
  else {
    await writeFileWhole(out, policy.jws, { force, mode: 0o644 });
    context.note(`wrote ${out}\n`);
  }
};
