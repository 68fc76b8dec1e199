// What an agent takes as its data folder, and what it refuses before it opens a store.
import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { DATA_FORMAT, prepareDataFolder } from '../../../agent/assembly/data-folder.ts';

const folderFor = (t: TestContext): string => {
  const parent = mkdtempSync(join(tmpdir(), 'mortise-data-'));
  t.after(() => rmSync(parent, { recursive: true, force: true }));
  return join(parent, 'data');
};
const refusal = (words: RegExp) => (error: unknown) => {
  const { code, message } = error as { code: string; message: string };
  assert.equal(code, 'STORE_UNAVAILABLE');
  assert.match(message, words);
  return true;
};

test('a new folder is closed to others and says its format', async (t) => {
  const path = folderFor(t);
  await prepareDataFolder(path);
  assert.equal(statSync(path).mode & 0o777, 0o700);
  assert.equal(readFileSync(join(path, 'format'), 'utf8'), `${DATA_FORMAT}\n`);
  mkdirSync(join(path, 'keys'));
  await prepareDataFolder(path);
});

test('a folder that others could look into is closed', async (t) => {
  const path = folderFor(t);
  mkdirSync(path);
  chmodSync(path, 0o755);
  await prepareDataFolder(path);
  assert.equal(statSync(path).mode & 0o777, 0o700);
});

test('a format that this agent does not know is refused, and left as it is', async (t) => {
  const path = folderFor(t);
  await prepareDataFolder(path);
  for (const format of ['mortise-data 2\n', '', `${'x'.repeat(4096)}`]) {
    writeFileSync(join(path, 'format'), format);
    await assert.rejects(prepareDataFolder(path), refusal(/this agent reads "mortise-data 1"; start the version/));
    assert.equal(readFileSync(join(path, 'format'), 'utf8'), format);
  }
});

test('stores without a format are refused: part of a backup, or somebody else’s folder', async (t) => {
  const path = folderFor(t);
  mkdirSync(join(path, 'audit'), { recursive: true });
  await assert.rejects(prepareDataFolder(path), refusal(/stores but no file "format".*restore all of it/));
});

test('a folder whose parent is missing is a mistake of the setting', async (t) => {
  await assert.rejects(prepareDataFolder(join(folderFor(t), 'deeper')), refusal(/ENOENT.*MORTISE_DATA_DIR/));
});
