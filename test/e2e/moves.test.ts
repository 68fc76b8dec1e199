// A whole agent with the CLI as its client: a key is brought along, data moves between keys and recipients, and content
// keys are kept for as long as policy lets them be.
import assert from 'node:assert/strict';
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { MortiseClient } from '../../clients/typescript/index.ts';
import { runCli } from '../clients/cli/run-cli.ts';
import { type RunningAgent, startAgent } from '../support/agent.ts';
import { allRecords, clientOf, refusedWith } from './load.ts';

const KEPT = { maxAgeSeconds: 300, maxUses: 1000, maxBytes: 1 << 30 };
const UNWRAPPED = { maxAgeSeconds: 300, maxUses: 100, maxKeys: 4 };
const message = Buffer.from('all that is gold does not glitter');

let agent: RunningAgent;
let acme: MortiseClient;
let folder: string;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'mortise-moves-'));
  agent = await startAgent({ platform: { caches: { tokenSeconds: 60, dataKeys: KEPT, unwrappedKeys: UNWRAPPED } } });
  acme = clientOf(agent, 'acme', { retry: false });
  await writeFile(at('token'), agent.issuer.issue({ tenant: 'acme' }), { mode: 0o600 });
  await writeFile(at('message'), message);
  for (const keyId of ['one', 'two']) await acme.keys.create({ keyId, purpose: 'encrypt', algorithm: 'AES-256' });
  for (const keyId of ['sign-1', 'sign-2']) await acme.keys.create({ keyId, purpose: 'sign', algorithm: 'EC-P256' });
});
after(async () => {
  acme?.close();
  await agent?.stop();
  await rm(folder, { recursive: true, force: true });
});

const at = (name: string): string => join(folder, name);
const cli = async (...args: string[]): Promise<string> => {
  const result = await runCli([...args, '--socket', agent.socket, '--token-file', at('token')]);
  assert.equal(result.code, 0, `${args.join(' ')}: ${result.stderr}`);
  return result.stdout;
};
const text = async (name: string): Promise<string> => (await readFile(at(name), 'utf8')).trim();

test('a JWK on disk becomes a key of the token by "key import", and a wrapped one too', async () => {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  await writeFile(at('own.jwk'), JSON.stringify(privateKey.export({ format: 'jwk' })), { mode: 0o600 });
  const ec = ['--purpose', 'sign', '--algorithm', 'EC-P256'];
  assert.match(
    await cli('key', 'import', 'brought', '--file', at('own.jwk'), ...ec, '--label', 'from=elsewhere'),
    /imported/,
  );
  const { jws } = await acme.sign('brought', { message });
  assert.ok((await acme.verify({ jws })).valid);

  await writeFile(at('raw.key'), randomBytes(32), { mode: 0o600 });
  const printed = JSON.parse(await cli('key', 'import-key'));
  assert.deepEqual([printed.use, printed.alg], ['enc', 'ECDH-ES+A256KW']);
  await cli('key', 'import', 'raw', '--file', at('raw.key'), '--purpose', 'encrypt', '--algorithm', 'AES-256');
  const { jwe } = await acme.encrypt('raw', message);
  assert.deepEqual((await acme.decrypt(jwe)).plaintext, message);
  await writeFile(at('next.key'), randomBytes(32), { mode: 0o600 });
  const next = ['--file', at('next.key'), '--algorithm', 'AES-256', '--expect-version', '1'];
  assert.match(await cli('key', 'import-version', 'raw', ...next), /imported/);
  assert.equal((await acme.encrypt('raw', message)).envelope.keyUsed?.version, 2);
  assert.deepEqual((await acme.decrypt(jwe)).plaintext, message);
  const refused = await runCli([
    'key',
    'import',
    'x',
    '--purpose',
    'mac',
    '--algorithm',
    'HMAC-SHA256',
    '--wrapped',
    at('own.jwk'),
    '--socket',
    agent.socket,
    '--token-file',
    at('token'),
  ]);
  assert.equal(refused.code, 2, 'a key that is not encrypted is refused');
});

test('recipients, re-encryption and re-signing through the CLI', async () => {
  await cli('encrypt-general', at('message'), '--key', 'one', '--out', at('general'));
  await cli('rewrap', at('general'), '--add-key', 'two', '--remove', 'acme/one/1', '--out', at('rewrapped'));
  await cli('decrypt', at('rewrapped'), '--out', at('opened'));
  assert.deepEqual(await readFile(at('opened')), message);
  await cli('re-encrypt', at('rewrapped'), '--to', 'one', '--out', at('moved'));
  const opened = await acme.decrypt(await text('moved'));
  assert.deepEqual([opened.plaintext, opened.envelope.keyUsed?.keyId], [message, 'one']);
  await cli('sign', at('message'), '--key', 'sign-1', '--out', at('signed'));
  await cli('re-sign', at('signed'), '--to', 'sign-2', '--out', at('re-signed'));
  const verified = await acme.verify({ jws: await text('re-signed') });
  assert.deepEqual([verified.valid, verified.envelope.keyUsed?.keyId], [true, 'sign-2']);
  await writeFile(at('forged'), `${(await text('signed')).slice(0, -4)}AAAA`);
  const forged = await runCli([
    're-sign',
    at('forged'),
    '--to',
    'sign-2',
    '--socket',
    agent.socket,
    '--token-file',
    at('token'),
  ]);
  assert.equal(forged.code, 4, forged.stderr);
});

