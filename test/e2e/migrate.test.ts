// A campaign against a whole agent: what an application stored under old keys is moved while the application changes
// nothing, also when the campaign is killed again and again, and its end is a statement that anybody can verify.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import {
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { compactVerify, importJWK } from 'jose';
import { connect, type MortiseClient } from '../../clients/typescript/index.ts';
import { policyFromTemplate } from '../../proto/documents/policy-templates.ts';
import { CLI, runCli } from '../clients/cli/run-cli.ts';
import { type RunningAgent, startAgent } from '../support/agent.ts';
import { cycloneDxFaults } from '../support/cyclonedx.ts';
import { clientOf } from './load.ts';

let agent: RunningAgent;
let acme: MortiseClient;
let folder: string;
let data: string;
let tokenFile: string;
let number = 0;
const PATIENCE_MS = 30_000;
before(async () => {
  const { algorithms } = policyFromTemplate({ scope: 'platform', template: 'pqc-hybrid', issuedAt: 0, tenants: [] });
  agent = await startAgent({
    tenants: ['acme', 'globex'],
    platform: { algorithms },
    tenantPolicies: {
      globex: { operations: { rewrap: ['RSA-4096'] }, rateLimits: { operationsPerSecond: 100, burst: 5 } },
    },
  });
  acme = clientOf(agent, 'acme');
  folder = await mkdtemp(join(tmpdir(), 'mortise-migrate-'));
  tokenFile = join(folder, 'token');
  writeFileSync(tokenFile, agent.issuer.issue({ tenant: 'acme' }), { mode: 0o600 });
  await acme.keys.create({ keyId: 'statements', purpose: 'sign', algorithm: 'ML-DSA-65' });
});
after(async () => {
  acme?.close();
  await agent?.stop();
  await rm(folder, { recursive: true, force: true });
});
beforeEach(() => {
  number += 1;
  data = join(folder, `data-${number}`);
  mkdirSync(data);
});

const journal = (): string => join(folder, `journal-${number}`);
const args = (...more: string[]): string[] => [
  ...['migrate', 'run', data, '--journal', journal(), '--socket', agent.socket, '--token-file', tokenFile],
  ...more,
];
const run = async (...more: string[]) => {
  const result = await runCli([...args(...more), '--output', 'json']);
  return {
    code: result.code,
    stderr: result.stderr,
    report: result.stdout === '' ? undefined : JSON.parse(result.stdout),
  };
};
const sha256 = (path: string): string => createHash('sha256').update(readFileSync(path)).digest('hex');
const secret = (at: number | string): Buffer => Buffer.from(`secret ${at}`);
const linesOf = (path: string): readonly Record<string, unknown>[] =>
  readFileSync(path, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line));

/** Files as an application leaves them: JWEs under the first version of an RSA key, which then becomes another. */
const stored = async (keyId: string, count: number, next = 'ML-KEM-768'): Promise<void> => {
  await acme.keys.create({ keyId, purpose: 'encrypt', algorithm: 'RSA-2048' });
  for (let at = 0; at < count; at += 1) {
    const { jwe } = await acme.encrypt(keyId, secret(at));
    const sub = join(data, `d${at % 3}`);
    mkdirSync(sub, { recursive: true });
    writeFileSync(join(sub, `${at}.jwe`), `${jwe}\n`, { mode: 0o640 });
  }
  await acme.keys.rotate(keyId, { algorithm: next, acceptLoss: true });
};
const fileOf = (at: number): string => join(data, `d${at % 3}`, `${at}.jwe`);
/** What the application does, before and after: read the file and decrypt. */
const read = async (path: string): Promise<Buffer> => (await acme.decrypt(readFileSync(path, 'utf8').trim())).plaintext;
const versionOf = (path: string): string => {
  const { kid } = JSON.parse(Buffer.from(readFileSync(path, 'utf8').split('.')[0] as string, 'base64url').toString());
  return kid.split('/').at(-1);
};

