// A whole agent with a token of PKCS #11 3.2 inside a Debian root, under a policy that wants private keys in the token:
// post-quantum keys and composites through its socket, checked by jose and hpke, over restarts and kills.
import assert from 'node:assert/strict';
import { createCipheriv, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { AEAD_AES_256_GCM, CipherSuite, KDF_SHAKE256, KEM_ML_KEM_768 } from 'hpke';
import { compactVerify, importJWK } from 'jose';
import type { MortiseClient } from '../../../clients/typescript/index.ts';
import { ALGORITHMS } from '../../../proto/documents/algorithms.ts';
import { clientOf, refusedWith } from '../../e2e/load.ts';
import { makeAgentPolicy, makeIssuer, type RunningAgent, startAgent } from '../../support/agent.ts';
import type { SoftHsm } from '../../support/softhsm.ts';

const { MODULE_LIBRARY = '', MODULE_LABEL = '', MODULE_PIN_FILE = '', NSS_LIB_PARAMS } = process.env;
const message = Buffer.from('All that is gold does not glitter');

const allow = ALGORITHMS.filter(({ fips }) => fips !== null).map(({ id }) => id);
let agent: RunningAgent;
let acme: MortiseClient;
let globex: MortiseClient;
before(async () => {
  const issuer = makeIssuer();
  const platform = { algorithms: { allow }, fipsOnly: { boundary: 'private-keys' as const } };
  const policy = await makeAgentPolicy(issuer, { platform });
  const token = {
    library: MODULE_LIBRARY,
    label: MODULE_LABEL,
    pinFile: MODULE_PIN_FILE,
    pin: readFileSync(MODULE_PIN_FILE, 'utf8').trim(),
    env: NSS_LIB_PARAMS === undefined ? {} : { NSS_LIB_PARAMS },
  };
  agent = await startAgent({ shared: { token: token as unknown as SoftHsm, issuer, policy } });
  acme = clientOf(agent, 'acme');
  globex = clientOf(agent, 'globex');
});
after(async () => {
  acme?.close();
  globex?.close();
  await agent?.stop();
  await agent?.policy.remove();
});

const custodyOf = async (keyId: string): Promise<string | undefined> =>
  (await acme.keys.get(keyId)).versions.at(-1)?.custody;
const publicJwkOf = async (keyId: string): Promise<Record<string, string>> =>
  JSON.parse((await acme.keys.publicKey(keyId, { format: 'jwk' })).publicKey);

for (const algorithm of ['ML-DSA-44', 'ML-DSA-65', 'ML-DSA-87']) {
  test(`${algorithm} signs in the token, and jose verifies`, async () => {
    const keyId = algorithm.toLowerCase();
    await acme.keys.create({ keyId, purpose: 'sign', algorithm });
    assert.equal(await custodyOf(keyId), 'hsm');
    const { jws, envelope } = await acme.sign(keyId, { message });
    assert.equal(envelope.algorithmUsed, algorithm);
    const key = await importJWK((await publicJwkOf(keyId)) as never, algorithm);
    assert.deepEqual(Buffer.from((await compactVerify(jws, key)).payload), message);
    assert.equal((await acme.verify({ jws })).valid, true);
    const large = randomBytes(600_000);
    const signed = await acme.sign(keyId, { message: large }, { form: 'raw' });
    assert.equal((await acme.verify({ raw: signed.signature, message: large }, { key: keyId })).valid, true);
  });
}

for (const algorithm of ['ML-DSA-44-ES256', 'ML-DSA-65-ES256', 'ML-DSA-87-ES384', 'ML-DSA-65-RSA3072-PSS']) {
  test(`${algorithm} signs with both halves in the token`, async () => {
    const keyId = algorithm.toLowerCase();
    await acme.keys.create({ keyId, purpose: 'sign', algorithm });
    assert.equal(await custodyOf(keyId), 'hsm');
    const { jws } = await acme.sign(keyId, { message });
    assert.equal((await acme.verify({ jws })).valid, true);
    const [header, payload, signature = ''] = jws.split('.');
    for (const at of [10, -10]) {
      const changed = Buffer.from(signature, 'base64url');
      const index = at < 0 ? changed.length + at : at;
      changed[index] = (changed[index] ?? 0) ^ 1;
      const wrong = `${header}.${payload}.${changed.toString('base64url')}`;
      assert.equal((await acme.verify({ jws: wrong })).valid, false);
    }
  });
}

const ciphertexts: string[] = [];
const opensAll = async (): Promise<void> => {
  for (const jwe of ciphertexts) assert.deepEqual((await acme.decrypt(jwe)).plaintext, message);
};

test('data moves from RSA to ML-KEM and to composites under one key id, all of it in the token', async () => {
  await acme.keys.create({ keyId: 'archive', purpose: 'encrypt', algorithm: 'RSA-2048' });
  let { jwe } = await acme.encrypt('archive', message);
  ciphertexts.push(jwe);
  const path = ['ML-KEM-768', 'ML-KEM-1024', 'ML-KEM-768-P256', 'ML-KEM-1024-P384', 'ML-KEM-768-RSA2048'];
  for (const algorithm of path) {
    await acme.keys.rotate('archive', { algorithm });
    assert.equal(await custodyOf('archive'), 'hsm', algorithm);
    ({ jwe } = await acme.reEncrypt(jwe));
    ciphertexts.push(jwe);
  }
  await opensAll();
});

test('another HPKE library encrypts to the public key, and the token opens it', async () => {
  await acme.keys.create({ keyId: 'inbox', purpose: 'encrypt', algorithm: 'ML-KEM-768' });
  const { pub = '', alg } = await publicJwkOf('inbox');
  const suite = new CipherSuite(KEM_ML_KEM_768, KDF_SHAKE256, AEAD_AES_256_GCM);
  const recipient = await suite.DeserializePublicKey(Buffer.from(pub, 'base64url'));
  const [cek, iv] = [randomBytes(32), randomBytes(12)];
  const info = Buffer.from('JOSE-HPKE rcpt\xffA256GCM\xff', 'latin1');
  const { encapsulatedSecret, ciphertext } = await suite.Seal(recipient, cek, { info });
  const url = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64url');
  const header = url(Buffer.from(JSON.stringify({ alg, enc: 'A256GCM', ek: url(encapsulatedSecret) })));
  const cipher = createCipheriv('aes-256-gcm', cek, iv).setAAD(Buffer.from(header));
  const content = Buffer.concat([cipher.update(message), cipher.final()]);
  const jwe = [header, url(ciphertext), url(iv), url(content), url(cipher.getAuthTag())].join('.');
  assert.deepEqual((await acme.decrypt(jwe, { key: 'inbox' })).plaintext, message);
});

test('what is not in the token is refused by the boundary', async () => {
  const slhDsa = { keyId: 'slh', purpose: 'sign', algorithm: 'SLH-DSA-SHA2-128f' } as const;
  await assert.rejects(acme.keys.create(slhDsa), refusedWith('FIPS_ONLY'));
});

test('a ciphertext with one byte of either half changed is one error', async () => {
  for (const jwe of ciphertexts.slice(1)) {
    const [head = '', ...rest] = jwe.split('.');
    const header = JSON.parse(Buffer.from(head, 'base64url').toString());
    const ek = Buffer.from(header.ek, 'base64url');
    for (const at of [5, ek.length - 2]) {
      const changed = Buffer.from(ek);
      changed[at] = (changed[at] ?? 0) ^ 1;
      const other = Buffer.from(JSON.stringify({ ...header, ek: changed.toString('base64url') }));
      await assert.rejects(
        acme.decrypt([other.toString('base64url'), ...rest].join('.')),
        refusedWith('INVALID_CIPHERTEXT'),
      );
    }
  }
});

test('two tenants at once each get their own answers', async () => {
  await globex.keys.create({ keyId: 'own', purpose: 'sign', algorithm: 'ML-DSA-65' });
  const signed = await Promise.all(
    Array.from({ length: 60 }, async (_, index) => {
      const text = randomBytes(100);
      const [client, key] = index % 2 === 0 ? [acme, 'ml-dsa-65'] : [globex, 'own'];
      return { client, text, jws: (await client.sign(key as string, { message: text })).jws };
    }),
  );
  for (const { client, text, jws } of signed) {
    const { valid, payload } = await client.verify({ jws });
    assert.deepEqual([valid, payload], [true, text]);
  }
});

test('keys outlive a killed token process and a restart of the agent', async () => {
  process.kill(agent.tokenPid(), 'SIGKILL');
  await opensAll();
  await agent.end();
  await agent.start();
  await opensAll();
  const { jws } = await acme.sign('ml-dsa-65-es256', { message });
  assert.equal((await acme.verify({ jws })).valid, true);
});

test('the audit log is whole', async () => {
  const { intact, findings } = await acme.audit.verify();
  assert.deepEqual([intact, findings], [true, []]);
});
