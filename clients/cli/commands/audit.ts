// mortise audit …: read the tenant's audit log and verify it, by the agent, by this program, and on disk.
import type { Command } from 'commander';
import type { PublicJwk } from '../../../proto/documents/key-record.ts';
import type { AuditRecord } from '../../typescript/index.ts';
import { certificatesText, warnOfCertificates } from '../certificates-text.ts';
import { collect, leaf, parseCount, type Registry } from '../command.ts';
import type { Context } from '../context.ts';
import { CliError, type Exit } from '../exit-codes.ts';
import { MAX_DOCUMENT_BYTES, readInput, refuseExisting, writeStream } from '../files.ts';
import { cellText, factsText, jsonText, tableText } from '../output.ts';
import { readJwk } from '../public-jwk.ts';
import { registerAuditForward } from './audit-forward.ts';
import { registerLedger } from './ledger.ts';

const NOTE_LIMIT = { bytes: MAX_DOCUMENT_BYTES, advice: 'a checkpoint is a few lines' };
const WIDTHS = [6, 27, 8, 18, 16, 16, 20] as const;
const HEAD = ['INDEX', 'TIME', 'RESULT', 'OPERATION', 'KEY', 'ALGORITHM', 'PRINCIPAL'] as const;

/** Fixed columns, since the rows to come are not known; a longer value keeps its length. */
const line = (cells: readonly string[]): string =>
  `${cells
    .map((cell, column) => cell.padEnd(WIDTHS[column] ?? 0))
    .join(' ')
    .trimEnd()}\n`;

const recordLine = (record: AuditRecord): string =>
  line(
    [record.index, record.time, record.outcome, record.operation, record.key, record.algorithm, record.principal].map(
      cellText,
    ),
  );

const recordJson = (record: AuditRecord): string => `${JSON.stringify(JSON.parse(jsonText(record)))}\n`;

const tail = async (
  context: Context,
  options: { readonly lines: number; readonly follow?: boolean; readonly from?: number },
): Promise<void> => {
  const { audit } = await context.client();
  const show = (record: AuditRecord): Promise<void> =>
    writeStream(context.io, context.json ? recordJson(record) : recordLine(record));
  const page =
    options.from === undefined
      ? options.lines === 0
        ? { records: [], size: (await audit.records({ newest: true, pageSize: 1 }, context.call)).size }
        : await audit.records({ newest: true, pageSize: options.lines }, context.call)
      : await audit.records({ from: options.from, pageSize: options.lines || 1 }, context.call);
  if (!context.json) await writeStream(context.io, line(HEAD));
  for (const record of page.records) await show(record);
  if (!options.follow) return;
  const from = (page.records.at(-1)?.index ?? page.size - 1) + 1;
  try {
    for await (const record of audit.tail({ from, signal: context.io.signal })) await show(record);
  } catch (thrown) {
    if (!context.io.signal.aborted) throw thrown; // Ctrl-C is how one leaves
  }
};

const show = async (context: Context, _: object, index: string): Promise<void> => {
  const { audit } = await context.client();
  const from = parseCount(index);
  const record = (await audit.records({ from, pageSize: 1 }, context.call)).records[0];
  if (record === undefined) throw new CliError('failure', `the log has no record ${from}`);
  const text = factsText([
    ['index', record.index],
    ['time', record.time],
    ['tenant', record.tenant],
    ['principal', record.principal],
    ['operation', record.operation],
    ['result', record.outcome],
    ['key', record.key],
    ['algorithm', record.algorithm],
    ['correlation id', record.correlationId],
    ['event id', record.eventId],
    ['detail', record.detail],
    ['mac', record.mac.toString('hex')],
  ]);
  await context.print({ text, json: record });
};

const checkpoint = async (context: Context, options: { readonly out: string; readonly force: boolean }) => {
  await refuseExisting(options.out, options.force);
  const answer = await (await context.client()).audit.checkpoint(context.call);
  if (context.json && options.out === '-') {
    const publicJwk: unknown = JSON.parse(answer.publicJwk);
    await context.print({ text: '', json: { checkpoint: answer.checkpoint, publicJwk } });
  } else {
    await context.deliver({ data: answer.checkpoint.trimEnd(), name: 'checkpoint' }, { ...options, mode: 0o644 });
  }
};

interface VerifyOptions {
  readonly hostKey?: readonly string[];
  readonly cosigner?: string;
  readonly trustedCheckpoint?: readonly string[];
  readonly checkpointKey?: string;
  readonly store?: string;
  readonly tenant?: readonly string[];
}