test('files under RSA-2048 go to ML-KEM-768 while the application changes nothing, and the statement proves it', async () => {
  await stored('orders', 12);
  writeFileSync(join(data, 'notes.txt'), 'no ciphertext');
  const before_ = Array.from({ length: 12 }, (_, at) => sha256(fileOf(at)));
  const planned = await runCli([
    'migrate',
    'plan',
    data,
    '--socket',
    agent.socket,
    '--token-file',
    tokenFile,
    '--output',
    'json',
  ]);
  assert.equal(planned.code, 0, planned.stderr);
  const { moves, left, operations } = JSON.parse(planned.stdout);
  assert.deepEqual(
    moves.map((row: Record<string, unknown>) => [row['form'], row['from'], row['to'], row['algorithm'], row['files']]),
    [['jwe', 'acme/orders/1', 'orders/2', 'ML-KEM-768', 12]],
  );
  assert.deepEqual([left, operations[0].allowed], [{ unrecognised: 1 }, true]);
  const statement = join(folder, 'statement.jws');
  const { code, report, stderr } = await run('--sign-key', 'statements', '--statement', statement);
  assert.equal(code, 0, stderr);
  assert.deepEqual([report.moved, report.failed, report.unrecognised, report.complete], [12, 0, 1, true]);
  for (let at = 0; at < 12; at += 1) {
    assert.equal(versionOf(fileOf(at)), '2');
    assert.deepEqual(await read(fileOf(at)), secret(at));
    assert.equal(statSync(fileOf(at)).mode & 0o777, 0o640, 'who may read it is as before');
    assert.ok(readFileSync(fileOf(at), 'utf8').endsWith('\n'));
  }
  assert.equal(readFileSync(join(data, 'notes.txt'), 'utf8'), 'no ciphertext');
  // Anybody with the public key can check the statement, and by it the list.
  const { publicKey } = await acme.keys.publicKey('statements');
  const { payload, protectedHeader } = await compactVerify(
    readFileSync(statement, 'utf8').trim(),
    await importJWK(JSON.parse(publicKey)),
  );
  assert.equal(protectedHeader.alg, 'ML-DSA-65');
  const said = JSON.parse(Buffer.from(payload).toString());
  assert.deepEqual([said.tenant, said.moved, said.left], ['acme', 12, { unrecognised: 1 }]);
  const list = `${statement}.entries.jsonl`;
  assert.equal(said.entries.sha256, sha256(list));
  const entries = linesOf(list);
  assert.equal(entries.length, said.entries.count);
  for (let at = 0; at < 12; at += 1) {
    const entry = entries.find(({ path }) => path === fileOf(at));
    assert.deepEqual(
      [entry?.['outcome'], entry?.['oldSha256'], entry?.['newSha256']],
      ['moved', before_[at], sha256(fileOf(at))],
    );
    assert.deepEqual([entry?.['from'], entry?.['to']], [['acme/orders/1'], ['acme/orders/2']]);
  }
  const again = await run('--sign-key', 'statements', '--statement', statement);
  assert.deepEqual([again.code, again.report.moved, again.report.current], [0, 0, 12], 'nothing is moved twice');
  const twice = JSON.parse(
    Buffer.from(
      (await compactVerify(readFileSync(statement, 'utf8').trim(), await importJWK(JSON.parse(publicKey)))).payload,
    ).toString(),
  );
  assert.deepEqual([twice.moved, twice.left], [12, { unrecognised: 1 }]);
  const status = await runCli(['migrate', 'status', '--journal', journal()]);
  assert.match(status.stdout, /state +complete/);
  assert.match(status.stdout, /moved +12/);
});

const header = (jws: string) => JSON.parse(Buffer.from(jws.split('.')[0] as string, 'base64url').toString());
const whole = async (pieces: AsyncIterable<Buffer>): Promise<Buffer> => {
  const all: Buffer[] = [];
  for await (const piece of pieces) all.push(piece);
  return Buffer.concat(all);
};
async function* piecesOf(bytes: Buffer): AsyncGenerator<Buffer> {
  yield bytes;
}
const at = (name: string): string => join(data, name);
const container = (key: string, bytes: Buffer): Promise<Buffer> => whole(acme.streams.encrypt(key, piecesOf(bytes)));
const openContainer = (path: string): Promise<Buffer> => whole(acme.streams.decrypt(piecesOf(readFileSync(path))));
const recipientsOf = (path: string): readonly string[] => {
  const bytes = readFileSync(path);
  const text = bytes[0] === 0x7b ? bytes : bytes.subarray(8, 8 + bytes.readUInt32BE(4));
  return JSON.parse(text.toString()).recipients.map((row: { header: { kid: string } }) => row.header.kid);
};

