// Verifies an exported audit bundle offline: no agent, no registry, constant memory. Invariant: the exit code says "ok"
// only where every record is proven complete up to its log's newest checkpoint and nothing was found.
import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { type BundleReport, BundleVerifier, MAX_BUNDLE_LINE } from '../../proto/documents/audit-bundle.ts';
import { DocumentError } from '../../proto/documents/canonical.ts';
import { parseCosigner } from '../../proto/documents/cosignature.ts';
import type { PublicJwk } from '../../proto/documents/key-record.ts';
import { certificatesText, warnOfCertificates } from './certificates-text.ts';
import type { Context } from './context.ts';
import { CliError, type Exit } from './exit-codes.ts';
import { MAX_DOCUMENT_BYTES, readInput, STREAM } from './files.ts';
import { factsText, tableText } from './output.ts';
import { readJwk } from './public-jwk.ts';

const LIMIT = { bytes: MAX_DOCUMENT_BYTES, advice: 'a checkpoint or a key is a few lines' };

export interface BundleChoices {
  readonly trustedCheckpoint?: readonly string[];
  /** Of every host that no --host-key names. */
  readonly checkpointKey?: string;
  /** "<host>=<file>" */
  readonly hostKey?: readonly string[];
  readonly cosigner?: string;
}

const readKeys = async (context: Context, choices: BundleChoices) => {
  const read = async (path: string): Promise<PublicJwk> => (await readJwk(context.io, path)) as PublicJwk;
  const others = choices.checkpointKey === undefined ? undefined : await read(choices.checkpointKey);
  const keys = new Map<string, PublicJwk>();
  for (const text of choices.hostKey ?? []) {
    const sign = text.indexOf('=');
    if (sign < 1) throw new CliError('usage', `"${text}" is not HOST=FILE`);
    keys.set(text.slice(0, sign), await read(text.slice(sign + 1)));
  }
  return (host: string): PublicJwk | undefined => keys.get(host) ?? others;
};

const readNote = async (context: Context, path: string): Promise<string> =>
  (await readInput(context.io, path, LIMIT)).toString('utf8');

const readText = async (context: Context, path: string | undefined): Promise<string | undefined> =>
  path === undefined ? undefined : readNote(context, path);

/** Lines of the file; a line beyond the limit ends the reading before it fills the memory. */
async function* linesOf(context: Context, path: string): AsyncGenerator<string> {
  const input = path === STREAM ? context.io.stdin : createReadStream(path);
  let length = 0;
  const bounded = async function* (): AsyncGenerator<Buffer> {
    for await (const chunk of input as AsyncIterable<Buffer | string>) {
      const bytes = Buffer.from(chunk as Buffer);
      const end = bytes.lastIndexOf('\n');
      length = end < 0 ? length + bytes.length : bytes.length - end;
      if (length > MAX_BUNDLE_LINE) throw new DocumentError('a line is longer than the limit');
      yield bytes;
    }
  };
  const { Readable } = await import('node:stream');
  const lines = createInterface({ input: Readable.from(bounded()), crlfDelay: Number.POSITIVE_INFINITY });
  yield* lines;
}

const reportText = ({ tenant, logs, findings, cosignerIsPinned, certificates }: BundleReport): string => {
  const facts = factsText([
    ['tenant', tenant],
    ['registry', cosignerIsPinned ? 'its countersignatures were verified' : 'not examined; --cosigner pins its key'],
  ]);
  const rows = logs.map(({ origin, from, size, proven, checkpoints, keyIsPinned }) => [
    ...[origin, from, size, proven ?? 'nothing', checkpoints, keyIsPinned ? 'pinned' : "the bundle's own word"],
  ]);
  const head = ['LOG', 'FROM', 'RECORDS', 'PROVEN TO', 'CHECKPOINTS', 'KEY'];
  const wrong = findings.map(({ origin, index, code, message }) => [origin, index, code, message]);
  const list = wrong.length === 0 ? '' : `\n${tableText(['LOG', 'POSITION', 'FINDING', 'WHAT'], wrong)}`;
  return `${facts}\n${tableText(head, rows)}${certificatesText(certificates)}${list}`;
};

export const verifyBundle = async (context: Context, path: string, choices: BundleChoices): Promise<Exit> => {
  const keyOf = await readKeys(context, choices);
  const cosigner = await readText(context, choices.cosigner);
  const trusted = await Promise.all((choices.trustedCheckpoint ?? []).map((file) => readNote(context, file)));
  let report: BundleReport;
  try {
    const verifier = new BundleVerifier({
      keyOf,
      ...(cosigner !== undefined && { cosigner: parseCosigner(cosigner.trim()) }),
      trusted,
    });
    for await (const line of linesOf(context, path)) verifier.line(line);
    report = verifier.end();
  } catch (cause) {
    if (cause instanceof DocumentError) throw new CliError('negative', `${path}: ${cause.message}`, cause);
    throw new CliError('failure', `cannot read ${path}: ${(cause as Error).message}`, cause);
  }
  await context.print({ text: reportText(report), json: report });
  warnOfCertificates(context, report.certificates);
  return report.intact ? 'ok' : 'negative';
};
