// The audit log over the real token room on SoftHSM: keys made once, found again, checkpoints of every kind.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openTokenKeys, type TokenForAudit } from '../../../agent/audit/token-keys.ts';
import type { Token } from '../../../agent/token/token.ts';
import { verifyCheckpoint } from '../../../proto/documents/checkpoint.ts';
import { makeSoftHsm } from '../../support/softhsm.ts';
import { openSoftHsmToken } from '../../support/token.ts';
import { appendMany, openLog, tempFolder } from './fixture.ts';

const now = (): number => Date.now();

test('the log works on SoftHSM, and the next start finds the same keys', async (t) => {
  const hsm = await makeSoftHsm();
  t.after(() => hsm.dispose());
  const token = await openSoftHsmToken(hsm);
  t.after(() => token.close());
  const path = tempFolder(t);

  const first = await openTokenKeys({ token, host: 'host-1', now });
  const log = await openLog(t, { path, token: first });
  await appendMany(log, 'acme', 20);
  const kept = await log.checkpoint('acme');
  assert.equal(verifyCheckpoint(kept.text, first.publicJwk).size, 20);
  await log.close();

  const second = await openTokenKeys({ token, host: 'host-1', now });
  assert.deepEqual(second.publicJwk, first.publicJwk);
  const again = await openLog(t, { path, token: second });
  await appendMany(again, 'acme', 5);
  const found = await again.verify('acme', kept.text);
  assert.deepEqual([found.intact, found.macsVerified, found.tenants[0]?.size], [true, true, 25]);
  await again.close();
});

const without = (token: Token, lacks: readonly string[]): TokenForAudit => ({
  canHold: (algorithm, purpose) =>
    lacks.includes(algorithm) ? { ok: false, why: 'not here' } : token.canHold(algorithm, purpose),
  find: (...args) => token.find(...args),
  generate: (...args) => token.generate(...args),
  generateWrappingKey: (...args) => token.generateWrappingKey(...args),
  wrap: (...args) => token.wrap(...args),
  unwrap: (...args) => token.unwrap(...args),
  sign: (...args) => token.sign(...args),
});

test('a token without Ed25519 signs checkpoints by ECDSA P-256, and one without either by RSA', async (t) => {
  const hsm = await makeSoftHsm();
  t.after(() => hsm.dispose());
  const token = await openSoftHsmToken(hsm);
  t.after(() => token.close());
  for (const [host, lacks, kty] of [
    ['host-1', ['Ed25519'], 'EC'],
    ['host-2', ['Ed25519', 'EC-P256'], 'RSA'],
  ] as const) {
    const keys = await openTokenKeys({ token: without(token, lacks), host, now });
    assert.equal(keys.publicJwk['kty'], kty);
    const path = tempFolder(t);
    const log = await openLog(t, { path, token: keys });
    await appendMany(log, 'acme', 3);
    const { text } = await log.checkpoint('acme');
    assert.equal(verifyCheckpoint(text, keys.publicJwk).size, 3);
    assert.deepEqual((await log.verify('acme', text)).findings, []);
    await log.close();
    const again = await openLog(t, { path, token: await openTokenKeys({ token, host, now }) });
    await appendMany(again, 'acme', 1);
    assert.deepEqual((await again.verify('acme', text)).findings, []);
    await again.close();
  }
  await assert.rejects(
    openTokenKeys({ token: without(token, ['Ed25519', 'EC-P256', 'RSA-3072']), host: 'host-3', now }),
    {
      code: 'HSM_UNSUPPORTED',
      message: /no key to sign checkpoints with: Ed25519: not here; EC-P256: not here; RSA-3072: not here/,
    },
  );
});

test('a wrapped MAC key opens only under its own host and epoch', async (t) => {
  const hsm = await makeSoftHsm();
  t.after(() => hsm.dispose());
  const token = await openSoftHsmToken(hsm);
  t.after(() => token.close());
  const keys = await openTokenKeys({ token, host: 'host-1', now });
  const wrapped = await keys.wrap(Buffer.alloc(32, 5), Buffer.from('a'));
  assert.deepEqual(await keys.unwrap(wrapped, Buffer.from('a')), Buffer.alloc(32, 5));
  await assert.rejects(keys.unwrap(wrapped, Buffer.from('b')), { code: 'INVALID_CIPHERTEXT' });
});
