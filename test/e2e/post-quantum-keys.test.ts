// A whole agent over SoftHSM: data under RSA moves to ML-KEM and to composites without its caller seeing plaintext, and
// split and wrapped keys outlive a restart and a rotation of the tenant's KEK.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { MortiseClient } from '../../clients/typescript/index.ts';
import { ALGORITHMS } from '../../proto/documents/algorithms.ts';
import { type RunningAgent, startAgent } from '../support/agent.ts';
import { clientOf } from './load.ts';

const message = Buffer.from('the road goes ever on and on');
const allow = ALGORITHMS.filter(({ status }) => status !== 'forbidden').map(({ id }) => id);

let agent: RunningAgent;
let acme: MortiseClient;
before(async () => {
  agent = await startAgent({ platform: { algorithms: { allow } } });
  acme = clientOf(agent, 'acme');
});
after(async () => {
  acme?.close();
  await agent?.stop();
});

const opens = async (jwe: string, version: number): Promise<void> => {
  const { plaintext, envelope } = await acme.decrypt(jwe);
  assert.deepEqual([plaintext, envelope.keyUsed?.version], [message, version]);
};

const ciphertexts = new Map<number, string>();

test('one key id goes from RSA to ML-KEM, a hybrid and an RSA composite, and its data with it', async () => {
  await acme.keys.create({ keyId: 'archive', purpose: 'encrypt', algorithm: 'RSA-2048' });
  let { jwe } = await acme.encrypt('archive', message);
  ciphertexts.set(1, jwe);
  const path = [
    ['ML-KEM-768', 'HPKE-12-KE', 'wrapped'],
    ['ML-KEM-768-P256', 'HPKE-8-KE', 'split'],
    ['ML-KEM-1024-P384', 'HPKE-10-KE', 'split'],
    ['ML-KEM-768-RSA2048', 'urn:mortise:jwe:ML-KEM-768-RSA2048+A256KW', 'split'],
  ] as const;
  for (const [index, [algorithm, jose, custody]] of path.entries()) {
    const number = index + 2;
    const { key } = await acme.keys.rotate('archive', { algorithm });
    const version = key.versions.find((row) => row.version === number);
    assert.deepEqual([version?.algorithm, version?.joseAlgorithm, version?.custody], [algorithm, jose, custody]);
    const moved = await acme.reEncrypt(jwe);
    assert.equal(moved.envelope.algorithmUsed, jose);
    jwe = moved.jwe;
    ciphertexts.set(number, jwe);
    await opens(jwe, number);
  }
  for (const [version, text] of ciphertexts) await opens(text, version);
});

test('what was made opens after a restart and after the tenant KEK was rotated', async () => {
  await agent.end();
  await agent.start();
  for (const [version, text] of ciphertexts) await opens(text, version);
  const { rewrapped } = await acme.keys.rotateTenantKek();
  assert.equal(rewrapped, 4);
  for (const [version, text] of ciphertexts) await opens(text, version);
});

test('a ciphertext with one byte of either half changed is one error', async () => {
  for (const version of [3, 5]) {
    const [head = '', ...rest] = (ciphertexts.get(version) ?? '').split('.');
    const header = JSON.parse(Buffer.from(head, 'base64url').toString());
    for (const at of [5, 1088 + 40]) {
      const ek = Buffer.from(header.ek, 'base64url');
      ek[at] = (ek[at] ?? 0) ^ 1;
      const changed = JSON.stringify({ ...header, ek: ek.toString('base64url') });
      const jwe = [Buffer.from(changed).toString('base64url'), ...rest].join('.');
      await assert.rejects(acme.decrypt(jwe), { code: 'INVALID_CIPHERTEXT' });
    }
  }
});
