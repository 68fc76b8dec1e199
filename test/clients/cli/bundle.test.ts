// `audit verify BUNDLE` needs nobody: neither an agent nor a registry is there.
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { BUNDLE_SCHEMA, bundleLine } from '../../../proto/documents/audit-bundle.ts';
import { LedgerHost } from '../../support/ledger-host.ts';
import { runCli, temporaryFolder } from './run-cli.ts';

const bundleOf = async (host: LedgerHost): Promise<string> => {
  const { origin, publicJwk, records } = host;
  const lines = records.map(({ record, mac }) =>
    bundleLine({ record: record.toString('base64'), mac: mac.toString('base64') }),
  );
  return [
    bundleLine({ schema: BUNDLE_SCHEMA, tenant: host.tenant, cosigner: '' }),
    bundleLine({ log: { origin, publicJwk, size: 0, frontier: [] } }),
    ...lines,
    bundleLine({ checkpoint: await host.checkpoint() }),
    bundleLine({ end: { origin, size: records.length } }),
  ].join('');
};

const setUp = async (t: TestContext) => {
  const folder = temporaryFolder(t);
  const host = new LedgerHost().fill(5);
  const file = (name: string, text: string): string => {
    writeFileSync(join(folder, name), text);
    return join(folder, name);
  };
  const verify = (...args: string[]) => runCli(['audit', 'verify', ...args]);
  return { host, file, verify, text: await bundleOf(host) };
};

test('proves a bundle by a pinned key', async (t) => {
  const { host, file, verify, text } = await setUp(t);
  const key = file('key.jwk', host.jwk);
  const bundle = file('audit.jsonl', text);
  const { code, stdout } = await verify(bundle, '--host-key', `h-1=${key}`, '--output', 'json');
  assert.equal(code, 0, stdout);
  const { logs } = JSON.parse(stdout);
  assert.deepEqual([logs[0].proven, logs[0].size, logs[0].keyIsPinned], [5, 5, true]);
  const plain = await verify(bundle);
  assert.equal(plain.code, 0);
  assert.match(plain.stdout, /the bundle's own word/);
});

test('exits with 4 for another key, a record that is gone, and a file that is no bundle', async (t) => {
  const { file, verify, text } = await setUp(t);
  const bundle = file('audit.jsonl', text);
  const other = file('other.jwk', new LedgerHost().jwk);
  assert.equal((await verify(bundle, '--checkpoint-key', other)).code, 4);
  const lines = text.split('\n');
  const gone = await verify(file('gone.jsonl', lines.toSpliced(4, 1).join('\n')));
  assert.equal(gone.code, 4);
  assert.match(gone.stdout, /LOG_TRUNCATED/);
  assert.equal((await verify(file('no.jsonl', 'hello\n'))).code, 4);
  assert.equal((await verify(file('long.jsonl', 'x'.repeat(300_000)))).code, 4);
});

test('needs the countersignature of the registry that was pinned', async (t) => {
  const { file, verify, text } = await setUp(t);
  const cosigner = file('cosigner', 'nonsense\n');
  assert.equal((await verify(file('audit.jsonl', text), '--cosigner', cosigner)).code, 4);
  assert.equal((await verify('--host-key', 'h-1=x')).code, 2);
  assert.equal((await verify(file('a.jsonl', text), '--host-key', 'x')).code, 2);
  assert.equal((await verify(file('b.jsonl', text), '--store', 'x')).code, 2);
});

test('names the certificates that were stated over the records, and warns of one that was historical or had expired', async (t) => {
  const { file, verify } = await setUp(t);
  const host = new LedgerHost({ tenant: '_platform' });
  const start = (certificates: Record<string, string>): void => {
    host.add({
      operation: 'agent-start',
      key: '-',
      algorithm: '-',
      detail: JSON.stringify({ version: '1', certificates }),
    });
  };
  const good = 'CMVP 4703, FIPS 140-3 level 3, active, until 2029-01-01';
  const over = 'CMVP 1, FIPS 140-2 level 2, active, until 2026-11-24';
  const old = 'CMVP 1, FIPS 140-2 level 2, historical, until 2026-11-24';
  start({ main: good, side: over });
  host.fill(2);
  start({ main: good, side: old });
  const bundle = file('audit.jsonl', await bundleOf(host));
  const { code, stdout } = await verify(bundle, '--output', 'json');
  assert.equal(code, 0, stdout);
  const [from, changed] = ['2026-11-24T00:00:00.000000Z', '2026-11-24T00:00:00.000003Z'];
  assert.deepEqual(JSON.parse(stdout).certificates, [
    { host: 'h-1', token: 'main', statement: good, from, to: changed, warning: '' },
    { host: 'h-1', token: 'side', statement: over, from, to: changed, warning: 'it expired on 2026-11-24' },
    { host: 'h-1', token: 'side', statement: old, from: changed, to: changed, warning: 'it is historical' },
  ]);
  const plain = await verify(bundle);
  assert.match(plain.stdout, /^h-1 +side +CMVP 1, .* historical, until 2026-11-24 \(!\)/m);
  assert.match(plain.stderr, /warning: h-1, token side: CMVP 1, .*: it is historical/);
});
