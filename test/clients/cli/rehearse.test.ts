// mortise policy rehearse: the questions that it reads back from a trail are those that the agent asked, its decisions are
// the agent's, and what it says of them is counted rightly, over the socket and from a file.
import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { decrypt } from '../../../agent/operations/decrypt.ts';
import { encrypt } from '../../../agent/operations/encrypt.ts';
import { encryptGeneral } from '../../../agent/operations/encrypt-general.ts';
import { encryptTo } from '../../../agent/operations/encrypt-to.ts';
import { generateDataKey } from '../../../agent/operations/generate-data-key.ts';
import { mac } from '../../../agent/operations/mac.ts';
import { reEncrypt } from '../../../agent/operations/re-encrypt.ts';
import { reSign } from '../../../agent/operations/re-sign.ts';
import { rewrap } from '../../../agent/operations/rewrap.ts';
import { sign } from '../../../agent/operations/sign.ts';
import { verify } from '../../../agent/operations/verify.ts';
import type { Io } from '../../../clients/cli/io.ts';
import { type Draft, Rehearsal } from '../../../clients/cli/policy/rehearsal.ts';
import { trailOfFile } from '../../../clients/cli/policy/trail.ts';
import { questionsOf, type TrailRecord } from '../../../clients/cli/policy/trail-question.ts';
import { encodeAuditRecord } from '../../../proto/documents/audit-record.ts';
import type { KeyVersionRecord } from '../../../proto/documents/key-record.ts';
import { decide, type PolicyQuestion } from '../../../proto/documents/policy-decide.ts';
import { mergePolicies } from '../../../proto/documents/policy-merge.ts';
import type { PlatformPolicy, TenantPolicy } from '../../../proto/documents/policy-types.ts';
import { jsonLine } from '../../../registry/ledger/export.ts';
import { aCall, CryptoWorld, NO_AAD } from '../../agent/operations/crypto-world.ts';
import { FakeToken } from '../../fakes/token.ts';
import { anyQuestion, iso, NOW, platformPolicy, tenantPolicy } from '../../support/policy-documents.ts';
import { agentFailure, StubAgent } from '../stub-agent.ts';
import { runCli, temporaryFolder } from './run-cli.ts';

const aRecord = (change: Partial<TrailRecord> = {}): TrailRecord => ({
  tenant: 'acme',
  principal: 'app',
  key: 'orders/1',
  algorithm: 'RSA-OAEP-256',
  operation: 'encrypt',
  outcome: 'ok',
  time: '2026-11-20T10:00:00.000000Z',
  detail: '{"uid":1000,"pid":42}',
  ...change,
});
const CATALOGUE = new Map([
  ['acme/orders/1', { algorithm: 'RSA-2048', jose: 'RSA-OAEP-256', custody: 'hsm' as const }],
  ['acme/orders/2', { algorithm: 'ML-KEM-768', jose: 'HPKE-12-KE', custody: 'wrapped' as const }],
]);
const denying = (...deny: string[]): PlatformPolicy =>
  platformPolicy({ algorithms: { ...platformPolicy().algorithms, deny } });
const draftOf = (platform: PlatformPolicy, tenants: readonly TenantPolicy[] = [], only?: string): Draft => ({
  platform,
  tenants: new Map(tenants.map((policy) => [policy.tenant, policy])),
  only,
});
const rehearsed = (draft: Draft, records: readonly TrailRecord[], { catalogue = CATALOGUE, at = NOW } = {}) => {
  const rehearsal = new Rehearsal({ draft, at, catalogue });
  for (const record of records) rehearsal.add(record);
  return rehearsal;
};