test('data keys through the CLI: the key in a file for its owner alone', async () => {
  await cli('data-key', 'generate', '--key', 'one', '--data-key', at('dk'), '--out', at('dk.jwe'));
  assert.equal((await stat(at('dk'))).mode & 0o777, 0o600);
  await cli('data-key', 'decrypt', at('dk.jwe'), '--out', at('dk.again'));
  assert.deepEqual(await readFile(at('dk.again')), await readFile(at('dk')));
  const wrong = await runCli(['decrypt', at('dk.jwe'), '--socket', agent.socket, '--token-file', at('token')]);
  assert.equal(wrong.code, 2);
});

test('what moved is recorded with both keys', async () => {
  const records = await allRecords(acme);
  const details = records
    .filter((row) => ['re-encrypt', 'rewrap', 're-sign'].includes(row.operation) && row.outcome === 'ok')
    .map((row) => [row.operation, row.key, JSON.parse(row.detail).source]);
  assert.deepEqual(details, [
    ['rewrap', 'two/1', 'one/1'],
    ['re-encrypt', 'one/1', 'two/1'],
    ['re-sign', 'sign-2/1', 'sign-1/1'],
  ]);
  const imports = records.filter((row) => row.operation === 'import-key').map((row) => row.outcome);
  assert.deepEqual(imports, ['ok', 'ok', 'intent', 'ok', 'INVALID_REQUEST']);
});

test('content keys are kept while policy says so, each use is recorded, and revocation ends it at once', async () => {
  await acme.keys.create({ keyId: 'hot', purpose: 'encrypt', algorithm: 'AES-256' });
  const wraps = new Set<string>();
  const jwes: string[] = [];
  for (let count = 0; count < 20; count += 1) {
    const { jwe } = await acme.encrypt('hot', message);
    jwes.push(jwe);
    wraps.add(jwe.split('.')[1] as string);
  }
  assert.equal(wraps.size, 1);
  for (const jwe of jwes) assert.deepEqual((await acme.decrypt(jwe)).plaintext, message);
  const records = (await allRecords(acme)).filter((row) => row.key === 'hot/1' && row.outcome === 'ok');
  const cached = records.filter((row) => JSON.parse(row.detail).contentKey === 'cached');
  assert.deepEqual([records.filter((row) => row.operation !== 'create-key').length, cached.length], [40, 38]);

  const { version } = await agent.policy.publishTenant('acme', { caches: { tokenSeconds: 60, dataKeys: false } });
  await agent.logged(
    (line) => line.msg === 'policy came into force' && line['tenant'] === 'acme' && line['version'] === version,
  );
  const after = [await acme.encrypt('hot', message), await acme.encrypt('hot', message)].map(
    ({ jwe }) => jwe.split('.')[1],
  );
  assert.ok(after[0] !== after[1] && !wraps.has(after[0] as string), 'the tenant switched it off');

  await acme.keys.revoke('hot');
  for (const jwe of jwes.slice(0, 2)) await assert.rejects(acme.decrypt(jwe), refusedWith('KEY_STATE'));
  const out = await acme.reEncrypt(jwes[0] as string, { targetKey: 'two' });
  assert.deepEqual((await acme.decrypt(out.jwe)).plaintext, message);
});

test('private bytes are kept while policy says so, each use is recorded, and revocation ends it at once', async () => {
  await acme.keys.create({ keyId: 'pq-seal', purpose: 'sign', algorithm: 'ML-DSA-65' });
  const sign = async () => (await acme.sign('pq-seal', { message })).jws;
  const ways = async () =>
    (await allRecords(acme))
      .filter((row) => row.key === 'pq-seal/1' && row.operation === 'sign' && row.outcome === 'ok')
      .map((row) => JSON.parse(row.detail || '{}').privateKey ?? 'unwrapped');
  for (let count = 0; count < 3; count += 1) assert.ok((await acme.verify({ jws: await sign() })).valid);
  assert.deepEqual(await ways(), ['unwrapped', 'cached', 'cached']);

  const { version } = await agent.policy.publishTenant('acme', { caches: { tokenSeconds: 60, unwrappedKeys: false } });
  await agent.logged(
    (line) => line.msg === 'policy came into force' && line['tenant'] === 'acme' && line['version'] === version,
  );
  for (let count = 0; count < 2; count += 1) await sign();
  assert.deepEqual((await ways()).slice(3), ['unwrapped', 'unwrapped'], 'the tenant switched it off');
  await acme.keys.revoke('pq-seal');
  await assert.rejects(sign(), refusedWith('KEY_STATE'));
});
