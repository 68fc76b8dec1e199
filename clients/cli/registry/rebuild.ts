// mortise registry rebuild: opens the rebuild of a tenant's catalogue, waits for what the hosts know, and ends it.
import { setTimeout as sleep } from 'node:timers/promises';
import { CatalogServiceService, EntryKind, type Rebuild } from '../../../proto/gen/mortise/registry/v1/catalog.ts';
import type { Context } from '../context.ts';
import { CliError, type Exit } from '../exit-codes.ts';
import { factsText, tableText } from '../output.ts';
import { openSession, type Session, type SessionOptions } from './session.ts';

const LOOK_MS = 500;
const DEFAULT_WAIT_MS = 60_000;

export interface RebuildOptions extends SessionOptions {
  readonly seconds?: number;
  readonly wait?: number;
  readonly acceptMissing: boolean;
  readonly status: boolean;
}

const present = (rebuild: Rebuild | undefined): Rebuild => {
  if (rebuild === undefined) throw new CliError('failure', 'the registry answered without a rebuild');
  return rebuild;
};

const stateText = ({ state }: Rebuild): string => state.replace('REBUILD_STATE_', '').toLowerCase();
const conflictText = ({ kind, name, host, reason }: Rebuild['conflicts'][number]): string =>
  `${kind === EntryKind.KEK ? 'kek' : 'key'} ${name} as ${host} knows it: ${reason}`;

const WORDS = {
  REBUILD_OUTCOME_RECREATED: 'recreated',
  REBUILD_OUTCOME_ADDED: 'added',
  REBUILD_OUTCOME_RESERVED: 'reserved',
  REBUILD_OUTCOME_LOST: 'lost',
  REBUILD_OUTCOME_LEFT: 'left as it is',
} as const;

type Finding = Rebuild['findings'][number];

const outcomeText = ({ outcome }: Finding): string => WORDS[outcome as keyof typeof WORDS] ?? outcome;
const findingText = (row: Finding): string => {
  const versions =
    row.versions.length === 0 ? '' : ` ${row.versions.length > 1 ? 'versions' : 'version'} ${row.versions.join(', ')}`;
  return `${outcomeText(row)}: ${row.kind === EntryKind.KEK ? 'kek' : 'key'} ${row.name}${versions}: ${row.reason}`;
};

const show = async (context: Context, rebuild: Rebuild): Promise<void> => {
  const { tenant, openedBy, openTime, expireTime, endTime, hosts, missing, conflicts, findings } = rebuild;
  const facts = factsText([
    ['tenant', tenant],
    ['state', stateText(rebuild)],
    ['opened', `${openTime?.toISOString()} by ${openedBy}`],
    ['expires', endTime === undefined ? expireTime?.toISOString() : undefined],
    ['ended', endTime?.toISOString()],
    ['missing hosts', missing.join(', ') || 'none'],
    ['conflicts', String(conflicts.length)],
  ]);
  const rows = hosts.map(({ host, complete, entries, stored, objects, tokenUnread }) => [
    host,
    complete ? 'told everything' : 'tells',
    String(entries),
    String(stored),
    tokenUnread === '' ? String(objects) : `token not read: ${tokenUnread}`,
  ]);
  const lines = [
    ...conflicts.map((conflict) => `conflict: ${conflictText(conflict)}\n`),
    ...findings.map((row) => `${findingText(row)}\n`),
  ].join('');
  await context.print({
    text: `${facts}${tableText(['HOST', 'STATE', 'ENTRIES', 'STORED', 'UNKNOWN OBJECTS'], rows)}${lines}`,
    json: {
      ...rebuild,
      id: Buffer.from(rebuild.id).toString('hex'),
      state: stateText(rebuild),
      hosts: hosts.map((row) => ({
        ...row,
        ...{ entries: Number(row.entries), stored: Number(row.stored), objects: Number(row.objects) },
      })),
      conflicts: conflicts.map((row) => ({ ...row, kind: row.kind === EntryKind.KEK ? 'kek' : 'key' })),
      findings: findings.map((row) => ({
        ...row,
        kind: row.kind === EntryKind.KEK ? 'kek' : 'key',
        outcome: outcomeText(row),
      })),
    },
  });
};

const look = async (session: Session, tenant: string): Promise<Rebuild> =>
  present((await session.call(CatalogServiceService.getRebuild, { tenant })).rebuild);

/** Until no host is missing, or patience ends. Tells of each change. */
const waitForAll = async (context: Context, session: Session, tenant: string, waitMs: number): Promise<Rebuild> => {
  const until = Date.now() + waitMs;
  let told = '';
  for (;;) {
    const rebuild = await look(session, tenant);
    const { hosts, missing } = rebuild;
    const done = hosts.filter(({ complete }) => complete).length;
    const line = `${done} hosts have told everything; missing: ${missing.join(', ') || 'none'}\n`;
    if (line !== told) context.note(line);
    told = line;
    if (missing.length === 0 || Date.now() >= until) return rebuild;
    await sleep(LOOK_MS, undefined, { signal: context.io.signal });
  }
};

export const rebuild = async (context: Context, options: RebuildOptions, tenant: string): Promise<Exit> => {
  using session = await openSession(context, options);
  if (options.status) {
    await show(context, await look(session, tenant));
    return 'ok';
  }
  const { acceptMissing, seconds = 0, wait = DEFAULT_WAIT_MS } = options;
  const opened = await session.call(CatalogServiceService.beginRebuild, { tenant, seconds });
  context.note(`the rebuild of ${tenant} is open until ${present(opened.rebuild).expireTime?.toISOString()}\n`);
  const waited = await waitForAll(context, session, tenant, wait);
  if (waited.missing.length > 0 && !acceptMissing) {
    await show(context, waited);
    context.note('it stays open: repeat this command when these hosts are there, or end it with --accept-missing\n');
    return 'retryable';
  }
  const ended = await session.call(CatalogServiceService.endRebuild, { tenant, acceptMissing });
  await show(context, present(ended.rebuild));
  const { conflicts, findings } = present(ended.rebuild);
  return conflicts.length > 0 || findings.length > 0 ? 'negative' : 'ok';
};
