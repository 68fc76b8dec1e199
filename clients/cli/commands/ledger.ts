// mortise audit query, export, logs, receipt: what the registry's ledger has of all hosts.
import { type Command, Option } from 'commander';
import { leaf, parseCount, parseTime, type Registry } from '../command.ts';
import type { FilterOptions, OutOptions, PartOptions } from '../registry/ledger.ts';
import { sessionOptions } from '../registry/options.ts';
import type { SessionOptions } from '../registry/session.ts';

const filterOptions = (command: Command): Command =>
  sessionOptions(command)
    .requiredOption('--tenant <id>', 'whose logs; "_platform" for those of hosts and registry')
    .option('--since <time>', 'from this time on', parseTime)
    .option('--until <time>', 'before this time', parseTime)
    .option('--key <key>', 'key id, or <key id>/<version>')
    .option('--principal <name>', 'who')
    .option('--operation <name>', 'what')
    .option('--outcome <code>', '"ok", "intent" or an error code')
    .option('--host <host>', 'where')
    .option('--correlation-id <id>', 'one call');

const placeOptions = (command: Command): Command =>
  command.option('--out <file>', 'write to this file', '-').option('--force', 'replace an existing file', false);

/** Adds to `audit` what the registry's ledger has. */
export const registerLedger = (registry: Registry, audit: Command): void => {
  leaf<FilterOptions & { limit?: number }>(
    registry,
    audit,
    'query',
    'records of all hosts from the registry',
    async (context, options) => (await import('../registry/ledger.ts')).queryLedger(context, options),
    (command) => filterOptions(command).option('-n, --limit <n>', 'at most so many', parseCount),
  );
  leaf<FilterOptions & OutOptions & PartOptions & { format: string }>(
    registry,
    audit,
    'export',
    'a file of records from the registry',
    async (context, options) => (await import('../registry/ledger.ts')).exportLedger(context, options),
    (command) =>
      placeOptions(filterOptions(command))
        .addOption(
          new Option('--format <format>', 'of the file')
            .choices(['json-lines', 'csv', 'bundle', 'tlog-tiles'])
            .default('json-lines'),
        )
        .option('--log <origin>', 'bundle: only a part of this log, between two checkpoints; tlog-tiles: this log')
        .option('--from-size <records>', 'bundle: behind the checkpoint of so many records', parseCount)
        .option('--to-size <records>', 'up to the checkpoint of so many (default: the newest)', parseCount),
  );
  leaf<SessionOptions & { tenant: string }>(
    registry,
    audit,
    'logs',
    'the logs of a tenant in the registry, and where they stand',
    async (context, options) => (await import('../registry/ledger.ts')).listLogs(context, options),
    (command) => sessionOptions(command).requiredOption('--tenant <id>', 'whose logs'),
  );
  leaf<SessionOptions & OutOptions & { tenant: string; form: string }>(
    registry,
    audit,
    'receipt <event-id>',
    'proof that a record is in the ledger (C2SP tlog-proof)',
    async (context, options, eventId) =>
      (await import('../registry/ledger.ts')).fetchReceipt(context, options, eventId as string),
    (command) =>
      placeOptions(sessionOptions(command))
        .requiredOption('--tenant <id>', 'whose log')
        .addOption(new Option('--form <form>', 'of the file').choices(['receipt', 'tlog-proof']).default('tlog-proof')),
  );
};
