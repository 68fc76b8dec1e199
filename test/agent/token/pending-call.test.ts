// A call to the token that is over holds nobody who waited for it.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AgentError } from '../../../agent/errors.ts';
import { collectGarbage } from '../../../agent/garbage.ts';
import { PendingCall } from '../../../agent/token/pending-call.ts';

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** A call, how often it was settled, and the one who asked, if anybody still holds it. */
const ask = () => {
  const asker = { answers: [] as unknown[] };
  const settled: string[] = [];
  const { signal } = new AbortController();
  const call = new PendingCall({
    name: 'mac',
    fields: [Buffer.alloc(16), Buffer.from('HS256'), Buffer.from('data')],
    call: { tenant: 'acme', deadline: Number.MAX_SAFE_INTEGER, signal },
    waitUntil: Number.MAX_SAFE_INTEGER,
    resolve: (fields) => void asker.answers.push(fields),
    reject: (error) => void asker.answers.push(error),
    onSettled: (_call, outcome) => void settled.push(outcome),
  });
  return { call, settled, asker: new WeakRef(asker), signal: new WeakRef(signal) };
};

const isLetGoAfter = async (end: (call: PendingCall) => void): Promise<void> => {
  const { call, settled, asker, signal } = ask();
  await turn();
  collectGarbage();
  assert.equal(asker.deref()?.answers.length, 0);
  assert.notEqual(signal.deref(), undefined);
  end(call);
  end(call);
  call.reject(new AgentError('CANCELLED'));
  assert.equal(asker.deref()?.answers.length, 1);
  assert.equal(settled.length, 1);
  await turn();
  collectGarbage();
  assert.deepEqual([call.settled, call.fields.length], [true, 0]);
  assert.equal(asker.deref(), undefined);
  assert.equal(signal.deref(), undefined);
};

test('a call that was answered is settled once, and keeps neither its fields nor whom it answered', async () => {
  await isLetGoAfter((call) => call.resolve([Buffer.from('mac')]));
});

test('a call that was refused is settled once, and keeps neither its fields nor whom it answered', async () => {
  await isLetGoAfter((call) => call.reject(new AgentError('HSM_BUSY')));
});