test('every form is moved by the operation that suits it, and what cannot be moved says why', async () => {
  for (const keyId of ['f-rsa', 'f-other'])
    await acme.keys.create({ keyId, purpose: 'encrypt', algorithm: 'RSA-2048' });
  await acme.keys.create({ keyId: 'f-sign', purpose: 'sign', algorithm: 'EC-P256' });
  const associatedData = Buffer.from('bound');
  const big = Buffer.alloc(100_000, 7);
  writeFileSync(at('bound.jwe'), (await acme.encrypt('f-rsa', secret(1), { associatedData })).jwe);
  writeFileSync(at('bound.jwe.aad'), associatedData);
  writeFileSync(at('other-bound.jwe'), (await acme.encrypt('f-rsa', secret(1), { associatedData })).jwe);
  writeFileSync(at('several.json'), (await acme.encryptGeneral([{ key: 'f-rsa' }, { key: 'f-other' }], secret(2))).jwe);
  writeFileSync(at('one.json'), (await acme.encryptGeneral([{ key: 'f-rsa' }], secret(3))).jwe);
  writeFileSync(at('big.mce'), await container('f-rsa', big));
  writeFileSync(at('signed.jws'), (await acme.sign('f-sign', { message: secret(4) })).jws);
  writeFileSync(at('invoice.xml'), '<invoice/>');
  const detached = { form: 'jws-detached' } as const;
  writeFileSync(
    at('invoice.xml.jws'),
    (await acme.sign('f-sign', { message: Buffer.from('<invoice/>') }, detached)).jws,
  );
  writeFileSync(at('lost.xml.jws'), (await acme.sign('f-sign', { message: Buffer.from('<lost/>') }, detached)).jws);
  const forged = (await acme.sign('f-sign', { message: secret(5) })).jws.split('.');
  writeFileSync(at('forged.jws'), [forged[0], Buffer.from('another').toString('base64url'), forged[2]].join('.'));
  const foreign = Buffer.from('{"alg":"RSA-OAEP-256","enc":"A256GCM","kid":"globex/k/1"}').toString('base64url');
  writeFileSync(at('foreign.jwe'), `${foreign}.AA.AA.AA.AA`);
  writeFileSync(at('linked.jwe'), (await acme.encrypt('f-rsa', secret(6))).jwe);
  linkSync(at('linked.jwe'), join(folder, `outside-${number}`));
  symlinkSync('signed.jws', at('symbolic.jws'));
  const rows = [1, 2, 3].map(async (row) => (await acme.encrypt('f-rsa', secret(`row ${row}`))).jwe);
  writeFileSync(at('table.txt'), `${(await Promise.all(rows)).join('\n')}\n`);
  await acme.keys.rotate('f-rsa', { algorithm: 'RSA-3072' });
  await acme.keys.rotate('f-sign', { algorithm: 'ML-DSA-44', acceptLoss: true });
  const { code, report, stderr } = await run('--aad-suffix', '.aad');
  assert.equal(code, 1, stderr);
  assert.deepEqual([report.moved, report.failed, report.complete], [7, 5, true]);
  const { plaintext } = await acme.decrypt(readFileSync(at('bound.jwe'), 'utf8'), { associatedData });
  assert.deepEqual(plaintext, secret(1));
  assert.deepEqual(
    recipientsOf(at('several.json')).toSorted(),
    ['acme/f-other/1', 'acme/f-rsa/2'],
    'the other one stays',
  );
  assert.deepEqual(recipientsOf(at('one.json')), ['acme/f-rsa/2']);
  for (const [name, content] of [
    ['several.json', 2],
    ['one.json', 3],
  ] as const)
    assert.deepEqual(await read(at(name)), secret(content));
  assert.deepEqual(recipientsOf(at('big.mce')), ['acme/f-rsa/2']);
  assert.deepEqual(await openContainer(at('big.mce')), big);
  const table = readFileSync(at('table.txt'), 'utf8').split('\n').slice(0, -1);
  for (const [row, jwe] of table.entries()) {
    assert.equal(header(jwe).kid, 'acme/f-rsa/2');
    assert.deepEqual((await acme.decrypt(jwe)).plaintext, secret(`row ${row + 1}`));
  }
  assert.equal(table.length, 3);
  assert.equal(header(readFileSync(at('signed.jws'), 'utf8')).alg, 'ML-DSA-44');
  assert.ok((await acme.verify({ jws: readFileSync(at('signed.jws'), 'utf8') })).valid);
  const invoice = { jws: readFileSync(at('invoice.xml.jws'), 'utf8'), message: Buffer.from('<invoice/>') };
  assert.ok((await acme.verify(invoice)).valid);
  assert.equal(header(invoice.jws).kid, 'acme/f-sign/2');
  const status = JSON.parse((await runCli(['migrate', 'status', '--journal', journal(), '--output', 'json'])).stdout);
  assert.deepEqual(
    status.problems
      .map((row: { path: string; reason: string; code?: string }) => [
        row.path.slice(data.length + 1),
        row.reason,
        row.code,
      ])
      .toSorted(),
    [
      ['foreign.jwe', 'foreign', undefined],
      ['forged.jws', 'failed', 'SIGNATURE_INVALID'],
      ['linked.jwe', 'not-replaceable', undefined],
      ['lost.xml.jws', 'no-message', undefined],
      ['other-bound.jwe', 'failed', 'INVALID_CIPHERTEXT'],
    ],
  );
  assert.deepEqual(
    readdirSync(data).filter((name) => name.startsWith('.')),
    [],
    'no litter',
  );
});

