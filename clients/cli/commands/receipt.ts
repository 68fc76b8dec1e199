// mortise receipt …: proof that a record is in the audit log, from the agent, and verified with nobody's help.
import { type Command, Option } from 'commander';
import { formatReceipt, MAX_RECEIPT_BYTES } from '../../../proto/documents/receipt.ts';
import { leaf, parseDuration, type Registry } from '../command.ts';
import type { Context } from '../context.ts';
import { CliError, type Exit } from '../exit-codes.ts';
import { MAX_DOCUMENT_BYTES, readInput, refuseExisting, STREAM, writeFileWhole, writeStream } from '../files.ts';
import { factsText } from '../output.ts';
import { readJwk } from '../public-jwk.ts';

const RECEIPT_LIMIT = { bytes: MAX_RECEIPT_BYTES, advice: 'a receipt is one record and its proof' };
const NOTE_LIMIT = { bytes: MAX_DOCUMENT_BYTES, advice: 'a checkpoint or a key is a few lines' };

interface GetOptions {
  readonly wait: number;
  readonly countersigned?: boolean;
  readonly form: 'receipt' | 'tlog-proof';
  readonly out: string;
  readonly force: boolean;
}

const get = async (context: Context, options: GetOptions, eventId: string): Promise<void> => {
  await refuseExisting(options.out, options.force);
  const question = { waitMs: options.wait, countersigned: options.countersigned ?? false };
  const receipt = await (await context.client()).audit.receipt(eventId, { ...question, ...context.call });
  const text = options.form === 'receipt' ? formatReceipt(receipt) : receipt.proof;
  if (options.out === STREAM) {
    await writeStream(context.io, text);
    return;
  }
  await writeFileWhole(options.out, text, { force: options.force, mode: 0o644 });
  context.note(`wrote ${options.out}${receipt.countersigned ? ', countersigned by the registry' : ''}\n`);
};

interface VerifyOptions {
  readonly hostKey: string;
  readonly cosigner?: string;
  readonly trustedCheckpoint?: string;
  readonly eventId?: string;
}

const verify = async (context: Context, options: VerifyOptions, path: string): Promise<Exit> => {
  const { io } = context;
  const { DocumentError, parseReceipt, proveRecord } = await import('../../../proto/documents/receipt.ts');
  const read = async (file: string | undefined): Promise<string | undefined> =>
    file === undefined ? undefined : (await readInput(io, file, NOTE_LIMIT)).toString('utf8');
  const cosigner = await read(options.cosigner);
  const keptCheckpoint = await read(options.trustedCheckpoint);
  const text = (await readInput(io, path, RECEIPT_LIMIT)).toString('utf8');
  try {
    const { record, index, origin, size, countersignedAt } = proveRecord(parseReceipt(text), {
      publicJwk: (await readJwk(io, options.hostKey)) as Readonly<Record<string, string>>,
      ...(cosigner !== undefined && { cosigner }),
      ...(keptCheckpoint !== undefined && { keptCheckpoint }),
      ...(options.eventId !== undefined && { eventId: options.eventId }),
    });
    const seen = countersignedAt === undefined ? undefined : new Date(countersignedAt * 1000).toISOString();
    const facts = factsText([
      ['proven', `record ${index} of the ${size} in ${origin}`],
      ['registry', seen === undefined ? 'not examined; --cosigner pins its key' : `countersigned at ${seen}`],
      ['event id', record.eventId],
      ['time', record.time],
      ['operation', record.operation],
      ['result', record.outcome],
      ['key', record.key],
      ['principal', record.principal],
    ]);
    await context.print({ text: facts, json: { proven: true, origin, index, size, countersignedAt: seen, record } });
    return 'ok';
  } catch (cause) {
    if (cause instanceof DocumentError) throw new CliError('negative', `${path}: ${cause.message}`, cause);
    throw cause;
  }
};

/** Declares `receipt` and its subcommands. */
export const registerReceipt = (registry: Registry, program: Command): void => {
  const receipt = program.command('receipt').description('proof that a record is in the audit log');
  leaf<GetOptions>(registry, receipt, 'get <event-id>', 'get a receipt from the agent', get, (command) =>
    command
      .option('--wait <time>', 'for a checkpoint that covers the record, at most 10s', parseDuration, 5000)
      .option('--countersigned', 'only by a checkpoint that the registry has countersigned')
      .addOption(new Option('--form <form>', 'of the file').choices(['receipt', 'tlog-proof']).default('receipt'))
      .option('--out <file>', 'write to this file', '-')
      .option('--force', 'replace an existing file', false),
  );
  leaf<VerifyOptions>(registry, receipt, 'verify <file>', 'verify a receipt; nobody is asked', verify, (command) =>
    command
      .requiredOption('--host-key <file>', "public JWK of the host's checkpoints, pinned")
      .option('--cosigner <file>', 'verifier key of the registry, whose countersignature is then needed')
      .option('--trusted-checkpoint <file>', 'a checkpoint kept from before: the receipt must not be of an older one')
      .option('--event-id <id>', 'the record must be this one'),
  );
};
