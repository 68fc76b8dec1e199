// A whole agent on a token without AES-GCM: it does what is left, says what it goes by, and under a policy of FIPS-approved
// algorithms too. When the token has learned AES-GCM, everything opens as before, and new keys are wrapped by it.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { type MortiseClient, MortiseError } from '../../clients/typescript/index.ts';
import { type RunningAgent, startAgent } from '../support/agent.ts';
import { clientOf } from './load.ts';

const message = Buffer.from('the road goes ever on');
const WITHOUT_GCM = { PKCS11_DISABLED_MECHANISMS: 'CKM_AES_GCM' };

let agent: RunningAgent;
let acme: MortiseClient;
before(async () => {
  const algorithms = { allow: ['ML-DSA-65', 'AES-256', 'EC-P256'] };
  agent = await startAgent({ platform: { fipsOnly: { boundary: 'algorithms' }, algorithms }, env: WITHOUT_GCM });
  acme = clientOf(agent, 'acme', { retry: false });
});
after(async () => {
  acme?.close();
  await agent?.stop();
});

const wrapsBy = async (): Promise<string> => (await acme.status()).tokens.map(({ detail }) => detail).join();
const works = async (keyId: string): Promise<void> => {
  const { signature } = await acme.sign(keyId, { message }, { form: 'raw' });
  assert.equal((await acme.verify({ raw: signature, message }, { key: keyId })).valid, true);
};

test('an agent without AES-GCM wraps by AES-CBC and HMAC, says so, and refuses AES keys with the reason', async () => {
  assert.match(await wrapsBy(), /wraps keys by AES-256-CBC, then HMAC-SHA-256, for aes-gcm: .*CKR_MECHANISM_INVALID/);
  await acme.keys.create({ keyId: 'signs', purpose: 'sign', algorithm: 'ML-DSA-65' });
  assert.equal((await acme.keys.get('signs')).versions[0]?.custody, 'wrapped');
  await works('signs');
  await assert.rejects(acme.keys.create({ keyId: 'aes', purpose: 'encrypt', algorithm: 'AES-256' }), (error) => {
    assert.ok(error instanceof MortiseError && error.reason === 'HSM_UNSUPPORTED');
    assert.match(error.message, /cannot hold AES-256 for "encrypt": aes-gcm: .*CKR_MECHANISM_INVALID/);
    return true;
  });
});

test('it starts again, also on a token that has learned AES-GCM; rotation of the KEK takes keys to it', async () => {
  await agent.end();
  await agent.start();
  await works('signs');
  await agent.end();
  await agent.start({ PKCS11_DISABLED_MECHANISMS: '' });
  assert.match(await wrapsBy(), /wraps keys by AES-256-GCM$/);
  await works('signs');
  const { rewrapped } = await acme.keys.rotateTenantKek();
  assert.equal(rewrapped, 1);
  await works('signs');
  await acme.keys.create({ keyId: 'aes', purpose: 'encrypt', algorithm: 'AES-256' });
});

test('on a token that has lost AES-CBC it does not start, and the log says which key wants it', async () => {
  await agent.end();
  const from = agent.logs.length;
  agent.spawn({ PKCS11_DISABLED_MECHANISMS: 'CKM_AES_CBC_PAD' });
  const why =
    /wraps by AES-256-CBC, then HMAC-SHA-256, which the token does not do: wrap-aes-cbc-hmac: .*CKM_AES_CBC_PAD/;
  await agent.logged((line) => why.test(JSON.stringify(line)), from);
  await agent.end();
});