test('--to moves to another key, --method re-encrypt gives a container a new input key, --keep-old keeps the old', async () => {
  await acme.keys.create({ keyId: 't-from', purpose: 'encrypt', algorithm: 'RSA-2048' });
  await acme.keys.create({ keyId: 't-to', purpose: 'encrypt', algorithm: 'ML-KEM-1024' });
  const big = Buffer.alloc(50_000, 9);
  writeFileSync(at('big.mce'), await container('t-from', big));
  writeFileSync(at('small.jwe'), (await acme.encrypt('t-from', secret(1))).jwe);
  const old = readFileSync(at('big.mce'));
  const { code, stderr } = await run('--to', 't-to', '--method', 're-encrypt', '--keep-old', '.old');
  assert.equal(code, 0, stderr);
  assert.deepEqual(recipientsOf(at('big.mce')), ['acme/t-to/1']);
  assert.ok(!readFileSync(at('big.mce')).subarray(-1000).equals(old.subarray(-1000)), 'every chunk is new');
  assert.deepEqual(await openContainer(at('big.mce')), big);
  assert.deepEqual(await read(at('small.jwe')), secret(1));
  assert.deepEqual(readFileSync(at('big.mce.old')), old);
  const other = await run('--to', 't-from', '--method', 're-encrypt', '--keep-old', '.old');
  assert.equal(other.code, 2, 'a journal is of one campaign');
  assert.match(other.stderr, /other options: to/);
  const again = await run('--to', 't-to', '--method', 're-encrypt', '--keep-old', '.old');
  assert.deepEqual([again.code, again.report.moved, again.report.current], [0, 0, 2], 'what was kept is left alone');
});

test('where policy forbids Rewrap, and the file has no other reader, it is re-encrypted', async () => {
  const globex = clientOf(agent, 'globex');
  try {
    await globex.keys.create({ keyId: 'g', purpose: 'encrypt', algorithm: 'RSA-2048' });
    writeFileSync(at('one.json'), (await globex.encryptGeneral([{ key: 'g' }], secret(1))).jwe);
    await globex.keys.rotate('g', {});
    const token = join(folder, 'globex');
    writeFileSync(token, agent.issuer.issue({ tenant: 'globex' }), { mode: 0o600 });
    const result = await runCli([
      'migrate',
      'run',
      data,
      '--journal',
      journal(),
      '--socket',
      agent.socket,
      '--token-file',
      token,
    ]);
    assert.equal(result.code, 0, result.stderr + result.stdout);
    assert.equal(linesOf(journal()).find(({ t }) => t === 'replacing')?.['method'], 're-encrypt');
    assert.deepEqual((await globex.decrypt(readFileSync(at('one.json'), 'utf8'))).plaintext, secret(1));
  } finally {
    globex.close();
  }
});

