// The matrix of docs/hsm.md: algorithm and purpose by module, between two comments of the document. Algorithms that fared
// alike on every module stand in one row.
import assert from 'node:assert/strict';
import { type ModuleOutcome, type Outcome, USES, type Use } from './outcomes.ts';

const BEGIN = '<!-- matrix: written by npm run test:hsm -->';
const END = '<!-- end of matrix -->';
const WORDS: Readonly<Record<Outcome['seen'], string>> = {
  hsm: 'token',
  wrapped: 'wrapped',
  split: 'split',
  refused: 'refused',
};

const cell = (module: ModuleOutcome, use: Use): string => {
  const outcome = module.outcomes.find((row) => row.algorithm === use.algorithm && row.purpose === use.purpose);
  assert.ok(outcome !== undefined, `${use.algorithm} to ${use.purpose} did not run on ${module.module}`);
  const word = WORDS[outcome.seen];
  if (module.starts) return word;
  return outcome.seen === 'hsm' ? '(token)' : '–';
};

interface Row {
  readonly names: string[];
  readonly purpose: string;
  readonly cells: readonly string[];
}

/** Columns by module, in the order of `modules`, each of which must have been seen. */
export const tableOf = (seen: readonly ModuleOutcome[], modules: readonly string[]): string => {
  const columns = modules.map((name) => {
    const found = seen.find(({ module }) => module === name);
    assert.ok(found !== undefined, `${name} did not run`);
    return found;
  });
  const rows: Row[] = [];
  for (const use of USES) {
    const cells = columns.map((module) => cell(module, use));
    const like = rows.find((row) => row.purpose === use.purpose && row.cells.join() === cells.join());
    if (like === undefined) rows.push({ names: [use.algorithm], purpose: use.purpose, cells });
    else like.names.push(use.algorithm);
  }
  const lines = [
    ['algorithm', 'purpose', ...modules],
    ['---', '---', ...modules.map(() => '---')],
    ...rows.map((row) => [row.names.join(', '), row.purpose, ...row.cells]),
    ['keys are wrapped by', '', ...columns.map(({ wraps }) => wraps)],
  ];
  return lines.map((line) => `| ${line.join(' | ')} |`).join('\n');
};

export const writeTable = (document: string, seen: readonly ModuleOutcome[], modules: readonly string[]): string => {
  const [from, to] = [document.indexOf(BEGIN), document.indexOf(END)];
  assert.ok(from >= 0 && to > from, 'docs/hsm.md has no place for the matrix');
  return `${document.slice(0, from + BEGIN.length)}\n\n${tableOf(seen, modules)}\n\n${document.slice(to)}`;
};
