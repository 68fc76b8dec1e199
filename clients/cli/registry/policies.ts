// mortise policy publish, history, fetch: signed policies to and from the registry.
import { AdminServiceService } from '../../../proto/gen/mortise/registry/v1/admin.ts';
import { PoliciesServiceService, type PolicyVersion } from '../../../proto/gen/mortise/registry/v1/policies.ts';
import type { Context } from '../context.ts';
import { CliError } from '../exit-codes.ts';
import { writeFileWhole, writeStream } from '../files.ts';
import { tableText } from '../output.ts';
import { readDocument } from '../policy/read.ts';
import { openSession, type SessionOptions } from './session.ts';

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

export const history = async (context: Context, options: SessionOptions, tenant = PLATFORM): Promise<void> => {
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
  await context.print({ text, json: { tenant, versions: versions.map(plain) } });
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
