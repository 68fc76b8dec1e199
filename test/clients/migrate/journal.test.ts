// The journal: what it says is what was written, and a line that a kill cut off was never written.
import assert from 'node:assert/strict';
import { appendFileSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { type Entry, Journal, readEntries, readJournal, runnerOf } from '../../../clients/cli/migrate/journal.ts';
import { temporaryFolder } from '../cli/run-cli.ts';

const pathFor = (t: TestContext): string => join(temporaryFolder(t), 'journal');
const BEGIN: Entry = {
  t: 'begin',
  version: 1,
  campaign: 'c',
  tenant: 'acme',
  options: {},
  time: '2026-11-24T00:00:00Z',
};
const replacing = (path: string): Entry => ({
  t: 'replacing',
  path,
  form: 'jwe',
  method: 're-encrypt',
  from: ['acme/k/1'],
  to: ['acme/k/2'],
  oldSha256: 'old',
  newSha256: 'new',
  bytes: 1,
});
const written = async (path: string, entries: readonly Entry[]): Promise<void> => {
  const journal = await Journal.open(path);
  await Promise.all(entries.map((entry) => journal.append(entry)));
  await journal.close();
};

test('entries stand in order, and say what was moved, what is pending and what was left by the latest run', async (t) => {
  const path = pathFor(t);
  const left = (run: number, name: string): Entry => ({ t: 'left', run, path: name, reason: 'failed' });
  const run = (number: number): Entry => ({ t: 'run', run: number, time: `2026-11-24T0${number}:00:00Z`, files: 9 });
  await written(path, [BEGIN, run(1), left(1, '/x'), replacing('/a'), { t: 'moved', path: '/a', newSha256: 'new' }]);
  await written(path, [run(2), left(2, '/y'), left(2, '/z'), replacing('/b')]);
  const state = await readJournal(path);
  assert.deepEqual([state.runs, state.files, state.left], [2, 9, { failed: 2 }]);
  assert.deepEqual([...state.moved], [['/a', 'new']]);
  assert.deepEqual([...state.pending.keys()], ['/b']);
  assert.equal(state.ended, undefined);
});

test('a last line that was cut off anywhere is taken away, and nothing before it', async (t) => {
  const path = pathFor(t);
  await written(path, [BEGIN, replacing('/a')]);
  const whole = readFileSync(path, 'utf8');
  const line = JSON.stringify(replacing('/b'));
  for (let cut = 1; cut <= line.length; cut += 1) {
    writeFileSync(path, whole + line.slice(0, cut));
    assert.deepEqual([...(await readJournal(path)).pending.keys()], ['/a'], `cut after ${cut}`);
    await written(path, []);
    assert.equal(readFileSync(path, 'utf8'), whole);
  }
  writeFileSync(path, line.slice(0, 10));
  await written(path, []);
  assert.equal(readFileSync(path, 'utf8'), '');
});

test('a line in the middle that is none is an error with its number', async (t) => {
  const path = pathFor(t);
  await written(path, [BEGIN]);
  appendFileSync(path, 'nonsense\n{"t":"moved"}\n');
  await assert.rejects(async () => {
    for await (const _ of readEntries(path));
  }, /:2 is not a line of a migration journal/);
});

test('it is locked for as long as its process lives', async (t) => {
  const path = pathFor(t);
  const journal = await Journal.open(path);
  assert.equal(await runnerOf(path), process.pid);
  await journal.close();
  assert.ok(!existsSync(`${path}.lock`));
  writeFileSync(`${path}.lock`, '1');
  await assert.rejects(Journal.open(path), /process 1 runs this campaign already/);
  writeFileSync(`${path}.lock`, '4194305'); // above the largest process id of Linux
  assert.equal(await runnerOf(path), undefined);
  await (await Journal.open(path)).close();
});
