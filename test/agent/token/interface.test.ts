// The interface of PKCS #11 3.2, against a library that is built to see what reaches it: arguments as the C API has them,
// and no list used that is older than it was asked for.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { findInterface } from '../../../agent/token/process/interface.ts';
import { SOFTHSM_LIBRARY } from '../../support/softhsm.ts';

const SOURCE = join(import.meta.dirname, '../../support/interface-3-2.c');
const handle = (value: bigint): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(value);
  return bytes;
};
const KEY = 0x1122334455667788n;
const TEMPLATE = [
  { type: 0x000, value: 4 },
  { type: 0x103, value: true },
  { type: 0x102, value: Buffer.from('id') },
];

let folder: string;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'mortise-interface-'));
});
after(() => rm(folder, { recursive: true, force: true }));

const build = async (version: number, withFunction: boolean): Promise<string> => {
  const library = join(folder, `interface-${version}-${withFunction}.so`);
  const defines = [`-DVERSION=${version}`, `-DWITH_FUNCTION=${Number(withFunction)}`];
  await promisify(execFile)('gcc', ['-shared', '-fPIC', ...defines, '-o', library, SOURCE]);
  return library;
};

test('C_DecapsulateKey gets handles, mechanism, ciphertext and template as they were given', async () => {
  const found = findInterface(await build(2, true)) ?? assert.fail('no interface');
  const ask = (ciphertext: string, template = TEMPLATE) =>
    found.decapsulateKey(handle(7n), { mechanism: 0x17 }, handle(KEY), Buffer.from(ciphertext), template);
  assert.deepEqual(ask('abc'), { ckr: 0, made: handle(KEY + 1n) });
  assert.equal(ask('abd').ckr, 7);
  assert.equal(ask('abc', TEMPLATE.slice(1)).ckr, 7);
});

test('a newer list is used, an older one is not, nor one without the function', async () => {
  assert.ok(findInterface(await build(3, true)));
  for (const [version, withFunction] of [
    [0, true],
    [1, true],
    [2, false],
  ] as const) {
    assert.equal(findInterface(await build(version, withFunction)), undefined, `3.${version}`);
  }
});

test('a library of 2.40 has no interface', () => {
  assert.equal(findInterface(SOFTHSM_LIBRARY), undefined);
});
