// mortise policy explain, diff: what a policy would decide, and what has changed, without an agent.
import { OPERATION_NAMES, type OperationName } from '../../../proto/documents/operations.ts';
import { explain as explainDecision, type PolicyQuestion } from '../../../proto/documents/policy-decide.ts';
import { mergePolicies } from '../../../proto/documents/policy-merge.ts';
import type { Policy } from '../../../proto/documents/policy-types.ts';
import type { Context } from '../context.ts';
import { CliError, type Exit } from '../exit-codes.ts';
import { cellText } from '../output.ts';
import type { SessionOptions } from '../registry/session.ts';
import { changesOf, changesText } from './changes.ts';
import { readAnyPolicy } from './read.ts';

export interface ExplainOptions {
  readonly platform: string;
  readonly policy?: string;
  readonly tenant?: string;
  readonly algorithm?: string;
  readonly jose?: string;
  readonly custody?: 'hsm' | 'wrapped' | 'split';
  readonly at?: Date;
}

const isOperation = (name: string): name is OperationName => OPERATION_NAMES.some((known) => known === name);

export const explain = async (context: Context, options: ExplainOptions, operation: string): Promise<Exit> => {
  if (!isOperation(operation)) {
    throw new CliError('usage', `no operation "${operation}"; there are ${OPERATION_NAMES.join(', ')}`);
  }
  const platform = await readAnyPolicy(context.io, options.platform);
  if (platform.scope !== 'platform') throw new CliError('usage', `${options.platform} is not a platform policy`);
  const policy = options.policy === undefined ? undefined : await readAnyPolicy(context.io, options.policy);
  if (policy?.scope === 'platform') throw new CliError('usage', `${options.policy} is not a tenant's policy`);
  const tenant = policy?.tenant ?? options.tenant ?? platform.tenants[0];
  if (tenant === undefined) throw new CliError('usage', 'the platform policy has no tenants; name one with --tenant');
  const now = (options.at ?? new Date()).getTime();
  const question: PolicyQuestion = {
    tenant,
    operation,
    ...(options.algorithm !== undefined && { algorithm: options.algorithm }),
    ...(options.jose !== undefined && { jose: options.jose }),
    ...(options.custody !== undefined && { custody: options.custody }),
  };
  const effective = mergePolicies({ tenant, platform, ...(policy && { policy }) });
  const answer = explainDecision(effective, question, now, now);
  const verdict = answer.allowed ? 'allowed' : `denied (${answer.code})`;
  const text = `${verdict} for tenant ${tenant} by ${answer.rule}\n${cellText(answer.explanation)}\n`;
  await context.print({ text, json: { tenant, ...answer } });
  return answer.allowed ? 'ok' : 'refused';
};

const PUBLISHED = /^registry:([a-z0-9_-]*)(?:@(\d{1,15}))?$/;

/** Draft or signed policies in files, or `registry:[tenant][@version]`: one that is published. */
export const diff = async (context: Context, options: SessionOptions, ...names: [string, string]): Promise<void> => {
  const read = async (name: string): Promise<Policy> => {
    const [, tenant, version] = PUBLISHED.exec(name) ?? [];
    if (tenant === undefined) return readAnyPolicy(context.io, name);
    const { publishedPolicy } = await import('../registry/policies.ts');
    return publishedPolicy(context, options, { tenant: tenant || '_platform', version: Number(version ?? 0) });
  };
  const changes = changesOf(await read(names[0]), await read(names[1]));
  const text = changes.length === 0 ? 'no difference\n' : changesText(changes);
  await context.print({ text, json: { changes } });
};
