// The commands that move data, make data keys and import keys: what they ask of the agent, and what they refuse before it.
import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { compactDecrypt } from 'jose';
import { agentFailure, ENVELOPE, StubAgent } from '../stub-agent.ts';
import { runCli, temporaryFolder } from './run-cli.ts';

const SOURCE = { sourceKeyUsed: { keyId: 'a', version: 1 }, sourceAlgorithmUsed: 'A256GCMKW' };

test('usage errors are told before the agent is asked', async (t) => {
  const folder = temporaryFolder(t);
  writeFileSync(join(folder, 'taken'), 'x');
  for (const args of [
    ['encrypt-general', 'taken'],
    ['data-key', 'generate', '--key', 'k'],
    ['data-key', 'generate', '--key', 'k', '--wrapped-only', '--data-key', 'new'],
    ['data-key', 'generate', '--key', 'k', '--data-key', '-'],
    ['data-key', 'generate', '--key', 'k', '--data-key', 'taken'],
    ['re-encrypt', 'taken', '--out', 'taken'],
    ['key', 'import', 'k', '--purpose', 'mac', '--algorithm', 'HMAC-SHA256'],
    ['key', 'import', 'k', '--purpose', 'mac', '--algorithm', 'HMAC-SHA256', '--file', 'taken', '--wrapped', 'taken'],
    ['key', 'import', 'k', '--purpose', 'mac', '--file', 'taken'],
  ]) {
    const { code, stderr } = await runCli([...args, '--socket', '/nonexistent'], { cwd: folder });
    assert.equal(code, 2, `${args.join(' ')}: ${stderr}`);
  }
});

test('re-encrypt tells "carry over" from "none"', async (t) => {
  await using agent = await new StubAgent().start();
  const folder = temporaryFolder(t);
  writeFileSync(join(folder, 'empty'), '');
  writeFileSync(join(folder, 'aad'), 'a');
  agent.answers['reEncrypt'] = () => ({ jwe: 'x.y.z', envelope: ENVELOPE, ...SOURCE });
  const at = ['--socket', agent.socketPath, '--aad-file', join(folder, 'aad')];
  const carried = await runCli(['re-encrypt', '--to', 'b', ...at], { input: 'a.b.c\n' });
  assert.deepEqual([carried.code, carried.stdout], [0, 'x.y.z\n'], carried.stderr);
  await runCli(['re-encrypt', '--key', 'a', '--new-aad-file', join(folder, 'empty'), ...at], { input: 'a.b.c' });
  const requests = agent.calls.map(({ request }) => [
    request.jwe,
    request.sourceKey,
    request.targetKey,
    request.newAssociatedData,
  ]);
  assert.deepEqual(requests, [
    ['a.b.c', '', 'b', undefined],
    ['a.b.c', 'a', '', Buffer.alloc(0)],
  ]);
});

test('a JWS that does not verify ends re-sign with 4 and leaves no file', async (t) => {
  await using agent = await new StubAgent().start();
  const folder = temporaryFolder(t);
  agent.answers['reSign'] = () => {
    throw agentFailure('SIGNATURE_INVALID');
  };
  const out = ['--out', join(folder, 'out'), '--socket', agent.socketPath];
  const { code, stderr } = await runCli(['re-sign', ...out], { input: 'a.b.c' });
  assert.equal(code, 4);
  assert.match(stderr, /SIGNATURE_INVALID/);
  assert.deepEqual(readdirSync(folder), []);
});

test('a data key goes to a file of its owner alone and never to the terminal', async (t) => {
  await using agent = await new StubAgent().start();
  const folder = temporaryFolder(t);
  agent.answers['generateDataKey'] = () => ({
    dataKey: Buffer.alloc(32, 7),
    wrappedDataKey: 'w.x.y',
    envelope: ENVELOPE,
  });
  const file = join(folder, 'dk');
  const args = [
    'data-key',
    'generate',
    '--key',
    'k',
    '--length',
    '32',
    '--data-key',
    file,
    '--socket',
    agent.socketPath,
  ];
  for (const more of [[], ['--output', 'json', '--force']]) {
    const { code, stdout, stderr } = await runCli([...args, ...more]);
    assert.equal(code, 0, stderr);
    assert.ok(stdout.includes('w.x.y'));
    assert.ok(!stdout.includes(Buffer.alloc(32, 7).toString('base64url')) && !stdout.includes('BwcHBwc'));
    assert.deepEqual(readFileSync(file), Buffer.alloc(32, 7));
    assert.equal(statSync(file).mode & 0o777, 0o600);
  }
});

test('a key on disk leaves the program only encrypted to the import key', async (t) => {
  await using agent = await new StubAgent().start();
  const folder = temporaryFolder(t);
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-521' });
  const publicJwk = { ...publicKey.export({ format: 'jwk' }), kid: 'import:1', alg: 'ECDH-ES+A256KW', use: 'enc' };
  agent.answers['getImportKey'] = () => ({ publicJwk: JSON.stringify(publicJwk), envelope: ENVELOPE });
  agent.answers['importKey'] = () => {
    throw agentFailure('KEY_EXISTS');
  };
  const jwk = JSON.stringify({ kty: 'oct', k: Buffer.alloc(32, 9).toString('base64url') });
  for (const [name, content, cty] of [
    ['jwk', Buffer.from(jwk), 'jwk+json'],
    ['raw', Buffer.alloc(32, 9), undefined],
  ] as const) {
    writeFileSync(join(folder, name), content);
    const what = ['--purpose', 'encrypt', '--algorithm', 'AES-256', '--file', join(folder, name)];
    const { code } = await runCli(['key', 'import', 'k', ...what, '--socket', agent.socketPath]);
    assert.equal(code, 1);
    const { request } = agent.calls.at(-1) as { request: { wrappedKey: string } };
    const { plaintext, protectedHeader } = await compactDecrypt(request.wrappedKey, privateKey);
    assert.deepEqual(Buffer.from(plaintext), content);
    assert.deepEqual([protectedHeader.cty, protectedHeader.kid], [cty, 'import:1']);
  }
});
