// `audit verify` does not believe the agent: against a server that holds a real signed log, and then lies about it.
import assert from 'node:assert/strict';
import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { encodeAuditRecord } from '../../../proto/documents/audit-record.ts';
import { signCheckpoint } from '../../../proto/documents/checkpoint.ts';
import type { PublicJwk } from '../../../proto/documents/key-record.ts';
import { leafHash, rootOf } from '../../../proto/documents/merkle.ts';
import { StubAgent } from '../stub-agent.ts';
import { runCli, temporaryFolder } from './run-cli.ts';

const SIZE = 2345; // more than two pages
const ORIGIN = 'h/acme/1';

const fieldsOf = (index: number) => ({
  tenant: 'acme',
  principal: 'app@acme',
  key: 'orders/1',
  algorithm: 'A256GCMKW',
  operation: index % 2 === 0 ? 'encrypt' : 'decrypt',
  outcome: 'ok',
  time: '2026-11-24T08:00:00.000001Z',
  correlationId: `c-${index}`,
  eventId: `h/1/${index}`,
  detail: '{"uid":0}',
});

const recordOf = (index: number) => {
  const fields = fieldsOf(index);
  return { ...fields, index: BigInt(index), canonical: encodeAuditRecord(fields), mac: Buffer.alloc(32, index) };
};
type Row = ReturnType<typeof recordOf>;

const leafOf = ({ canonical, mac }: Row): Buffer => leafHash(Buffer.concat([canonical, mac]));
const ROWS = Array.from({ length: SIZE }, (_, index) => recordOf(index));
const LEAVES = ROWS.map(leafOf);

const officer = generateKeyPairSync('ed25519');
const jwkOf = (key: KeyObject): PublicJwk => key.export({ format: 'jwk' }) as unknown as PublicJwk;
const noteOver = (leaves: readonly Buffer[], pair = officer): Promise<string> =>
  signCheckpoint({ origin: ORIGIN, size: leaves.length, root: rootOf(leaves) }, jwkOf(pair.publicKey), async (data) =>
    sign(null, data, pair.privateKey),
  );

interface Lie {
  readonly rows?: readonly Row[];
  readonly note?: string;
  readonly jwk?: PublicJwk;
  readonly findings?: readonly { code: string; index: bigint; message: string }[];
}

const agentWith = async ({ rows = ROWS, note, jwk, findings = [] }: Lie = {}): Promise<StubAgent> => {
  const agent = await new StubAgent().start();
  const checkpoint = note ?? (await noteOver(LEAVES));
  agent.answers['getCheckpoint'] = () => ({ checkpoint, publicJwk: JSON.stringify(jwk ?? jwkOf(officer.publicKey)) });
  agent.answers['verifyLog'] = () => ({
    intact: findings.length === 0,
    size: BigInt(SIZE),
    root: rootOf(LEAVES).toString('hex'),
    findings,
    checkpointTime: undefined,
  });
  agent.answers['listRecords'] = ({ request }) => {
    const from = Number(request.from);
    return { records: rows.slice(from, from + request.pageSize), size: BigInt(rows.length) };
  };
  return agent;
};

const verify = async (agent: StubAgent, ...args: string[]) => {
  const result = await runCli(['audit', 'verify', '--socket', agent.socketPath, '--output', 'json', ...args]);
  assert.ok(result.stdout.startsWith('{'), result.stderr);
  return { code: result.code, report: JSON.parse(result.stdout) };
};
const found = (report: { findings: { code: string; index: number; by: string }[] }) =>
  report.findings.map(({ code, index, by }) => [code, index, by]);

test('a true log is intact, and the report says whose key was believed', async (t) => {
  await using agent = await agentWith();
  const { code, report } = await verify(agent);
  assert.equal(code, 0);
  assert.deepEqual([report.intact, report.agentIntact, report.clientIntact], [true, true, true]);
  assert.equal(report.size, SIZE);
  assert.equal(report.keyIsPinned, false);
  const key = join(temporaryFolder(t), 'key.jwk');
  writeFileSync(key, JSON.stringify(jwkOf(officer.publicKey)));
  assert.equal((await verify(agent, '--checkpoint-key', key)).report.keyIsPinned, true);
  const pages = agent.calls.filter(({ method }) => method === 'listRecords').map(({ request }) => request.pageSize);
  assert.deepEqual(pages, [1000, 1000, 345, 1000, 1000, 345]);
});