/** Starts a run and resolves when its journal has grown by `lines`, or when it has ended. */
const runUntil = async (
  lines: number,
  ...more: string[]
): Promise<{ child: ChildProcess; closed: Promise<unknown[]> }> => {
  const child = spawn(process.execPath, [CLI, ...args(...more)], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { PATH: process.env['PATH'], HOME: '/nonexistent' },
    signal: AbortSignal.timeout(PATIENCE_MS), // ends the child, and the wait for it with an error
  });
  const closed = once(child, 'close');
  child.stdout?.resume();
  child.stderr?.resume();
  const size = (): number => (existsSync(journal()) ? readFileSync(journal(), 'utf8').split('\n').length - 1 : 0);
  const goal = size() + lines;
  const end = Date.now() + PATIENCE_MS;
  while (child.exitCode === null && child.signalCode === null && size() < goal) {
    assert.ok(Date.now() < end, `the journal did not grow to ${goal} lines`);
    await sleep(2);
  }
  return { child, closed };
};

test('killed at any moment, again and again, it finishes: nothing is lost and nothing is moved twice', async () => {
  const count = 20;
  await stored('killed', count);
  let kills = 0;
  for (let lines = 3; kills < 2; lines += 6) {
    const { child, closed } = await runUntil(lines, '--concurrency', '4', '--no-verify');
    const isKilled = child.kill('SIGKILL');
    const [code, signal] = await closed;
    if (signal === 'SIGKILL' && isKilled) kills += 1;
    else assert.fail(`the run ended with ${code} before it was killed`);
    for (let file = 0; file < count; file += 1)
      assert.deepEqual(await read(fileOf(file)), secret(file), 'readable at every moment');
  }
  const statement = join(folder, 'killed.jws');
  const { code, report, stderr } = await run(
    '--concurrency',
    '4',
    '--no-verify',
    '--sign-key',
    'statements',
    '--statement',
    statement,
  );
  assert.equal(code, 0, stderr);
  assert.ok(report.moved < count, 'the killed runs had moved some');
  const moved = linesOf(`${statement}.entries.jsonl`).filter(({ outcome }) => outcome === 'moved');
  assert.deepEqual(
    moved.map(({ path }) => path).toSorted(),
    Array.from({ length: count }, (_, file) => fileOf(file)).toSorted(),
  );
  for (let file = 0; file < count; file += 1) {
    assert.equal(versionOf(fileOf(file)), '2');
    assert.deepEqual(await read(fileOf(file)), secret(file));
    assert.equal(moved.find(({ path }) => path === fileOf(file))?.['newSha256'], sha256(fileOf(file)));
  }
  const litter = readdirSync(data, { recursive: true, encoding: 'utf8' }).filter((name) =>
    name.includes('.mortise-migrate.'),
  );
  assert.deepEqual(litter, []);
});

test('Ctrl-C finishes what is under way, says so, and the same command goes on', async () => {
  const count = 20;
  await stored('stopped', count);
  const { child, closed } = await runUntil(6, '--rate', '20');
  child.kill('SIGINT');
  const [code] = await closed;
  assert.equal(code, 5);
  const lines = linesOf(journal());
  assert.deepEqual([lines.at(-1)?.['t'], lines.at(-1)?.['complete']], ['end', false]);
  assert.equal(lines.filter(({ t }) => t === 'replacing').length, lines.filter(({ t }) => t === 'moved').length);
  assert.ok(!existsSync(`${journal()}.lock`));
  const { code: end, report, stderr } = await run();
  assert.equal(end, 0, stderr);
  assert.equal(report.moved + lines.filter(({ t }) => t === 'moved').length, count);
  for (let file = 0; file < count; file += 1) assert.deepEqual(await read(fileOf(file)), secret(file));
});

test('one campaign is run by one process', async () => {
  await stored('locked', 10);
  const { child, closed } = await runUntil(4, '--rate', '2');
  const second = await run('--rate', '2');
  assert.equal(second.code, 1);
  assert.match(second.stderr, /runs this campaign already/);
  child.kill('SIGKILL');
  await closed;
  assert.equal((await run('--rate', '1000')).code, 0, 'the lock of a killed run does not hold');
});

for (const composite of ['ML-KEM-768-P256', 'ML-KEM-768-RSA2048']) {
  test(`from RSA-2048 to the composite ${composite}`, async () => {
    const keyId = composite.toLowerCase();
    await acme.keys.create({ keyId, purpose: 'encrypt', algorithm: 'RSA-2048' });
    writeFileSync(at('big.mce'), await container(keyId, secret('of a container')));
    await stored(keyId, 3, composite);
    const { code, report, stderr } = await run();
    assert.equal(code, 0, stderr);
    assert.equal(report.moved, 4);
    assert.deepEqual(recipientsOf(at('big.mce')), [`acme/${keyId}/2`]);
    for (let file = 0; file < 3; file += 1) {
      assert.equal(versionOf(fileOf(file)), '2');
      assert.deepEqual(await read(fileOf(file)), secret(file));
    }
    assert.deepEqual(await openContainer(at('big.mce')), secret('of a container'));
  });
}