describe('the questions of a record', () => {
  const data = Buffer.from('data');
  const text = (question: PolicyQuestion): string =>
    [question.operation, question.algorithm, question.jose, question.custody].join(' ');

  /** Runs an operation of the agent and compares what it asked with what its record says that it asked. */
  const compare = async (world: CryptoWorld, act: () => Promise<unknown>): Promise<void> => {
    world.questions.length = 0;
    await act();
    const asked = new Set(world.questions.map(text));
    const event = world.lastRecord;
    assert.equal(event.outcome, 'ok');
    const catalogue = new Map(
      ['rsa', 'kem', 'aes', 'sig', 'pq-sig', 'mac'].flatMap((id) =>
        world
          .key(id)
          .versions.map(
            ({ version, algorithm, jose, custody }: KeyVersionRecord) =>
              [`acme/${id}/${version}`, { algorithm, jose, custody }] as const,
          ),
      ),
    );
    const record = { ...event, time: '', detail: JSON.stringify(event.detail ?? {}) };
    const read = questionsOf(record, catalogue);
    // Of a key that the caller brought, the record has the JOSE name alone.
    if (event.key !== '-') {
      const several = read.filter(({ length }) => length !== 1);
      assert.deepEqual(several, [], event.operation);
    }
    const found = read.map((candidates) => candidates.map(text).find((question) => asked.has(question)));
    assert.deepEqual(new Set(found), asked, event.operation);
  };

  test('are those that the agent asked, for every operation with an algorithm', async () => {
    const world = new CryptoWorld(new FakeToken());
    for (const [keyId, algorithm, purpose] of [
      ['rsa', 'RSA-2048', 'encrypt'],
      ['kem', 'ML-KEM-768', 'encrypt'],
      ['aes', 'AES-256', 'encrypt'],
      ['sig', 'EC-P256', 'sign'],
      ['pq-sig', 'ML-DSA-44', 'sign'],
      ['mac', 'HMAC-SHA256', 'mac'],
    ] as const) {
      await world.add({ keyId, algorithm, purpose });
    }
    const { ports } = world;
    const call = aCall();
    const move = { sourceKey: '', associatedData: Buffer.alloc(0), newAssociatedData: undefined };
    const sealed = async (key: string) => (await encrypt(ports, call, { key, plaintext: data, ...NO_AAD })).value.jwe;
    const general = async (keys: readonly string[]) => {
      const recipients = keys.map((key) => ({ key }));
      return (await encryptGeneral(ports, call, { recipients, plaintext: data, ...NO_AAD })).value.jwe;
    };
    const signing = { key: 'sig', input: { message: data }, form: 'compact' as const, type: '' };
    const jws = async () => ((await sign(ports, call, signing)).value as { jws: string }).jws;
    const { publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const publicJwk = JSON.stringify(publicKey.export({ format: 'jwk' }));
    const [jwe, both, signed] = [await sealed('rsa'), await general(['rsa', 'aes']), await jws()];
    for (const act of [
      () => sealed('rsa'),
      () => sealed('kem'),
      () => decrypt(ports, call, { jwe, key: '', ...NO_AAD }),
      () => reEncrypt(ports, call, { ...move, jwe, targetKey: 'kem' }),
      () => general(['aes']),
      () => general(['rsa', 'aes']),
      () => rewrap(ports, call, { jwe: both, sourceKey: '', add: [{ key: 'aes' }], remove: ['acme/aes/1'] }),
      () => encryptTo(ports, call, { publicJwk, plaintext: data, ...NO_AAD }),
      jws,
      () => verify(ports, call, { key: '', version: 0, signature: { jws: signed }, input: undefined }),
      () => reSign(ports, call, { jws: signed, message: undefined, sourceKey: '', targetKey: 'pq-sig' }),
      () => mac(ports, call, { key: 'mac', message: data }),
      () => generateDataKey(ports, call, { key: 'aes', length: 32, wrappedOnly: false, ...NO_AAD }),
    ]) {
      await compare(world, act);
    }
  });

  test('without a catalogue are those of every key that the JOSE name can mean', () => {
    const [candidates = []] = questionsOf(aRecord(), new Map());
    assert.deepEqual(candidates.map(({ algorithm }) => algorithm).toSorted(), ['RSA-2048', 'RSA-3072', 'RSA-4096']);
    assert.deepEqual(
      questionsOf(aRecord({ algorithm: '-' }), CATALOGUE),
      [],
      'it ended before it came to an algorithm',
    );
    assert.deepEqual(questionsOf(aRecord({ operation: 'list-keys', algorithm: '-' }), CATALOGUE), [
      [{ tenant: 'acme', operation: 'list-keys' }],
    ]);
  });
});

describe('a rehearsal', () => {
  test('counts refusals by key, principal and operation, with code and rule', () => {
    const { counts, rows } = rehearsed(draftOf(denying('RSA-2048')), [
      aRecord(),
      aRecord({ time: '2026-11-21T10:00:00.000000Z' }),
      aRecord({ principal: 'batch' }),
      aRecord({ operation: 'decrypt' }),
      aRecord({ key: 'orders/2', algorithm: 'HPKE-12-KE' }),
      aRecord({
        operation: 're-encrypt',
        key: 'orders/2',
        algorithm: 'HPKE-12-KE',
        detail: '{"source":"orders/1","sourceAlgorithm":"RSA-OAEP-256"}',
      }),
      aRecord({ outcome: 'KEY_LIMIT' }),
      aRecord({ operation: 'rotate-key', outcome: 'intent' }),
      aRecord({ operation: 'policy-adopted', key: '-', algorithm: '-' }),
    ]);
    assert.deepEqual(counts, {
      records: 9,
      judged: 6,
      refused: 5,
      depends: 0,
      warned: 0,
      failedBefore: 1,
      notJudged: 2,
      otherTenants: 0,
    });
    const { explanation, ...first } = rows[0] ?? assert.fail();
    assert.match(explanation, /deny list/);
    assert.deepEqual(first, {
      tenant: 'acme',
      key: 'orders',
      principal: 'app',
      operation: 'encrypt',
      algorithm: 'RSA-OAEP-256',
      verdict: 'refused',
      code: 'POLICY_DENIED',
      rule: 'platform.algorithms.deny',
      count: 2,
      firstTime: '2026-11-20T10:00:00.000000Z',
      lastTime: '2026-11-21T10:00:00.000000Z',
    });
    assert.equal(rows.length, 4);
  });

  test('says of a stream that the client worked on that its key would stay in, and that a client may do without', () => {
    const detail = JSON.stringify({ stream: true, localStream: 'c2FsdA', bytesByClient: 7 });
    const records = [aRecord({ detail }), aRecord({ detail, operation: 'decrypt' }), aRecord()];
    const off = rehearsed(draftOf(platformPolicy()), records);
    assert.deepEqual([off.counts.refused, off.counts.depends], [0, 2]);
    assert.deepEqual(new Set(off.rows.map(({ rule }) => rule)), new Set(['streams.localKeys']));
    const streams = { localKeys: true };
    assert.equal(rehearsed(draftOf(platformPolicy({ streams })), records).counts.depends, 0);
    const noDataKeys = platformPolicy({ streams, operations: { 'generate-data-key': [] } });
    const { counts, rows } = rehearsed(draftOf(noDataKeys), records);
    assert.deepEqual([counts.refused, counts.depends, rows[0]?.operation], [0, 1, 'encrypt']);
  });

  test('says "depends" where the record alone does not say which key it was', () => {
    const { counts, rows } = rehearsed(draftOf(denying('RSA-2048')), [aRecord()], { catalogue: new Map() });
    assert.deepEqual([counts.refused, counts.depends, rows[0]?.verdict], [0, 1, 'depends']);
    const all = rehearsed(draftOf(denying('RSA-OAEP-256')), [aRecord()], { catalogue: new Map() });
    assert.deepEqual([all.counts.refused, all.counts.depends], [1, 0], 'whichever key it was, it is refused');
  });

  test('judges sunsets as of the moment that is asked for', () => {
    const sunset = { 'RSA-2048': { warnAfter: iso(NOW), refuseAfter: iso(NOW + 1000) } };
    const draft = draftOf(platformPolicy({ algorithms: { ...platformPolicy().algorithms, sunset } }));
    const at = (time: number) => rehearsed(draft, [aRecord(), aRecord({ operation: 'decrypt' })], { at: time }).counts;
    assert.deepEqual([at(NOW - 1).refused, at(NOW - 1).warned], [0, 0]);
    assert.deepEqual([at(NOW).refused, at(NOW).warned], [0, 2]);
    assert.deepEqual([at(NOW + 1000).refused, at(NOW + 1000).warned], [1, 1], 'old data stays readable');
  });

  test('of a platform policy refuses all of a tenant that it no longer has', () => {
    const { rows } = rehearsed(draftOf(platformPolicy({ tenants: ['globex'] })), [aRecord()]);
    assert.deepEqual([rows[0]?.rule, rows[0]?.code], ['platform.tenants', 'POLICY_DENIED']);
  });

  test("of a tenant's policy leaves other tenants alone", () => {
    const draft = draftOf(
      platformPolicy({ tenants: ['acme', 'globex'] }),
      [tenantPolicy({ algorithms: { deny: ['RSA-2048'] } })],
      'acme',
    );
    const { counts } = rehearsed(draft, [aRecord(), aRecord({ tenant: 'globex' })]);
    assert.deepEqual([counts.refused, counts.otherTenants], [1, 1]);
  });

  test('keeps no more rows than its bound, and counts what it left out', () => {
    const records = Array.from({ length: 10_050 }, (_, at) => aRecord({ principal: `p${at}` }));
    const { rows, leftOut, counts } = rehearsed(draftOf(denying('RSA-2048')), records);
    assert.deepEqual([rows.length, leftOut, counts.refused], [10_000, 50, 10_050]);
  });

  test('decides as the agent would, whatever the policy', () => {
    fc.assert(
      fc.property(anyQuestion, fc.constantFrom('AES-256', 'RSA-2048', 'EC-P256', 'PS256'), (question, denied) => {
        const { operation, algorithm, jose, custody } = question;
        fc.pre(algorithm !== undefined && jose !== undefined && custody !== undefined);
        const record = aRecord({ operation, algorithm: jose as string, key: 'k/1' });
        const catalogue = new Map([
          ['acme/k/1', { algorithm: algorithm as string, jose: jose as string, custody: custody as 'hsm' }],
        ]);
        const [asked = [], ...others] = questionsOf(record, catalogue);
        fc.pre(others.length === 0 && asked.length === 1);
        const platform = denying(denied);
        const own = decide(mergePolicies({ tenant: 'acme', platform }), asked[0] as PolicyQuestion, NOW, NOW);
        const { counts, rows } = rehearsed(draftOf(platform), [record], { catalogue });
        assert.equal(counts.refused === 0, own.allowed);
        if (!own.allowed) assert.deepEqual([rows[0]?.code, rows[0]?.rule], [own.code, own.rule]);
      }),
      { numRuns: 300 },
    );
  });
});

describe('the program', () => {
  const message = (record: TrailRecord, index: number) => ({
    ...record,
    index: BigInt(index),
    correlationId: 'c',
    eventId: `h/1/${index}`,
    canonical: Buffer.from('x'),
    mac: Buffer.alloc(32),
  });
  const trail = Array.from({ length: 2500 }, (_, at) =>
    aRecord({
      time: `${new Date(NOW + at * 1000).toISOString().slice(0, -1)}000Z`,
      principal: at < 2000 ? 'app' : 'batch',
    }),
  );
  const key = {
    keyId: 'orders',
    tenant: 'acme',
    purpose: 'PURPOSE_ENCRYPT',
    state: 'KEY_STATE_ACTIVE',
    labels: {},
    grants: [],
    revision: 1n,
    uses: 0n,
    versions: [
      {
        version: 1,
        algorithm: 'RSA-2048',
        joseAlgorithm: 'RSA-OAEP-256',
        state: 'VERSION_STATE_PRIMARY',
        custody: 'CUSTODY_HSM',
        origin: 'ORIGIN_GENERATED',
        uses: 0n,
      },
    ],
  };
  const answering = (agent: StubAgent, size = trail.length): void => {
    agent.answers['listKeys'] = () => ({ keys: [key], nextPageToken: '' });
    agent.answers['listRecords'] = ({ request }) => {
      const from = request.newest ? size - request.pageSize : Number(request.from);
      const records = trail
        .slice(from, Math.min(size, from + request.pageSize))
        .map((record, at) => message(record, from + at));
      return { records, size: BigInt(size) };
    };
  };

  test('replays the whole trail of the agent, and says by its exit code that something would be refused', async (t) => {
    await using agent = await new StubAgent().start();
    const folder = temporaryFolder(t);
    const [strict, same] = [join(folder, 'strict.json'), join(folder, 'same.json')];
    writeFileSync(strict, JSON.stringify(denying('RSA-2048')));
    writeFileSync(same, JSON.stringify(platformPolicy()));
    answering(agent);
    const at = ['--socket', agent.socketPath];
    const refused = await runCli(['policy', 'rehearse', strict, '--output', 'json', ...at]);
    assert.equal(refused.code, 4, refused.stderr);
    const report = JSON.parse(refused.stdout);
    assert.deepEqual([report.counts.records, report.counts.refused], [2500, 2500]);
    assert.deepEqual(
      report.refusals.map((row: { principal: string; count: number }) => [row.principal, row.count]),
      [
        ['app', 2000],
        ['batch', 500],
      ],
    );
    assert.ok(report.cannotKnow.length > 3);
    const text = await runCli(['policy', 'rehearse', strict, ...at]);
    assert.match(text.stdout, /would be refused +2500/);
    assert.match(text.stdout, /2000 +orders +app +encrypt +RSA-OAEP-256 +POLICY_DENIED +platform.algorithms.deny/);
    assert.match(text.stdout, /what a rehearsal cannot know/);
    const passed = await runCli(['policy', 'rehearse', same, ...at]);
    assert.equal(passed.code, 0, passed.stdout);
    assert.match(passed.stdout, /nothing that was done would be refused/);
  });

  test('goes straight to the beginning of a time window and no further than its end', async (t) => {
    await using agent = await new StubAgent().start();
    const file = join(temporaryFolder(t), 'draft.json');
    writeFileSync(file, JSON.stringify(denying('RSA-2048')));
    answering(agent);
    const window = ['--since', iso(NOW + 2_100_000), '--until', iso(NOW + 2_110_000)];
    const result = await runCli([
      'policy',
      'rehearse',
      file,
      ...window,
      '--output',
      'json',
      '--socket',
      agent.socketPath,
    ]);
    assert.equal(result.code, 4, result.stderr);
    const { counts, refusals } = JSON.parse(result.stdout);
    assert.deepEqual([counts.records, refusals[0].firstTime], [10, trail[2100]?.time]);
    const pages = agent.calls.filter(({ request }) => request.pageSize > 1);
    assert.deepEqual(
      pages
        .map(({ request }) => request.from)
        .filter((from) => from !== undefined)
        .at(-1),
      2100n,
    );
  });

  test('takes a file of JSON lines, with the keys from an inventory, and a tenant’s draft', async (t) => {
    const folder = temporaryFolder(t);
    const path = (name: string, content: string): string => {
      writeFileSync(join(folder, name), content);
      return join(folder, name);
    };
    const lines = path(
      'trail.jsonl',
      trail
        .slice(0, 3)
        .map((record) => `${JSON.stringify(record)}\n`)
        .join(''),
    );
    const platform = path('platform.json', JSON.stringify(platformPolicy()));
    const draft = path('draft.json', JSON.stringify(tenantPolicy({ algorithms: { deny: ['RSA-3072'] } })));
    const versions = [{ version: 1, algorithm: 'RSA-2048', joseAlgorithm: 'RSA-OAEP-256', custody: 'hsm' }];
    const keys = path('keys.json', JSON.stringify({ keys: [{ tenant: 'acme', keyId: 'orders', versions }] }));
    const args = ['policy', 'rehearse', draft, '--platform', platform, '--records', lines];
    const unknown = await runCli(args);
    assert.equal(unknown.code, 4, unknown.stderr);
    assert.match(unknown.stdout, /depends on the key +3/);
    const known = await runCli([...args, '--keys', keys]);
    assert.equal(known.code, 0, known.stdout + known.stderr);
  });

  test('takes what the registry exports of all hosts', async (t) => {
    const folder = temporaryFolder(t);
    const lines = trail.slice(0, 5).map((record, index) => {
      const bytes = encodeAuditRecord({ ...record, correlationId: 'c', eventId: `host-${index}/1/1` });
      return jsonLine({ origin: 'o', index, record: bytes, mac: Buffer.alloc(32), ingestedAt: NOW });
    });
    writeFileSync(join(folder, 'export'), lines.join(''));
    const io = { stdin: process.stdin } as unknown as Io;
    const rehearsal = new Rehearsal({ draft: draftOf(denying('RSA-2048')), at: NOW, catalogue: CATALOGUE });
    const window = { since: new Date(NOW + 1000), until: new Date(NOW + 4000) };
    for await (const { record } of trailOfFile(io, join(folder, 'export'), window)) rehearsal.add(record);
    assert.deepEqual([rehearsal.counts.records, rehearsal.counts.refused], [3, 3]);
  });

  test('names the line of a trail that is none', async (t) => {
    const folder = temporaryFolder(t);
    const line = JSON.stringify(aRecord());
    const io = { stdin: process.stdin } as unknown as Io;
    for (const [content, complaint] of [
      ['{"tenant":', /:1: this is not JSON/],
      [`${line}\n\n{}`, /:3: it has no "tenant"/],
      [line.replace('2026-11', 'soon'), /:1: its time/],
      [line.replace('uid', '\\"'), /:1: this is not JSON/],
      ['x'.repeat(100_000), /:1: the line is too long/],
    ] as const) {
      const path = join(folder, 'trail');
      writeFileSync(path, content);
      await assert.rejects(async () => {
        for await (const _ of trailOfFile(io, path, { since: undefined, until: undefined }));
      }, complaint);
    }
  });

  test('refuses what is no trail, a draft that widens, and a tenant’s draft without its platform', async (t) => {
    const folder = temporaryFolder(t);
    const path = (name: string, content: string): string => {
      writeFileSync(join(folder, name), content);
      return join(folder, name);
    };
    const platform = path('platform.json', JSON.stringify(denying('RSA-2048')));
    const tenant = path('tenant.json', JSON.stringify(tenantPolicy()));
    const wide = path(
      'wide.json',
      JSON.stringify(tenantPolicy({ lease: { maxStalenessSeconds: 999_999, whenStale: 'deny' } })),
    );
    const line = JSON.stringify(aRecord());
    const good = path('good.jsonl', line);
    for (const [args, code, complaint] of [
      [[platform, '--records', path('a', '{"tenant":')], 2, /a:1: this is not JSON/],
      [[platform, '--records', join(folder, 'none')], 1, /cannot read/],
      [[tenant, '--records', good], 2, /--platform/],
      [[tenant, '--records', good, '--platform', platform, '--tenant', 'globex'], 2, /is of tenant acme/],
      [[wide, '--records', good, '--platform', platform], 4, /no agent takes this policy/],
      [[platform, '--records', good, '--keys', good], 2, /mortise inventory/],
    ] as const) {
      const result = await runCli(['policy', 'rehearse', ...args]);
      assert.equal(result.code, code, `${args.join(' ')}: ${result.stderr}`);
      assert.match(result.stderr, complaint);
    }
  });

  test('judges by JOSE names where keys may not be read, and fails where the log may not', async (t) => {
    await using agent = await new StubAgent().start();
    const file = join(temporaryFolder(t), 'draft.json');
    writeFileSync(file, JSON.stringify(denying('RSA-2048')));
    answering(agent, 10);
    agent.answers['listKeys'] = () => {
      throw agentFailure('PERMISSION_DENIED');
    };
    const at = ['policy', 'rehearse', file, '--socket', agent.socketPath];
    const result = await runCli(at);
    assert.equal(result.code, 4, result.stderr);
    assert.match(result.stderr, /keys\.read/);
    assert.match(result.stdout, /depends on the key +10/);
    agent.answers['listRecords'] = () => {
      throw agentFailure('PERMISSION_DENIED');
    };
    assert.equal((await runCli(at)).code, 3);
  });
});
