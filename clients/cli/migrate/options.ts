// The options of a campaign, and what they become. Invariant: a campaign that goes on has those that it began with.
import { createHash } from 'node:crypto';
import { resolve } from 'node:path';
import type { CallOptions, MortiseClient } from '../../typescript/index.ts';
import type { Context } from '../context.ts';
import { CliError } from '../exit-codes.ts';
import { MAX_ASSOCIATED_DATA_BYTES, readInput } from '../files.ts';
import type { Method } from './move.ts';
import { Targets } from './targets.ts';
import type { Sources } from './walk.ts';

export interface MigrateOptions {
  readonly list?: string;
  readonly to?: string;
  readonly key?: string;
  readonly method: Method;
  readonly aadFile?: string;
  readonly aadSuffix?: string;
  readonly messageSuffix: string;
}

export interface RunOptions extends MigrateOptions {
  readonly journal: string;
  readonly concurrency: number;
  readonly rate?: number;
  readonly keepOld?: string;
  readonly verify: boolean;
  readonly signKey?: string;
  readonly statement?: string;
}

export const entriesOf = (statement: string): string => `${statement}.entries.jsonl`;

export const sourcesOf = (paths: readonly string[], options: MigrateOptions & Partial<RunOptions>): Sources => {
  const { list, journal, statement, keepOld } = options;
  if (paths.length === 0 && list === undefined) throw new CliError('usage', 'give files or folders, or --list FILE');
  if (keepOld !== undefined && !/^\.?[A-Za-z0-9._-]{1,32}$/.test(keepOld)) {
    throw new CliError('usage', '--keep-old takes a suffix such as .old');
  }
  const own = [
    ...(journal === undefined ? [] : [journal, `${journal}.lock`]),
    ...(statement === undefined ? [] : [statement, entriesOf(statement)]),
  ];
  return { paths, list, own: new Set(own.map((path) => resolve(path))), keptSuffix: keepOld };
};

const LIMIT = { bytes: MAX_ASSOCIATED_DATA_BYTES, advice: 'associated data is a name or a hash, not a document' };

export const associatedDataOf = async (context: Context, { aadFile }: MigrateOptions): Promise<Buffer | undefined> =>
  aadFile === undefined ? undefined : readInput(context.io, aadFile, LIMIT);

/** What may not change while a campaign lasts. */
export const lasting = (
  paths: readonly string[],
  { list, to, key, method, aadSuffix, messageSuffix, keepOld }: RunOptions,
  associatedData: Buffer | undefined,
): Readonly<Record<string, unknown>> => ({
  paths: paths.map((path) => resolve(path)),
  list: list === undefined ? null : resolve(list),
  to: to ?? null,
  key: key ?? null,
  method,
  aadSha256: associatedData === undefined ? null : createHash('sha256').update(associatedData).digest('hex'),
  aadSuffix: aadSuffix ?? null,
  messageSuffix,
  keepOld: keepOld ?? null,
});

export const targetsOf = (
  client: MortiseClient,
  call: CallOptions,
  { tenant, to, key }: { readonly tenant: string } & Pick<MigrateOptions, 'to' | 'key'>,
): Targets => new Targets({ client, call, tenant, to, key });
