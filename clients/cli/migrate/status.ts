// mortise migrate status: how far a campaign is, from its journal alone.
import type { Context } from '../context.ts';
import { CliError, type Exit } from '../exit-codes.ts';
import { factsText, tableText } from '../output.ts';
import { readEntries, readJournal, runnerOf } from './journal.ts';

const MAX_SHOWN = 50;
const QUIET: ReadonlySet<string> = new Set(['current', 'unrecognised']);

export const status = async (context: Context, { journal: path }: { readonly journal: string }): Promise<Exit> => {
  const state = await readJournal(path).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === 'ENOENT') throw new CliError('failure', `there is no journal ${path}`, cause);
    throw cause;
  });
  const { begin, runs, files, moved, pending, left, ended, stated, lastTime } = state;
  if (begin === undefined) throw new CliError('usage', `${path} is empty or no journal`);
  const runner = await runnerOf(path);
  const problems = [];
  let hidden = 0;
  for await (const entry of readEntries(path)) {
    if (entry.t !== 'left' || entry.run !== runs || QUIET.has(entry.reason)) continue;
    if (problems.length < MAX_SHOWN) problems.push(entry);
    else hidden += 1;
  }
  const standing = ended?.complete ? 'complete' : runner === undefined ? 'interrupted: run it again' : 'running';
  const facts = factsText([
    ['campaign', begin.campaign],
    ['tenant', begin.tenant],
    ['begun', begin.time],
    ['state', standing],
    ['process', runner],
    ['runs', runs],
    ['files', files],
    ['moved', moved.size],
    ['under way', pending.size],
    ...Object.entries(left).map(([reason, count]) => [`left: ${reason}`, count] as const),
    ['last sign', lastTime],
    ['statement', stated?.path],
  ]);
  const rows = problems.map(({ reason, path: file, code, detail }) => [reason, file, code, detail]);
  const table = rows.length === 0 ? '' : `\n${tableText(['REASON', 'FILE', 'CODE', 'DETAIL'], rows)}`;
  const more = hidden > 0 ? `and ${hidden} more; the journal has them all\n` : '';
  const json = { campaign: begin.campaign, tenant: begin.tenant, state: standing, runs, files, moved: moved.size };
  await context.print({
    text: `${facts}${table}${more}`,
    json: {
      ...json,
      pending: pending.size,
      left,
      problems,
      problemsLeftOut: hidden,
      statement: stated?.path,
      lastTime,
    },
  });
  return 'ok';
};
