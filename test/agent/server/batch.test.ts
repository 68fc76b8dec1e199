// The Batch call, and the table of what a pipeline and a batch can carry.
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { status } from '@grpc/grpc-js';
import { AuditServiceService } from '../../../proto/gen/mortise/agent/v1/audit.ts';
import { CryptoServiceService } from '../../../proto/gen/mortise/agent/v1/crypto.ts';
import { KeysServiceService } from '../../../proto/gen/mortise/agent/v1/keys.ts';
import {
  type BatchRequest,
  type BatchResponse,
  PipelineAnswer,
  PipelineCall,
  PipelineServiceService,
} from '../../../proto/gen/mortise/agent/v1/pipeline.ts';
import { StatusServiceService } from '../../../proto/gen/mortise/agent/v1/status.ts';
import { call, decrypt, encrypt, outcomeOf, pipelineClient, random } from './pipeline-client.ts';
import { ask, askRaw, detailsOf, failsWith, startServer } from './support.ts';

const batch = (
  t: TestContext,
  path: string,
  calls: PipelineCall[],
  options: Parameters<typeof ask>[3] = {},
): Promise<BatchResponse> => {
  const client = pipelineClient(t, path);
  return ask(
    client,
    client.batch as Parameters<typeof ask<object, BatchRequest, BatchResponse>>[1],
    { calls },
    options,
  );
};
const outcomes = ({ answers }: BatchResponse): [number, string][] =>
  answers.map((answer) => [answer.sequence, outcomeOf(answer)]);

test('every unary RPC can be carried, and its answer too', () => {
  const services = { ...AuditServiceService, ...CryptoServiceService, ...KeysServiceService, ...StatusServiceService };
  const unary = Object.entries(services).filter(([, { responseStream }]) => !responseStream);
  assert.ok(unary.length >= 27);
  for (const [name, method] of unary) {
    const request = { $case: name, value: method.requestDeserialize(Buffer.alloc(0)) };
    const sent = PipelineCall.encode({ ...call(1, undefined), request } as PipelineCall).finish();
    assert.deepEqual(PipelineCall.decode(sent).request, request, `PipelineCall.request has no ${name}`);
    const answer = { $case: name, value: method.responseDeserialize(Buffer.alloc(0)) };
    const answered = PipelineAnswer.encode({ sequence: 1, answer } as PipelineAnswer).finish();
    assert.deepEqual(PipelineAnswer.decode(answered).answer, answer, `PipelineAnswer.answer has no ${name}`);
  }
});

test('answers in the order of the calls, errors among them, under the id of the call or their own', async (t) => {
  const { path, audit, waiting, until } = await startServer(t);
  const calls = [
    call(7, encrypt('a'), { correlationId: '' }),
    call(7, undefined),
    call(0, encrypt('b')),
    call(3, random(2)),
  ];
  const answered = batch(t, path, calls, { metadata: { 'x-correlation-id': 'all' } });
  await until(() => waiting.length === 2);
  waiting[1]?.resolve('second');
  waiting[0]?.resolve('first');
  const response = await answered;
  assert.deepEqual(outcomes(response), [
    [7, 'encrypt'],
    [7, 'UNIMPLEMENTED'],
    [0, 'encrypt'],
    [3, 'generateRandom'],
  ]);
  assert.deepEqual(response.answers[0]?.answer, { $case: 'encrypt', value: { jwe: 'first a', envelope: undefined } });
  assert.deepEqual(audit.map(({ correlationId }) => correlationId).sort(), ['all', 'c-0', 'c-3']);
});

test('refuses no calls and too many, recorded', async (t) => {
  const { path, audit } = await startServer(t);
  for (const count of [0, 257]) {
    const calls = Array.from({ length: count }, (_, at) => call(at, random(1)));
    await assert.rejects(batch(t, path, calls), (error) => {
      assert.deepEqual(detailsOf(error).fields, [{ field: 'calls', description: '1 to 256' }]);
      return failsWith(status.INVALID_ARGUMENT, 'INVALID_REQUEST')(error);
    });
  }
  assert.deepEqual(
    audit.map(({ operation, outcome }) => [operation, outcome]),
    Array(2).fill(['batch', 'INVALID_REQUEST']),
  );
  const calls = Array.from({ length: 256 }, (_, at) => call(at, random(1)));
  assert.equal((await batch(t, path, calls)).answers.length, 256);
});

test('bytes that are no batch are a recorded INVALID_REQUEST', async (t) => {
  const { path, audit } = await startServer(t);
  const sent = askRaw(path, PipelineServiceService.batch.path, Buffer.from([10, 200]));
  await assert.rejects(sent, failsWith(status.INVALID_ARGUMENT, 'INVALID_REQUEST'));
  assert.deepEqual(
    audit.map(({ operation, outcome }) => [operation, outcome]),
    [['batch', 'INVALID_REQUEST']],
  );
});

test('begins no operation once the answers are as large as a batch may be', async (t) => {
  const { path, events } = await startServer(t, { limits: { maxBatchAnswerBytes: 64 * 1024, batchAtOnce: 1 } });
  const calls = [decrypt(40), decrypt(40), decrypt(40)].map((operation, at) => call(at, operation));
  assert.deepEqual(outcomes(await batch(t, path, calls)), [
    [0, 'decrypt'],
    [1, 'decrypt'],
    [2, 'TOO_LARGE'],
  ]);
  assert.equal(events.filter(({ method }) => String(method).endsWith('/Decrypt')).length, 2);
});

test('so many operations are under way at a time, each with a deadline of its own', async (t) => {
  const { path, waiting, until } = await startServer(t, { limits: { batchAtOnce: 2 } });
  const calls = [call(1, encrypt('a'), { timeoutMs: 20 }), call(2, encrypt('b')), call(3, encrypt('c'))];
  const answered = batch(t, path, calls, { deadline: Date.now() + 60_000 });
  await until(() => waiting.length === 2);
  const [first, second] = waiting;
  await new Promise<void>((resolve) => first?.call.signal.addEventListener('abort', () => resolve()));
  assert.equal(second?.call.signal.aborted, false);
  assert.equal(waiting.length, 2);
  first?.resolve('too late');
  await until(() => waiting.length === 3);
  for (const { resolve } of waiting) resolve('done');
  assert.deepEqual(outcomes(await answered), [
    [1, 'DEADLINE_EXCEEDED'],
    [2, 'encrypt'],
    [3, 'encrypt'],
  ]);
});

test('a client that cancels the batch cancels what is under way, and the rest is not begun', async (t) => {
  const { path, waiting, until, events } = await startServer(t, { limits: { batchAtOnce: 2 } });
  const aborting = new AbortController();
  const calls = [1, 2, 3].map((sequence) => call(sequence, encrypt('a')));
  const answered = batch(t, path, calls, { signal: aborting.signal });
  await until(() => waiting.length === 2);
  const aborted = waiting.map(
    ({ call: { signal } }) => new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve())),
  );
  aborting.abort();
  await assert.rejects(answered, { code: status.CANCELLED });
  await Promise.all(aborted);
  for (const { resolve } of waiting) resolve('nobody waits');
  await until(() => events.some(({ method }) => method === PipelineServiceService.batch.path));
  assert.equal(waiting.length, 2);
});
