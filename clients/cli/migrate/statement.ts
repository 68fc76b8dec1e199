// The signed end of a campaign: a JWS by a key of the agent over what was moved and what was not. The list of files stands
// beside it and is bound by its hash, so that a campaign of any size has one statement.
import { createHash } from 'node:crypto';
import { basename } from 'node:path';
import type { CallOptions, MortiseClient } from '../../typescript/index.ts';
import { writeFilePieces, writeFileWhole } from '../files.ts';
import { type Begin, type Journal, type Replacing, readEntries } from './journal.ts';
import { entriesOf } from './options.ts';

export const STATEMENT_SCHEMA = 'mortise.migration-statement/v1';
const STATEMENT_TYPE = 'mortise-migration+jws';

interface Counts {
  moved: number;
  readonly left: Record<string, number>;
  entries: number;
}

/** Files that were moved in any run, and those that the latest run left. */
async function* entriesIn(journal: string, latest: number, counts: Counts, hash: { update(text: string): unknown }) {
  const replacing = new Map<string, Replacing>();
  for await (const entry of readEntries(journal)) {
    let line: Record<string, unknown> | undefined;
    if (entry.t === 'replacing') replacing.set(entry.path, entry);
    else if (entry.t === 'moved') {
      const { t: _, ...about } = replacing.get(entry.path) as Replacing;
      replacing.delete(entry.path);
      counts.moved += 1;
      line = { outcome: 'moved', ...about };
    } else if (entry.t === 'left' && entry.run === latest) {
      const { t: _, run: __, ...about } = entry;
      counts.left[entry.reason] = (counts.left[entry.reason] ?? 0) + 1;
      line = { outcome: 'left', ...about };
    }
    if (line === undefined) continue;
    const text = `${JSON.stringify(line)}\n`;
    counts.entries += 1;
    hash.update(text);
    yield Buffer.from(text);
  }
}

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