for (const [what, change, expected] of [
  [
    'a field that is not what the bytes say',
    (row: Row) => ({ ...row, principal: 'somebody@acme' }),
    [
      ['RECORD_EDITED', 1200, 'client'],
      ['LOG_FORKED', SIZE, 'client'],
    ],
  ],
  [
    'a field that no record can have',
    (row: Row) => ({ ...row, time: 'yesterday' }),
    [
      ['RECORD_EDITED', 1200, 'client'],
      ['LOG_FORKED', SIZE, 'client'],
    ],
  ],
  [
    'a record rewritten with its bytes',
    (row: Row) => {
      const fields = { ...fieldsOf(1200), outcome: 'KEY_STATE' };
      return { ...row, ...fields, canonical: encodeAuditRecord(fields) };
    },
    [['LOG_FORKED', SIZE, 'client']],
  ],
  ['another MAC', (row: Row) => ({ ...row, mac: Buffer.alloc(32, 1) }), [['LOG_FORKED', SIZE, 'client']]],
] as const) {
  test(`the client finds ${what}, though the agent says intact`, async () => {
    await using agent = await agentWith({ rows: ROWS.with(1200, change(ROWS[1200] as Row)) });
    const { code, report } = await verify(agent);
    assert.equal(code, 4);
    assert.deepEqual([report.intact, report.agentIntact, report.clientIntact], [false, true, false]);
    assert.deepEqual(found(report), expected);
  });
}

test('the client finds a record left out, two swapped, and a log cut off', async () => {
  {
    await using agent = await agentWith({ rows: ROWS.toSpliced(7, 1) });
    const { code, report } = await verify(agent);
    assert.equal(code, 4);
    assert.deepEqual(found(report)[0], ['RECORD_REORDERED', 8, 'client']);
  }
  {
    const rows = ROWS.with(5, ROWS[6] as Row).with(6, ROWS[5] as Row);
    await using agent = await agentWith({ rows });
    assert.deepEqual(found((await verify(agent)).report)[0], ['RECORD_REORDERED', 6, 'client']);
  }
  {
    await using agent = await agentWith({ rows: ROWS.slice(0, 2000) });
    assert.deepEqual(found((await verify(agent)).report), [['LOG_TRUNCATED', SIZE, 'client']]);
  }
});

test('a checkpoint by another key is refused where the key is pinned', async (t) => {
  const other = generateKeyPairSync('ed25519');
  const note = await noteOver(LEAVES, other);
  await using agent = await agentWith({ note, jwk: jwkOf(other.publicKey) });
  assert.equal((await verify(agent)).code, 0, 'its word counts where no key is pinned');
  const key = join(temporaryFolder(t), 'key.jwk');
  writeFileSync(key, JSON.stringify(jwkOf(officer.publicKey)));
  const { code, report } = await verify(agent, '--checkpoint-key', key);
  assert.equal(code, 4);
  assert.equal(report.findings[0].code, 'CHECKPOINT_INVALID');
});

test('a checkpoint kept from before must be extended', async (t) => {
  const folder = temporaryFolder(t);
  const [true_, forked] = ['true', 'forked'].map((name) => join(folder, name)) as [string, string];
  writeFileSync(true_, await noteOver(LEAVES.slice(0, 1500)));
  writeFileSync(forked, await noteOver(LEAVES.slice(0, 1500).with(3, Buffer.alloc(32))));
  await using agent = await agentWith();
  const good = await verify(agent, '--trusted-checkpoint', true_);
  assert.equal(good.code, 0);
  const sent = agent.calls.find(({ method }) => method === 'verifyLog')?.request.trustedCheckpoint;
  assert.equal(sent, await noteOver(LEAVES.slice(0, 1500)), 'the agent is asked about it too');
  const bad = await verify(agent, '--trusted-checkpoint', forked);
  assert.equal(bad.code, 4);
  assert.deepEqual(found(bad.report), [['LOG_FORKED', 1500, 'client']]);
});

test("the agent's own findings are shown with their position, in text too", async () => {
  const findings = [{ code: 'RECORD_EDITED', index: 41n, message: 'the MAC does not fit the record' }];
  await using agent = await agentWith({ findings });
  const { code, report } = await verify(agent);
  assert.equal(code, 4);
  assert.deepEqual(found(report), [['RECORD_EDITED', 41, 'agent']]);
  const text = await runCli(['audit', 'verify', '--socket', agent.socketPath]);
  assert.equal(text.code, 4);
  assert.match(text.stdout, /by the agent +NOT intact/);
  assert.match(text.stdout, /41 +RECORD_EDITED +agent +the MAC does not fit the record/);
});