const verify = async (context: Context, options: VerifyOptions, bundle?: string): Promise<Exit> => {
  if (bundle !== undefined) {
    if (options.store !== undefined) throw new CliError('usage', 'a bundle or --store, not both');
    const { verifyBundle } = await import('../bundle-verification.ts');
    return verifyBundle(context, bundle, options);
  }
  if (options.hostKey !== undefined || options.cosigner !== undefined) {
    throw new CliError('usage', '--host-key and --cosigner go with a bundle only');
  }
  if ((options.trustedCheckpoint?.length ?? 0) > 1) {
    throw new CliError('usage', 'several of --trusted-checkpoint go with a bundle only');
  }
  if (options.store !== undefined) return verifyStore(context, options.store, options);
  if (options.tenant !== undefined) throw new CliError('usage', '--tenant goes with --store only');
  const { io } = context;
  const read = async (path: string | undefined): Promise<string | undefined> =>
    path === undefined ? undefined : (await readInput(io, path, NOTE_LIMIT)).toString('utf8');
  const kept = options.trustedCheckpoint?.[0];
  const trusted = await read(kept);
  const key = options.checkpointKey === undefined ? undefined : await readJwk(io, options.checkpointKey);
  const { verifyLog } = await import('../log-verification.ts');
  const progress = io.stderr.isTTY && !context.json;
  const report = await verifyLog(await context.client(), {
    call: context.call,
    trusted,
    key: key as PublicJwk | undefined,
    progress: (done, size) => {
      if (progress) io.stderr.write(`\rverifying ${done} of ${size} records`);
    },
  });
  if (progress) io.stderr.write('\r\u001b[K');
  const facts = factsText([
    ['records', report.size],
    ['root', report.root],
    ['by the agent', report.agentIntact ? 'intact' : 'NOT intact'],
    ['by this program', report.clientIntact === null ? 'not examined' : report.clientIntact ? 'intact' : 'NOT intact'],
    ['checkpoint key', report.keyIsPinned ? 'the given one' : "the agent's own word; --checkpoint-key pins it"],
    ['extends', trusted && kept],
  ]);
  const rows = report.findings.map(({ code, index, by, message }) => [index, code, by, message]);
  const findings = rows.length === 0 ? '' : `\n${tableText(['POSITION', 'FINDING', 'BY', 'WHAT'], rows)}`;
  const text = `${facts}${certificatesText(report.certificates)}${findings}`;
  await context.print({ text, json: report });
  warnOfCertificates(context, report.certificates);
  return report.intact ? 'ok' : 'negative';
};

/** On disk: the MAC keys are in the token, so the agent program does it. */
const verifyStore = async (context: Context, store: string, options: VerifyOptions): Promise<Exit> => {
  const { runAgentProgram } = await import('../agent-program.ts');
  const args = ['audit', 'verify', '--store', store];
  for (const tenant of options.tenant ?? []) args.push('--tenant', tenant);
  for (const path of options.trustedCheckpoint ?? []) args.push('--checkpoint', path);
  if (options.checkpointKey !== undefined) args.push('--checkpoint-key', options.checkpointKey);
  return runAgentProgram(context, [...args, ...(context.json ? ['--output', 'json'] : [])]);
};

/** Declares `audit` and its subcommands. */
export const registerAudit = (registry: Registry, program: Command): void => {
  const audit = program.command('audit').description("read and verify the tenant's audit log");
  leaf(registry, audit, 'tail', 'show the newest records', tail, (command) =>
    command
      .option('-n, --lines <n>', 'how many, at most 1000', parseCount, 10)
      .option('-f, --follow', 'go on with new ones as they are committed, until Ctrl-C')
      .option('--from <index>', 'begin at this position instead', parseCount),
  );
  leaf(registry, audit, 'show <index>', 'show one record whole', show);
  leaf(registry, audit, 'checkpoint', 'print the newest signed checkpoint (keep it elsewhere)', checkpoint, (command) =>
    command.option('--out <file>', 'write to this file', '-').option('--force', 'replace an existing file', false),
  );
  leaf<VerifyOptions>(
    registry,
    audit,
    'verify [bundle]',
    'verify the log, or a bundle that was exported',
    verify,
    (c) =>
      c
        .option(
          '--host-key <host=file>',
          "with a bundle: public JWK of this host's checkpoints; may be repeated",
          collect,
        )
        .option(
          '--cosigner <file>',
          'with a bundle: verifier key of the registry, whose countersignature each checkpoint needs',
        )
        .option(
          '--trusted-checkpoint <file>',
          'a checkpoint kept from before: the log must extend it; may be repeated with a bundle',
          collect,
        )
        .option(
          '--checkpoint-key <file>',
          "public JWK that must have signed the checkpoint (default: the agent's word)",
        )
        .option('--store <dir>', 'verify an audit store on disk; runs the agent program, which needs the token')
        .option('--tenant <tenant>', 'with --store: only this tenant; may be repeated', collect),
  );
  registerAuditForward(registry, audit);
  registerLedger(registry, audit);
};
