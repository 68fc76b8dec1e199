// mortise migrate plan: what a campaign would move, from which key version to which, and what it could not. Changes nothing.
import { stat } from 'node:fs/promises';
import type { MortiseClient, MortiseError } from '../../typescript/index.ts';
import type { Context } from '../context.ts';
import type { Exit } from '../exit-codes.ts';
import { tableText } from '../output.ts';
import { CountProgress, sizeText } from '../progress.ts';
import { type Ciphertext, type Form, parseJose, readCiphertext } from './ciphertext.ts';
import { linesOf } from './list.ts';
import { type MigrateOptions, sourcesOf, targetsOf } from './options.ts';
import { type Assessment, type Reason, left as stays } from './targets.ts';
import { filesOf } from './walk.ts';

interface PlanRow {
  readonly form: Form;
  readonly from: string;
  readonly to: string;
  readonly algorithm: string;
  readonly key: string;
  files: number;
  bytes: number;
}

interface Plan {
  readonly rows: Map<string, PlanRow>;
  readonly left: Partial<Record<Reason, number>>;
  /** Some of those that cannot be moved. */
  readonly examples: { readonly path: string; readonly reason: Reason; readonly detail: string }[];
}

const MAX_EXAMPLES = 20;
const QUIET: ReadonlySet<Reason> = new Set(['current', 'unrecognised']);

const addTo = (plan: Plan, path: string, form: Form | undefined, assessed: Assessment, bytes: number): void => {
  if (assessed.state === 'left') {
    const { reason, detail } = assessed;
    plan.left[reason] = (plan.left[reason] ?? 0) + 1;
    if (!QUIET.has(reason) && plan.examples.length < MAX_EXAMPLES) plan.examples.push({ path, reason, detail });
    return;
  }
  const from = assessed.from.join(' ');
  const to = assessed.to.map(({ keyId, version }) => `${keyId}/${version}`).join(' ');
  const algorithm = assessed.to.map((row) => row.algorithm).join(' ');
  const name = `${form} ${from} ${to}`;
  const key = assessed.to[0]?.keyId ?? '';
  const row = plan.rows.get(name) ?? { form: form as Form, from, to, algorithm, key, files: 0, bytes: 0 };
  row.files += 1;
  row.bytes += bytes;
  plan.rows.set(name, row);
};

interface Item {
  readonly name: string;
  readonly found: Ciphertext | undefined;
  readonly size: number;
}

/** The ciphertext that a file is, or those that stand in its lines. */
async function* ciphertextsIn(path: string): AsyncGenerator<Item> {
  const found = await readCiphertext(path);
  if (found?.form !== 'list') return yield { name: path, found, size: (await stat(path)).size };
  let line = 0;
  for await (const bytes of linesOf(path)) {
    line += 1;
    const text = bytes.toString('utf8');
    if (text.trim() !== '') yield { name: `${path}:${line}`, found: parseJose(text), size: bytes.length };
  }
}

/** How policy and grants stand to the operations; undefined where the caller may not ask. */
const explained = async (context: Context, client: MortiseClient, rows: Iterable<PlanRow>) => {
  const answers = new Map<string, { operation: string; key: string; allowed: boolean; explanation: string }>();
  for (const { form, key } of rows) {
    const names = form === 'jws' ? ['re-sign'] : form === 'jwe' ? ['re-encrypt'] : ['rewrap', 're-encrypt'];
    for (const operation of names) {
      if (answers.has(`${operation} ${key}`)) continue;
      try {
        const { allowed, explanation } = await client.explain({ operation, key }, context.call);
        answers.set(`${operation} ${key}`, { operation, key, allowed, explanation });
      } catch (error) {
        if ((error as MortiseError).code === 'PERMISSION_DENIED') return undefined;
        throw error;
      }
    }
  }
  return [...answers.values()];
};

const planText = ({ rows, left, examples }: Plan, operations: Awaited<ReturnType<typeof explained>>): string => {
  const head = ['FILES', 'SIZE', 'FORM', 'FROM', 'TO', 'ALGORITHM'];
  const table = tableText(
    head,
    [...rows.values()].map((row) => [row.files, sizeText(row.bytes), row.form, row.from, row.to, row.algorithm]),
  );
  const counts = Object.entries(left).map(([reason, count]) => [count, reason]);
  const others = counts.length === 0 ? '' : `\n${tableText(['FILES', 'NOT MOVED BECAUSE'], counts)}`;
  const some =
    examples.length === 0
      ? ''
      : `\n${tableText(
          ['REASON', 'FILE', 'DETAIL'],
          examples.map((row) => [row.reason, row.path, row.detail]),
        )}`;
  const policy =
    operations === undefined
      ? '\npolicy was not asked: that needs the scope agent.status\n'
      : operations.length === 0
        ? ''
        : `\n${tableText(
            ['OPERATION', 'KEY', 'ALLOWED', 'WHY'],
            operations.map((row) => [row.operation, row.key, row.allowed, row.explanation]),
          )}`;
  return `${rows.size === 0 ? 'nothing to move\n' : table}${others}${some}${policy}`;
};

export const plan = async (context: Context, options: MigrateOptions, paths: readonly string[]): Promise<Exit> => {
  const sources = sourcesOf(paths, options);
  const client = await context.client();
  const { tenant } = await client.whoAmI(context.call);
  const targets = targetsOf(client, context.call, { tenant, ...options });
  const made: Plan = { rows: new Map(), left: {}, examples: [] };
  const progress = new CountProgress({ io: context.io, enabled: !context.json, doing: 'looked at' });
  let files = 0;
  try {
    for await (const path of filesOf(context.io, sources)) {
      context.io.signal.throwIfAborted();
      for await (const { name, found, size } of ciphertextsIn(path)) {
        const assessed = found === undefined ? stays('unrecognised', '') : await targets.assess(found);
        addTo(made, name, found?.form, assessed, size);
      }
      files += 1;
      progress.show(files, undefined);
    }
  } finally {
    progress.clear();
  }
  const operations = await explained(context, client, made.rows.values());
  const { rows, left, examples } = made;
  await context.print({
    text: planText(made, operations),
    json: { files, moves: [...rows.values()], left, examples, operations },
  });
  return 'ok';
};
