// Files, pipes and limits of the CLI, against a server that answers as the test says.
import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { chmodSync, existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { agentFailure, ENVELOPE, StubAgent } from '../stub-agent.ts';
import { runCli, temporaryFolder } from './run-cli.ts';

/** Encrypts by reversing: enough to see what went in and comes out. */
const reversing = (agent: StubAgent): void => {
  agent.answers['encrypt'] = ({ request }) => ({
    jwe: Buffer.from(request.plaintext).reverse().toString('base64url'),
    envelope: { ...ENVELOPE, warnings: [] },
  });
  agent.answers['decrypt'] = ({ request }) => ({
    plaintext: Buffer.from(request.jwe, 'base64url').reverse(),
    envelope: { ...ENVELOPE, warnings: [] },
  });
};

test('files in, files out; the plaintext file is private', async (t) => {
  await using agent = await new StubAgent().start();
  reversing(agent);
  const folder = temporaryFolder(t);
  const [plain, sealed, opened] = ['plain.bin', 'sealed.jwe', 'opened.bin'].map((name) => join(folder, name));
  const data = Buffer.from([0, 255, 1, 10, 13, 128]);
  writeFileSync(plain as string, data);
  const at = ['--socket', agent.socketPath];
  const encrypted = await runCli(['encrypt', '--key', 'k', plain as string, '--out', sealed as string, ...at]);
  assert.equal(encrypted.code, 0, encrypted.stderr);
  assert.equal(encrypted.stdout, '');
  const decrypted = await runCli(['decrypt', sealed as string, '--out', opened as string, ...at]);
  assert.equal(decrypted.code, 0, decrypted.stderr);
  assert.deepEqual(readFileSync(opened as string), data);
  assert.equal(statSync(opened as string).mode & 0o777, 0o600);
  assert.deepEqual(readdirSync(folder).sort(), ['opened.bin', 'plain.bin', 'sealed.jwe']);
});

test('pipes: standard input and output carry bytes unchanged', async () => {
  await using agent = await new StubAgent().start();
  reversing(agent);
  const data = Buffer.from([0, 255, 1, 10, 13, 128]);
  const encrypted = await runCli(['encrypt', '--key', 'k', '--socket', agent.socketPath], { input: data });
  assert.match(encrypted.stdout, /^[\w-]+\n$/);
  const decrypted = await runCli(['decrypt', '--socket', agent.socketPath], { input: encrypted.bytes });
  assert.deepEqual(decrypted.bytes, data);
});

test('associated data comes from a file', async (t) => {
  await using agent = await new StubAgent().start();
  reversing(agent);
  const file = join(temporaryFolder(t), 'aad');
  writeFileSync(file, 'order 17');
  await runCli(['encrypt', '--key', 'k', '--aad-file', file, '--socket', agent.socketPath], { input: 'x' });
  assert.deepEqual(agent.calls[0]?.request.associatedData, Buffer.from('order 17'));
});

test('an existing file is not replaced without --force, and no call is made', async (t) => {
  await using agent = await new StubAgent().start();
  reversing(agent);
  const out = join(temporaryFolder(t), 'out');
  writeFileSync(out, 'precious');
  const args = ['decrypt', '--out', out, '--socket', agent.socketPath];
  const refused = await runCli(args, { input: 'YWJj' });
  assert.equal(refused.code, 2);
  assert.match(refused.stderr, /exists; --force replaces it/);
  assert.equal(readFileSync(out, 'utf8'), 'precious');
  assert.equal(agent.calls.length, 0);
  assert.equal((await runCli([...args, '--force'], { input: 'YWJj' })).code, 0);
  assert.equal(readFileSync(out, 'utf8'), 'cba');
});

test('a failed decryption leaves no file, not even a part', async (t) => {
  await using agent = await new StubAgent().start();
  agent.answers['decrypt'] = () => {
    throw agentFailure('INVALID_CIPHERTEXT');
  };
  const folder = temporaryFolder(t);
  const { code, stderr } = await runCli(['decrypt', '--out', join(folder, 'out'), '--socket', agent.socketPath], {
    input: 'x',
  });
  assert.equal(code, 1);
  assert.match(stderr, /INVALID_CIPHERTEXT/);
  assert.deepEqual(readdirSync(folder), []);
});

test('an output folder that cannot be written leaves nothing and exits with 1', async (t) => {
  await using agent = await new StubAgent().start();
  reversing(agent);
  const folder = temporaryFolder(t);
  chmodSync(folder, 0o500);
  const out = join(process.getuid?.() === 0 ? join(folder, 'no-such-folder') : folder, 'out');
  const { code, stderr } = await runCli(['decrypt', '--out', out, '--socket', agent.socketPath], { input: 'YQ' });
  assert.equal(code, 1);
  assert.match(stderr, /cannot write/);
  assert.equal(existsSync(out), false);
});

test('input over the limit is refused here, with advice', async (t) => {
  const file = join(temporaryFolder(t), 'big');
  writeFileSync(file, Buffer.alloc(2 * 1024 * 1024 + 1));
  const jwk = join(file, '../partner.jwk');
  writeFileSync(jwk, '{"kty":"EC"}');
  for (const run of [
    await runCli(['encrypt-to', '--jwk', jwk, file]),
    await runCli(['encrypt-to', '--jwk', jwk], { input: readFileSync(file) }),
  ]) {
    assert.equal(run.code, 2, run.stderr);
    assert.match(run.stderr, /larger than the limit of 2097152 bytes; split it, or encrypt it with a random key/);
  }
  for (const command of ['mac', 'verify-mac']) {
    const run = await runCli([command, '--key', 'k', ...(command === 'mac' ? [] : ['--mac-text', 'AAAA']), file]);
    assert.equal(run.code, 2, run.stderr);
    assert.match(run.stderr, /larger than the limit of 1048576 bytes; hash it and make the MAC of the digest/);
  }
});

test('a wrong signature and a wrong MAC exit with 4, right ones with 0', async (t) => {
  await using agent = await new StubAgent().start();
  const file = join(temporaryFolder(t), 'signature');
  writeFileSync(file, 'a..c');
  let valid = false;
  agent.answers['verify'] = () => ({ valid, payload: Buffer.alloc(0), envelope: ENVELOPE });
  agent.answers['verifyMac'] = () => ({ valid, envelope: ENVELOPE });
  const verify = () => runCli(['verify', file, '--socket', agent.socketPath, '--output', 'json']);
  const verifyMac = () =>
    runCli(['verify-mac', '--key', 'k', '--mac-text', 'AAAA', '--socket', agent.socketPath], { input: 'm' });
  const wrong = await verify();
  assert.equal(wrong.code, 4);
  assert.deepEqual(JSON.parse(wrong.stdout), { valid: false, envelope: ENVELOPE });
  const wrongMac = await verifyMac();
  assert.equal(wrongMac.code, 4);
  assert.match(wrongMac.stdout, /INVALID/);
  valid = true;
  assert.equal((await verify()).code, 0);
  const right = await verifyMac();
  assert.equal(right.code, 0);
  assert.match(right.stdout, /^valid \(orders version 2, A256GCMKW\)\n/);
  assert.match(right.stderr, /warning SOFT_LIMIT: rotate it/);
});

test('raw signatures: bytes in a file, base64url on a stream, hex where asked', async (t) => {
  await using agent = await new StubAgent().start();
  agent.answers['sign'] = () => ({ jws: '', signature: Buffer.from([251, 255, 0]), envelope: ENVELOPE });
  agent.answers['verify'] = ({ request }) => ({
    valid: request.signature.value.equals(Buffer.from([251, 255, 0])),
    payload: Buffer.alloc(0),
    envelope: ENVELOPE,
  });
  const folder = temporaryFolder(t);
  const file = join(folder, 'raw');
  const message = join(folder, 'message');
  writeFileSync(message, 'm');
  const at = ['--socket', agent.socketPath];
  const sign = ['sign', '--key', 'k', '--form', 'raw', ...at];
  await runCli([...sign, message, '--out', file]);
  assert.deepEqual(readFileSync(file), Buffer.from([251, 255, 0]));
  const stream = await runCli(sign, { input: 'm' });
  assert.equal(stream.stdout, '-_8A\n');
  assert.equal((await runCli([...sign, '--digest', 'abcd', '--encoding', 'hex'])).stdout, 'fbff00\n');
  assert.deepEqual(agent.calls.at(-1)?.request.input, { $case: 'digest', value: Buffer.from('abcd', 'hex') });
  assert.equal((await runCli([...sign, '--context', 'c0de'], { input: 'm' })).code, 0);
  assert.deepEqual(agent.calls.at(-1)?.request.context, Buffer.from('c0de', 'hex'));
  const verify = ['verify', '--raw', '--key', 'k', '--message', message, ...at];
  assert.equal((await runCli([...verify, file, '--context', 'c0de'])).code, 0);
  assert.deepEqual(agent.calls.at(-1)?.request.context, Buffer.from('c0de', 'hex'));
  assert.equal((await runCli([...verify, file])).code, 0);
  assert.equal((await runCli(verify, { input: stream.stdout })).code, 0);
  assert.equal((await runCli([...verify, '--encoding', 'hex'], { input: 'FBFF00\n' })).code, 0);
  const other = await runCli([...verify, '--encoding', 'hex'], { input: 'xyz' });
  assert.equal(other.code, 2);
});

test('a private JWK is refused before it goes anywhere', async (t) => {
  await using agent = await new StubAgent().start();
  const file = join(temporaryFolder(t), 'jwk');
  writeFileSync(file, JSON.stringify({ kty: 'EC', crv: 'P-256', x: 'a', y: 'b', d: 'secret-part' }));
  const { code, stderr } = await runCli(['encrypt-to', '--jwk', file, '--socket', agent.socketPath], { input: 'x' });
  assert.equal(code, 2);
  assert.match(stderr, /holds a private key/);
  assert.doesNotMatch(stderr, /secret-part/);
  assert.equal(agent.calls.length, 0);
});

test('a public key comes from a file as PEM or JWK and reaches the agent as it is; a private PEM does not', async (t) => {
  await using agent = await new StubAgent().start();
  const folder = temporaryFolder(t);
  const { publicKey, privateKey } = generateKeyPairSync('ed25519');
  const pem = publicKey.export({ type: 'spki', format: 'pem' }).toString();
  const jwk = publicKey.export({ format: 'jwk' });
  writeFileSync(join(folder, 'pem'), pem);
  writeFileSync(join(folder, 'jwk'), JSON.stringify(jwk));
  writeFileSync(join(folder, 'private'), privateKey.export({ type: 'pkcs8', format: 'pem' }));
  agent.answers['verifyWith'] = () => ({ valid: true, payload: Buffer.alloc(0), envelope: ENVELOPE });
  const verify = (name: string) =>
    runCli(['verify-with', '--jwk', join(folder, name), '--socket', agent.socketPath], { input: 'a.b.c' });
  for (const name of ['pem', 'jwk']) {
    const { code, stderr } = await verify(name);
    assert.equal(code, 0, stderr);
  }
  const sent = agent.calls.map(({ request }) => request.publicJwk);
  assert.deepEqual(sent, [pem, JSON.stringify(jwk)]);
  const { code, stderr } = await verify('private');
  assert.equal(code, 2);
  assert.match(stderr, /not a public key/);
  assert.equal(agent.calls.length, 2);
});
