// mortise inventory: every key version of the tenant, what it is exposed to, and until when policy has it.
import { type Command, Option } from 'commander';
import type { Purpose } from '../../typescript/index.ts';
import { collectPair, leaf, type Registry } from '../command.ts';
import type { Context } from '../context.ts';
import { refuseExisting, STREAM, writeFilePieces, writeStream } from '../files.ts';

interface InventoryOptions {
  readonly cbom?: boolean;
  readonly vulnerable?: boolean;
  readonly purpose?: Purpose;
  readonly label?: Readonly<Record<string, string>>;
  readonly prefix?: string;
  readonly out: string;
  readonly force: boolean;
}

async function* bytesOf(texts: AsyncIterable<string>): AsyncGenerator<Buffer> {
  for await (const text of texts) yield Buffer.from(text);
}

const inventory = async (context: Context, options: InventoryOptions): Promise<void> => {
  const { cbom = false, vulnerable = false, purpose, label, prefix, out, force } = options;
  await refuseExisting(out, force);
  const client = await context.client();
  const [{ inventory: read }, { jsonOf, tableOf }, { cbomOf }, { tokensOf }] = await Promise.all([
    import('../inventory/entries.ts'),
    import('../inventory/text.ts'),
    import('../inventory/cbom.ts'),
    import('../inventory/certificates.ts'),
  ]);
  const query = { vulnerable, ...(purpose && { purpose }), ...(label && { labels: label }), ...(prefix && { prefix }) };
  const now = new Date();
  const keys = read(client, query, context.call);
  const tokens = await tokensOf(client, context.call);
  if (tokens === undefined) context.note('certificates of tokens are not shown: that needs the scope agent.status\n');
  for (const { name, certificate } of tokens ?? []) {
    if (certificate?.warning) context.note(`warning: token ${name}: ${certificate.warning}\n`);
  }
  const about = { now, ...(tokens && { tokens }) };
  const texts = cbom
    ? cbomOf(keys, { tenant: (await client.whoAmI(context.call)).tenant, ...about })
    : (context.json ? jsonOf : tableOf)(keys, about);
  if (out === STREAM) for await (const text of texts) await writeStream(context.io, text);
  else {
    await writeFilePieces(out, bytesOf(texts), { force, mode: 0o644 });
    context.note(`wrote ${out}\n`);
  }
};

const HELP = `
harvest-now: what was recorded under the key can be read once a quantum computer exists. forge-later: signatures can be
forged from then on. Keys that grants keep from you are not shown.`;

/** Declares `inventory`. */
export const registerInventory = (registry: Registry, program: Command): void => {
  leaf<InventoryOptions>(
    registry,
    program,
    'inventory',
    'every key version: algorithm, custody, last use, quantum risk and sunset',
    inventory,
    (command) =>
      command
        .option('--cbom', 'as a cryptography bill of materials: CycloneDX 1.6, in JSON')
        .option('--vulnerable', 'only what a quantum computer breaks')
        .addOption(new Option('--purpose <purpose>', 'only such keys').choices(['encrypt', 'sign', 'mac']))
        .option('--label <name=value>', 'only keys that carry it; may be repeated', collectPair)
        .option('--prefix <text>', 'only keys whose id begins so')
        .option('--out <file>', 'write to this file, complete or not at all', STREAM)
        .option('--force', 'replace an existing file', false)
        .addHelpText('after', HELP),
  );
};
