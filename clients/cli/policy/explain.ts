// mortise policy explain, diff: what a policy would decide, and what has changed, without an agent.
import { OPERATION_NAMES, type OperationName } from '../../../proto/documents/operations.ts';
import { explain as explainDecision, type PolicyQuestion } from '../../../proto/documents/policy-decide.ts';
import { mergePolicies } from '../../../proto/documents/policy-merge.ts';
import type { Policy } from '../../../proto/documents/policy-types.ts';
import type { Context } from '../context.ts';
import { CliError, type Exit } from '../exit-codes.ts';
import { cellText, tableText } from '../output.ts';
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

interface Change {
  readonly path: string;
  readonly before: unknown;
  readonly after: unknown;
}

const isBranch = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Leaves that differ; lists count as leaves, since their order has no meaning that a path could show. */
const changesOf = (before: unknown, after: unknown, path = ''): readonly Change[] => {
  if (isBranch(before) && isBranch(after)) {
    const names = [...new Set([...Object.keys(before), ...Object.keys(after)])].sort();
    return names.flatMap((name) => changesOf(before[name], after[name], path === '' ? name : `${path}.${name}`));
  }
  return JSON.stringify(before) === JSON.stringify(after) ? [] : [{ path, before, after }];
};

const SHOWN = 60;
const shown = (value: unknown): string => {
  const text = value === undefined ? '-' : JSON.stringify(value);
  return text.length > SHOWN ? `${text.slice(0, SHOWN)}…` : text;
};

export const diff = async (context: Context, before: string, after: string): Promise<void> => {
  const [old, next]: readonly Policy[] = [
    await readAnyPolicy(context.io, before),
    await readAnyPolicy(context.io, after),
  ];
  const changes = changesOf(old, next);
  const rows = changes.map((change) => [change.path, shown(change.before), shown(change.after)]);
  const text = rows.length === 0 ? 'no difference\n' : tableText(['WHERE', 'BEFORE', 'AFTER'], rows);
  await context.print({ text, json: { changes } });
};
