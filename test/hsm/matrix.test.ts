// Every module that can be installed here, one conformance suite through the agent's socket, and the table of docs/hsm.md
// written from what was seen. A cell that did not run fails the run, and so does a table that said something else.
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { debianRoot, needsRoot, outputInside, runInside } from '../slow/support/debian-root.ts';
import { makeSoftHsm, type SoftHsm } from '../support/softhsm.ts';
import { conformance } from './conformance.ts';
import { MATRIX, type MatrixModule } from './modules.ts';
import type { ModuleOutcome } from './outcomes.ts';
import { writeTable } from './table.ts';

const RUN_MS = 8 * 60_000;
const seen: ModuleOutcome[] = [];

let hsm: SoftHsm | undefined;
conformance({
  name: 'SoftHSM 2.6.1',
  target: async () => {
    hsm = await makeSoftHsm();
    return hsm;
  },
  seen: (outcomes, wraps) => seen.push({ module: 'SoftHSM 2.6', starts: true, wraps, outcomes }),
});
after(() => hsm?.dispose());

const run = async (module: MatrixModule): Promise<Omit<ModuleOutcome, 'module'>> => {
  const root = await debianRoot(module.root);
  const shared = await mkdtemp(join(tmpdir(), 'mortise-matrix-'));
  try {
    const file = module.lacks === undefined ? 'conformance' : 'reduced';
    const tests = `node_modules/.bin/node --test --test-reporter=spec --test-timeout=240000 test/hsm/inside/${file}.ts`;
    const lacks = `export MODULE_LACKS='${module.lacks?.source ?? ''}'`;
    const { exitCode, output } = await runInside(root, `${module.setUp}\n${lacks}\n${tests}`, {
      timeoutMs: RUN_MS,
      shared,
    });
    assert.equal(exitCode, 0, output);
    return JSON.parse(await readFile(join(shared, 'seen.json'), 'utf8'));
  } finally {
    await rm(shared, { recursive: true, force: true });
  }
};

describe('modules of other Debians', { skip: needsRoot }, () => {
  for (const module of MATRIX) {
    test(`${module.column}: ${module.lacks === undefined ? 'conformance' : 'its reduced set'}`, async (t) => {
      const root = await debianRoot(module.root);
      const version = await outputInside(root, `dpkg-query -W ${module.package}`, { timeoutMs: 30_000 });
      t.diagnostic(version.trim());
      seen.push({ module: module.column, ...(await run(module)) });
    });
  }
});

test('docs/hsm.md has the table of what was seen, every cell of it', { skip: needsRoot }, async () => {
  const file = join(import.meta.dirname, '../../docs/hsm.md');
  const before = await readFile(file, 'utf8');
  const now = writeTable(before, seen, ['SoftHSM 2.6', ...MATRIX.map(({ column }) => column)]);
  await writeFile(file, now);
  assert.ok(now === before, 'docs/hsm.md said something else; it has been written anew from what was seen');
});
