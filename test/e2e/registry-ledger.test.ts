// The ledger by the command line: two agents hand their records in, an auditor asks for them, takes them away and proves
// offline that nothing is missing.
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { MortiseClient } from '../../clients/typescript/index.ts';
import { runCli } from '../clients/cli/run-cli.ts';
import { type Fleet, makeFleetOf } from '../support/fleet.ts';
import { RegistryProcess } from '../support/registry-process.ts';
import { clientOf } from './load.ts';

const PATIENCE_MS = 30_000;
const folder = mkdtempSync(join(tmpdir(), 'mortise-ledger-'));
const at = (name: string): string => join(folder, name);
let fleet: Fleet<RegistryProcess>;
let a: MortiseClient;
let b: MortiseClient;

const cli = (...args: string[]) => runCli(args, { env: { MORTISE_ADMIN_DIR: at('admin') } });
const right = async (...args: string[]): Promise<string> => {
  const { code, stdout, stderr } = await cli(...args);
  assert.equal(code, 0, `${args.join(' ')}: ${stderr}`);
  return stdout;
};
const recordsOf = async (...filter: string[]): Promise<Record<string, unknown>[]> =>
  (await right('audit', 'query', '--tenant', 'acme', '--output', 'json', ...filter))
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line));

before(async () => {
  fleet = await makeFleetOf({ makeRegistry: (anchor) => RegistryProcess.make(anchor) });
  const agents = [await fleet.agent('host-a'), await fleet.agent('host-b')];
  [a, b] = agents.map((agent) => clientOf(agent, 'acme', { retry: false })) as [MortiseClient, MortiseClient];
  const token = ['--enrolment-token', fleet.registry.tokenFile];
  await right('registry', 'enrol', '--registry', fleet.registry.address, ...token);
  await Promise.all([a.generateRandom(8, { correlationId: 'at-a' }), b.generateRandom(8, { correlationId: 'at-b' })]);
});
after(async () => {
  a?.close();
  b?.close();
  await fleet?.[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
});

test('a record of each host can be asked for by what is in it', async () => {
  for (const end = Date.now() + PATIENCE_MS; ; ) {
    const found = await recordsOf('--operation', 'generate-random', '--outcome', 'ok');
    if (new Set(found.map(({ correlationId }) => correlationId)).size === 2) break;
    assert.ok(Date.now() < end, 'the records of both hosts did not come');
  }
  const [one] = await recordsOf('--correlation-id', 'at-b');
  assert.equal(one?.['principal'], 'app@acme');
  assert.match(String(one?.['origin']), /^host-b\/acme\//);
  assert.deepEqual(await recordsOf('--correlation-id', 'at-b', '--host', 'host-a'), []);
  assert.deepEqual(await recordsOf('--until', '2020-01-01T00:00:00Z'), []);
  assert.equal((await recordsOf('--limit', '1')).length, 1);
  const table = await right('audit', 'query', '--tenant', 'acme', '--host', 'host-a');
  assert.match(table, /^TIME +RESULT +OPERATION[^\n]+\n[^\n]+ ok +generate-random +- +- +app@acme +host-a\//);
});

test('the logs are listed with their records', async () => {
  const { logs } = JSON.parse(await right('audit', 'logs', '--tenant', 'acme', '--output', 'json'));
  const hosts = logs.map(({ origin }: { origin: string }) => origin.split('/')[0]);
  assert.deepEqual(hosts.slice(0, 2), ['host-a', 'host-b']);
  assert.match(hosts[2], /^registry\./, 'what the registry itself did to the tenant');
  assert.ok(logs.every(({ refusal, size }: { refusal: string; size: number }) => refusal === '' && size > 0));
  assert.match(await right('audit', 'logs', '--tenant', 'acme'), /^LOG +RECORDS +LAST RECORD CAME +REFUSED\nhost-a\//);
});

test('a bundle proves all logs whole, without agent or registry; one with a record changed does not', async () => {
  const bundle = at('acme.bundle');
  for (const end = Date.now() + PATIENCE_MS; ; ) {
    // A checkpoint that covers the records comes within a second of them.
    await right('audit', 'export', '--tenant', 'acme', '--format', 'bundle', '--out', bundle, '--force');
    const { code, stdout } = await cli('audit', 'verify', bundle, '--output', 'json');
    const { logs = [] } = JSON.parse(stdout);
    if (code === 0 && logs.length === 3) break;
    assert.ok(Date.now() < end, stdout);
  }
  const altered = at('altered.bundle');
  const lines = readFileSync(bundle, 'utf8').split('\n');
  const where = lines.findLastIndex((line) => line.includes('"record"'));
  assert.ok(where > 0);
  writeFileSync(altered, [...lines.slice(0, where), ...lines.slice(where + 1)].join('\n'));
  assert.equal((await cli('audit', 'verify', altered)).code, 4);
});

test('CSV and JSON lines have every record once; an existing file stays', async () => {
  const all = await recordsOf();
  const csv = at('acme.csv');
  await right('audit', 'export', '--tenant', 'acme', '--format', 'csv', '--out', csv);
  assert.ok(readFileSync(csv, 'utf8').trimEnd().split('\r\n').length > all.length, 'a header, then the records');
  assert.equal((await cli('audit', 'export', '--tenant', 'acme', '--format', 'csv', '--out', csv)).code, 2);
  const exported = (await right('audit', 'export', '--tenant', 'acme')).trimEnd().split('\n');
  assert.ok(exported.length >= all.length);
  const ids = exported.map((line) => JSON.stringify(JSON.parse(line))).filter((line) => line.includes('at-a'));
  assert.equal(ids.length, 1);
});

test('a receipt proves one record; an unknown one has none', async () => {
  const [one] = await recordsOf('--correlation-id', 'at-a');
  const proof = await right('audit', 'receipt', String(one?.['eventId']), '--tenant', 'acme');
  assert.match(proof, /^c2sp\.org\/tlog-proof@v1\n/);
  assert.equal((await cli('audit', 'receipt', 'host-a/1/999', '--tenant', 'acme')).code, 1);
});

test('a part of a log and its tiles are taken away up to a countersigned checkpoint', async () => {
  const [one] = await recordsOf('--correlation-id', 'at-a');
  const origin = String(one?.['origin']);
  const part = at('part.jsonl');
  const log = ['--tenant', 'acme', '--log', origin];
  await right('audit', 'export', ...log, '--format', 'bundle', '--out', part);
  const report = JSON.parse(await right('audit', 'verify', part, '--output', 'json'));
  assert.equal(report.logs[0].origin, origin);
  assert.equal(report.logs[0].proven, report.logs[0].size);
  await right('audit', 'export', ...log, '--format', 'tlog-tiles', '--out', at('tiles'));
  assert.equal(readFileSync(join(at('tiles'), 'checkpoint'), 'utf8').split('\n')[0], origin);
  assert.equal((await cli('audit', 'export', ...log, '--format', 'tlog-tiles', '--out', at('tiles'))).code, 2);
  assert.equal((await cli('audit', 'export', ...log, '--format', 'csv', '--out', at('no.csv'))).code, 2);
  const receipt = at('receipt.json');
  const form = ['--tenant', 'acme', '--form', 'receipt', '--out', receipt];
  await right('audit', 'receipt', String(one?.['eventId']), ...form);
  const { publicJwk } = await a.audit.checkpoint();
  writeFileSync(at('host-a.jwk'), publicJwk);
  await right('receipt', 'verify', receipt, '--host-key', at('host-a.jwk'), '--event-id', String(one?.['eventId']));
});
