// The signed end of a campaign: a JWS by a key of the agent over what was moved and what was not. The list of files stands
// beside it and is bound by its hash, so that a campaign of any size has one statement.
import { createHash } from 'node:crypto';
import { basename } from 'node:path';
import type { CallOptions, MortiseClient } from '../../typescript/index.ts';
import { writeFilePieces, writeFileWhole } from '../files.ts';
import { type Begin, type Journal, type Left, type Replacing, readEntries } from './journal.ts';
import { entriesOf } from './options.ts';

export const STATEMENT_SCHEMA = 'mortise.migration-statement/v1';
const STATEMENT_TYPE = 'mortise-migration+jws';

interface Counts {
  moved: number;
  readonly left: Record<string, number>;
  entries: number;
}

/** Files that were moved in any run, those that the latest run left, and the lines of lists that stayed. */
async function* entriesIn(journal: string, latest: number, counts: Counts, hash: { update(text: string): unknown }) {
  const replacing = new Map<string, Replacing>();
  const lines = new Map<string, Map<number, Left>>();
  const written = (line: Record<string, unknown>): Buffer => {
    const text = `${JSON.stringify(line)}\n`;
    counts.entries += 1;
    hash.update(text);
    return Buffer.from(text);
  };
  for await (const entry of readEntries(journal)) {
    let line: Record<string, unknown> | undefined;
    if (entry.t === 'replacing') replacing.set(entry.path, entry);
    else if (entry.t === 'moved') {
      const { t: _, ...about } = replacing.get(entry.path) as Replacing;
      replacing.delete(entry.path);
      counts.moved += 1;
      line = { outcome: 'moved', ...about };
    } else if (entry.t === 'list' && entry.lines === 0) lines.delete(entry.path);
    else if (entry.t === 'left' && entry.line !== undefined) {
      lines.set(entry.path, (lines.get(entry.path) ?? new Map<number, Left>()).set(entry.line, entry));
    } else if (entry.t === 'left' && entry.run === latest) line = leftLine(entry, counts);
    if (line !== undefined) yield written(line);
  }
  for (const ofList of lines.values()) for (const entry of ofList.values()) yield written(leftLine(entry, counts));
}

const leftLine = ({ t: _, run: __, ...about }: Left, counts: Counts): Record<string, unknown> => {
  counts.left[about.reason] = (counts.left[about.reason] ?? 0) + 1;
  return { outcome: 'left', ...about };
};

export interface StatementInput {
  readonly client: MortiseClient;
  readonly call: CallOptions;
  readonly journal: Journal;
  readonly journalPath: string;
  readonly begin: Begin;
  readonly run: number;
  readonly principal: string;
  readonly signKey: string;
  readonly path: string;
}

export const writeStatement = async (input: StatementInput): Promise<Counts> => {
  const { begin, run, principal, path } = input;
  const counts: Counts = { moved: 0, left: {}, entries: 0 };
  const hash = createHash('sha256');
  const list = entriesOf(path);
  await writeFilePieces(list, entriesIn(input.journalPath, run, counts, hash), { force: true, mode: 0o644 });
  const { moved, left, entries } = counts;
  const payload = {
    schema: STATEMENT_SCHEMA,
    campaign: begin.campaign,
    tenant: begin.tenant,
    principal,
    begun: begin.time,
    ended: new Date().toISOString(),
    runs: run,
    options: begin.options,
    moved,
    left,
    entries: { file: basename(list), count: entries, sha256: hash.digest('hex') },
  };
  const message = Buffer.from(JSON.stringify(payload));
  const { jws } = await input.client.sign(input.signKey, { message }, { ...input.call, type: STATEMENT_TYPE });
  await writeFileWhole(path, `${jws}\n`, { force: true, mode: 0o644 });
  await input.journal.append({ t: 'statement', path, sha256: createHash('sha256').update(jws).digest('hex') });
  return counts;
};
