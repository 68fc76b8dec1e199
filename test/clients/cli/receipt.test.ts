// `receipt verify` needs nobody: neither an agent nor a registry is there. `receipt get` asks the agent alone.
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { MortiseError, receiptText, verifyReceipt } from '../../../clients/typescript/index.ts';
import { inclusionProof, leafHash } from '../../../proto/documents/merkle.ts';
import { formatProof } from '../../../proto/documents/tlog-proof.ts';
import { LedgerHost } from '../../support/ledger-host.ts';
import { StubAgent } from '../stub-agent.ts';
import { runCli, temporaryFolder } from './run-cli.ts';

const setUp = async (t: TestContext) => {
  const folder = temporaryFolder(t);
  const host = new LedgerHost().fill(9);
  const leaves = host.records.map(({ record, mac }) => leafHash(Buffer.concat([record, mac])));
  const checkpoint = await host.checkpoint();
  const proof = formatProof({ index: 4, hashes: inclusionProof(leaves, 4), checkpoint });
  const receipt = { proof, ...(host.records[4] as { record: Buffer; mac: Buffer }) };
  const file = (name: string, text: string): string => {
    writeFileSync(join(folder, name), text);
    return join(folder, name);
  };
  return { folder, host, receipt, file, key: file('key.jwk', host.jwk) };
};

test('verifies a receipt by a pinned key, and exits with 4 where it proves nothing', async (t) => {
  const { host, receipt, file, key } = await setUp(t);
  const good = file('good.json', receiptText(receipt));
  const verify = (...args: string[]) => runCli(['receipt', 'verify', '--output', 'json', ...args]);
  const eventId = `h-1/${host.epoch}/5`;
  const { code, stdout } = await verify(good, '--host-key', key, '--event-id', eventId);
  assert.equal(code, 0, stdout);
  const { index, size, record } = JSON.parse(stdout);
  assert.deepEqual([index, size, record.eventId], [4, 9, eventId]);
  const other = file('other.jwk', new LedgerHost().jwk);
  assert.equal((await verify(good, '--host-key', other)).code, 4);
  const changed = file('changed.json', receiptText({ ...receipt, ...(host.records[5] as typeof receipt) }));
  assert.equal((await verify(changed, '--host-key', key)).code, 4);
  host.fill(1);
  const later = file('later.txt', await host.checkpoint());
  const old = await verify(good, '--host-key', key, '--trusted-checkpoint', later);
  assert.equal(old.code, 4);
  assert.match(old.stderr, /covers 9 records, the kept one 10/);
  assert.equal((await verify(good)).code, 2, 'without a pinned key nothing is verified');
});

test('gets a receipt from the agent that verifies as it is, and by the client', async (t) => {
  const { folder, host, receipt, key } = await setUp(t);
  await using agent = await new StubAgent().start();
  const asked: unknown[] = [];
  agent.answers['getReceipt'] = ({ request }) => {
    asked.push(request);
    return { ...receipt, publicJwk: host.jwk, countersigned: false };
  };
  const path = join(folder, 'receipt.json');
  const eventId = `h-1/${host.epoch}/5`;
  const got = await runCli(['receipt', 'get', eventId, '--socket', agent.socketPath, '--wait', '2s', '--out', path]);
  assert.equal(got.code, 0, got.stderr);
  assert.deepEqual(asked, [{ eventId, waitMs: 2000, countersigned: false }]);
  assert.equal((await runCli(['receipt', 'verify', path, '--host-key', key])).code, 0);
  const text = readFileSync(path, 'utf8');
  const pinned = { publicJwk: host.publicJwk, eventId };
  assert.equal(verifyReceipt(text, pinned).index, 4);
  assert.throws(
    () => verifyReceipt(text, { ...pinned, eventId: 'h-1/1/1' }),
    (error) => error instanceof MortiseError && error.code === 'SIGNATURE_INVALID',
  );
});
