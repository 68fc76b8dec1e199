// Help names the algorithms of the table, and says of each what the agent does with it.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { findSignatureAlgorithm } from '../../../agent/crypto/signature-algorithms.ts';
import { signsDigest } from '../../../clients/cli/algorithm-help.ts';
import { ALGORITHMS } from '../../../proto/documents/algorithms.ts';
import { runCli } from './run-cli.ts';

const USABLE = ALGORITHMS.filter(({ status }) => status !== 'forbidden');
const SIGNING = USABLE.filter(({ jose }) => jose.sign !== undefined);

/** What stands in a help text between two lines, as the names of a list. */
const listed = (text: string, from: string, to?: string): readonly string[] => {
  const start = text.indexOf(`${from}\n`);
  assert.ok(start >= 0, `${from} is missing in ${text}`);
  const end = to === undefined ? text.length : text.indexOf(`${to}\n`, start);
  return text
    .slice(start + from.length, end)
    .split(/[\s,]+/)
    .filter((word) => word !== '');
};

for (const command of [
  ['key', 'create'],
  ['key', 'rotate'],
]) {
  test(`mortise ${command.join(' ')} --help lists every algorithm under its purposes, and none that is forbidden`, async () => {
    const { stdout } = await runCli([...command, '--help']);
    const ends = { encrypt: '  sign', sign: '  mac', mac: undefined } as const;
    for (const purpose of ['encrypt', 'sign', 'mac'] as const) {
      const names = listed(stdout, `  ${purpose}`, ends[purpose]);
      const wanted = USABLE.filter(({ jose }) => jose[purpose] !== undefined).map(({ id }) => id);
      assert.ok(wanted.length > 2);
      assert.deepEqual(names.slice(0, wanted.length), wanted);
    }
    for (const id of ['ML-KEM-768', 'ML-DSA-65', 'SLH-DSA-SHA2-128s', 'ML-DSA-65-ES256', 'ML-KEM-768-RSA3072']) {
      assert.ok(stdout.includes(id), id);
    }
    assert.ok(!stdout.includes('RSA1_5'));
    for (const line of stdout.split('\n')) assert.ok(line.length <= 110, line);
  });
}

test('mortise sign --help says which algorithms sign digests, as the agent does', async () => {
  const { stdout } = await runCli(['sign', '--help']);
  const digests = listed(stdout, 'Sign digests, too (--digest):', 'Sign messages alone:');
  const messages = listed(stdout, 'Sign messages alone:');
  const takesDigest = (jose: string) => findSignatureAlgorithm(jose)?.digest !== undefined;
  for (const row of SIGNING) {
    const names = row.jose.sign ?? [];
    for (const jose of names) assert.equal(signsDigest(row), takesDigest(jose), jose);
    assert.ok((signsDigest(row) ? digests : messages).includes(row.id), row.id);
  }
  assert.equal(digests.length + messages.length, SIGNING.length);
});
