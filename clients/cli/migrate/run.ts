// mortise migrate run: begins a campaign, or goes on with one where its journal ends, and signs what came of it.
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import type { CallOptions } from '../../typescript/index.ts';
import type { Context } from '../context.ts';
import { CliError, type Exit } from '../exit-codes.ts';
import { factsText } from '../output.ts';
import { CountProgress } from '../progress.ts';
import { Campaign, type Progress } from './campaign.ts';
import { type Begin, JOURNAL_VERSION, Journal, type JournalState, readJournal } from './journal.ts';
import { Mover } from './move.ts';
import { associatedDataOf, lasting, type RunOptions, sourcesOf, targetsOf } from './options.ts';
import { writeStatement } from './statement.ts';
import { type Clock, Throttle } from './throttle.ts';
import { filesOf, type Sources } from './walk.ts';

const CLOCK: Clock = {
  now: () => performance.now(),
  sleep: async (ms, signal) => {
    signal.throwIfAborted();
    if (ms > 0) await sleep(ms, undefined, { signal });
  },
};

const countOf = async (context: Context, sources: Sources): Promise<number> => {
  let files = 0;
  for await (const _ of filesOf(context.io, sources)) files += 1;
  return files;
};

const begun = async (
  journal: Journal,
  state: JournalState,
  { tenant, options }: { readonly tenant: string; readonly options: Begin['options'] },
): Promise<Begin> => {
  const { begin } = state;
  if (begin === undefined) {
    const made: Begin = {
      t: 'begin',
      version: JOURNAL_VERSION,
      campaign: randomUUID(),
      tenant,
      options,
      time: new Date().toISOString(),
    };
    await journal.append(made);
    return made;
  }
  if (begin.version !== JOURNAL_VERSION)
    throw new CliError('usage', 'the journal is of another version of this program');
  if (begin.tenant !== tenant)
    throw new CliError('usage', `the journal is of tenant ${begin.tenant}, not of ${tenant}`);
  const changed = Object.keys(options).filter((name) => !isDeepStrictEqual(options[name], begin.options[name]));
  if (changed.length > 0) {
    throw new CliError('usage', `the journal is of a campaign with other options: ${changed.join(', ')}`);
  }
  return begin;
};

const progressText = ({ moved, current, failed }: Progress): string =>
  `  ${moved} moved, ${current} current, ${failed} left`;

const check = ({ signKey, statement, list }: RunOptions): void => {
  if ((signKey === undefined) !== (statement === undefined)) {
    throw new CliError('usage', 'a statement needs both --sign-key KEY and --statement FILE');
  }
  if (list === '-') throw new CliError('usage', 'a list that can be read again is needed: give --list a file');
};

/** What the run says at its end. */
const report = async (
  context: Context,
  {
    campaign,
    complete,
    progress,
    options,
    stated,
  }: {
    readonly campaign: string;
    readonly complete: boolean;
    readonly progress: Progress;
    readonly options: RunOptions;
    readonly stated: boolean;
  },
): Promise<Exit> => {
  const text = factsText([
    ['campaign', campaign],
    ['moved', progress.moved],
    ['current already', progress.current],
    ['no ciphertext', progress.unrecognised],
    ['not moved', progress.failed],
    ['complete', complete ? 'yes' : 'no: the same command goes on with it'],
    ['statement', stated ? options.statement : undefined],
    ['not moved, why', progress.failed > 0 ? `"mortise migrate status --journal ${options.journal}"` : undefined],
  ]);
  const { statement } = options;
  await context.print({ text, json: { campaign, complete, ...progress, ...(stated && { statement }) } });
  if (!complete) return 'retryable';
  return progress.failed > 0 ? 'failure' : 'ok';
};

export const run = async (context: Context, options: RunOptions, paths: readonly string[]): Promise<Exit> => {
  check(options);
  const sources = sourcesOf(paths, options);
  const associatedData = await associatedDataOf(context, options);
  // Repeats are the campaign's own matter: it has to see that the agent is busy.
  const client = await context.client({ retry: false });
  // What is under way when Ctrl-C comes is finished; only streams, which may take long, are broken off.
  const { signal, ...call }: CallOptions = context.call;
  const { tenant, principal } = await client.whoAmI(call);
  const journal = await Journal.open(options.journal);
  const progress = new CountProgress({ io: context.io, enabled: !context.json, doing: 'migrating' });
  try {
    const state = await readJournal(options.journal);
    const begin = await begun(journal, state, { tenant, options: lasting(paths, options, associatedData) });
    const [number, files] = [state.runs + 1, await countOf(context, sources)];
    await journal.append({ t: 'run', run: number, time: new Date().toISOString(), files });
    const targets = targetsOf(client, call, { tenant, ...options });
    const campaign = new Campaign({
      journal,
      state,
      options: {
        campaign: begin.campaign,
        run: number,
        method: options.method,
        to: options.to,
        associatedData,
        aadSuffix: options.aadSuffix,
        messageSuffix: options.messageSuffix,
        keptSuffix: options.keepOld,
        verify: options.verify,
      },
      mover: new Mover({ client, call, streams: { ...call, ...(signal && { signal }) }, targets }),
      targets,
      throttle: new Throttle({ clock: CLOCK, limits: { concurrency: options.concurrency, rate: options.rate } }),
      clock: CLOCK,
      signal: context.io.signal,
    });
    await campaign.recover();
    const complete = await campaign.run(filesOf(context.io, sources), (now) =>
      progress.show(now.done, files, progressText(now)),
    );
    progress.clear();
    await journal.append({ t: 'end', run: number, complete, time: new Date().toISOString() });
    const { signKey, statement: path } = options;
    const stated = complete && signKey !== undefined && path !== undefined;
    if (stated) {
      const about = { client, call, journal, journalPath: options.journal, begin, run: number, principal };
      await writeStatement({ ...about, signKey, path });
    }
    return await report(context, { campaign: begin.campaign, complete, progress: campaign.progress, options, stated });
  } finally {
    progress.clear();
    await journal.close();
  }
};
