// The pulse of the token that Status reads: right about a token that fails, hangs and comes back, and never waited for.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { status } from '@grpc/grpc-js';
import { Pulse } from '../../../../agent/server/kms/pulse.ts';
import { failsWith } from '../support.ts';
import { KEY, startKms } from './support.ts';

const NEVER_BY_ITSELF_MS = 3_600_000;

test('a token that fails is a problem until it answers again', async () => {
  let answer: () => Promise<unknown> = async () => 'bytes';
  await using pulse = new Pulse({ ask: () => answer(), everyMs: NEVER_BY_ITSELF_MS });
  await pulse.beat();
  assert.equal(pulse.problem, undefined);
  answer = async () => {
    throw new Error('the token cannot be reached');
  };
  await pulse.beat();
  assert.equal(pulse.problem, 'the token cannot be reached');
  answer = async () => 'bytes';
  await pulse.beat();
  assert.equal(pulse.problem, undefined);
});

test('a token that hangs is a problem once it is late, is asked one question at a time, and may answer after all', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout', 'setInterval'] });
  const hanging = Promise.withResolvers<void>();
  let asked = 0;
  const pulse = new Pulse({
    ask: () => {
      asked += 1;
      return hanging.promise;
    },
    everyMs: 10_000,
    lateMs: 2_000,
  });
  t.mock.timers.tick(10_000);
  assert.equal(asked, 1);
  assert.equal(pulse.problem, undefined, 'not late yet');
  t.mock.timers.tick(2_000);
  assert.equal(pulse.problem, 'the token has not answered for 2000 ms');
  t.mock.timers.tick(100_000);
  assert.equal(asked, 1, 'questions do not pile up');
  const answered = pulse.beat();
  hanging.resolve();
  await answered;
  assert.equal(pulse.problem, undefined);
  await pulse[Symbol.asyncDispose]();
  t.mock.timers.tick(100_000);
  assert.equal(asked, 1, 'closed, it asks no more');
});

test('what a token that does not answer may have caused is looked into at once, other failures are not', async (t) => {
  let suspected = 0;
  const { client, world, token } = await startKms(t, {
    suspect: () => {
      suspected += 1;
    },
  });
  await world.add({ keyId: KEY, algorithm: 'AES-256', purpose: 'encrypt' });
  token.fail({ method: 'gcmEncrypt', code: 'HSM_UNAVAILABLE' });
  await assert.rejects(client.encrypt(Buffer.alloc(32)), failsWith(status.UNAVAILABLE, 'HSM_UNAVAILABLE'));
  assert.equal(suspected, 1);
  world.change(KEY, { state: 'SUSPENDED' });
  await assert.rejects(client.encrypt(Buffer.alloc(32)), failsWith(status.FAILED_PRECONDITION, 'KEY_STATE'));
  assert.equal(suspected, 1);
});