test('an agent that limits the rate is waited for', async () => {
  const globex = connect({
    socketPath: agent.socket,
    token: () => agent.issuer.issue({ tenant: 'globex' }),
    retry: { maxAttempts: 100 }, // the limit is met while the files are made, too
  });
  try {
    await globex.keys.create({ keyId: 'slow', purpose: 'encrypt', algorithm: 'AES-256' });
    for (let file = 0; file < 20; file += 1)
      writeFileSync(at(`${file}`), (await globex.encrypt('slow', secret(file))).jwe);
    await globex.keys.rotate('slow', { expectedVersion: 1 }); // which is safe to repeat
    const token = join(folder, 'globex');
    writeFileSync(token, agent.issuer.issue({ tenant: 'globex' }), { mode: 0o600 });
    const result = await runCli([
      'migrate',
      'run',
      data,
      '--journal',
      journal(),
      '--concurrency',
      '16',
      '--socket',
      agent.socket,
      '--token-file',
      token,
    ]);
    assert.equal(result.code, 0, result.stderr + result.stdout);
    assert.match(result.stdout, /moved +20/);
    for (let file = 0; file < 20; file += 1) {
      assert.deepEqual((await globex.decrypt(readFileSync(at(`${file}`), 'utf8'))).plaintext, secret(file));
    }
  } finally {
    globex.close();
  }
});

test('the inventory of a whole agent has risk, sunset and last use, and a rehearsal of its trail finds what a draft ends', async () => {
  const socket = ['--socket', agent.socket, '--token-file', tokenFile];
  await acme.keys.create({ keyId: 'inv', purpose: 'encrypt', algorithm: 'RSA-2048' });
  const { jwe } = await acme.encrypt('inv', secret(1));
  await acme.keys.rotate('inv', { algorithm: 'ML-KEM-768', acceptLoss: true });
  await acme.decrypt(jwe);
  const listed = await runCli(['inventory', '--prefix', 'inv', '--output', 'json', ...socket]);
  assert.equal(listed.code, 0, listed.stderr);
  const [{ versions }] = JSON.parse(listed.stdout).keys;
  const [old, next] = versions;
  assert.deepEqual(
    [old.algorithm, old.quantumRisk, old.uses, old.sunsetTime],
    ['RSA-2048', 'harvest-now', 1, '2031-01-01T00:00:00.000Z'],
  );
  assert.ok(Date.parse(old.lastProcessTime) >= Date.parse(old.lastApplyTime));
  assert.deepEqual([next.quantumRisk, next.uses, next.lastUseTime, next.sunsetTime], ['none', 0, undefined, undefined]);
  const bom = await runCli(['inventory', '--cbom', ...socket]);
  assert.deepEqual(cycloneDxFaults(JSON.parse(bom.stdout)), []);

  const draft = join(folder, 'draft.json');
  const platform = policyFromTemplate({
    scope: 'platform',
    template: 'default',
    issuedAt: Date.now(),
    tenants: ['acme', 'globex'],
  });
  writeFileSync(draft, JSON.stringify({ ...platform, algorithms: { ...platform.algorithms, deny: ['RSA-2048'] } }));
  const rehearsed = await runCli(['policy', 'rehearse', draft, '--output', 'json', ...socket]);
  assert.equal(rehearsed.code, 4, rehearsed.stderr);
  const { refusals, counts } = JSON.parse(rehearsed.stdout);
  const ofKey = refusals
    .filter((row: { key: string }) => row.key === 'inv')
    .map((row: Record<string, unknown>) => [row['operation'], row['verdict'], row['code'], row['count']]);
  assert.deepEqual(ofKey.toSorted(), [
    ['create-key', 'refused', 'POLICY_DENIED', 1],
    ['decrypt', 'refused', 'POLICY_DENIED', 1],
    ['encrypt', 'refused', 'POLICY_DENIED', 1],
  ]);
  assert.equal(counts.depends, 0);
});
