// The Pipeline stream: its window, cancels, deadlines, tokens, back-pressure and ends. That its answers and records are
// those of unary calls is tested on the whole agent (test/e2e/pipeline.test.ts).
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { status } from '@grpc/grpc-js';
import fc from 'fast-check';
import { AgentError } from '../../../agent/errors.ts';
import { PipelineRequest, PipelineServiceService } from '../../../proto/gen/mortise/agent/v1/pipeline.ts';
import {
  call,
  decrypt,
  encrypt,
  openPipeline,
  outcomeOf,
  pipelineClient,
  RawPipeline,
  random,
} from './pipeline-client.ts';
import { caller, clientsOf, deafSession, detailsOf, failsWith, startServer, whoAmI } from './support.ts';

test('greets with its window before any call', async (t) => {
  const { path } = await startServer(t, { limits: { pipelineWindow: 7 } });
  const pipeline = openPipeline(t, path);
  await pipeline.until(() => pipeline.messages.length > 0);
  assert.deepEqual(pipeline.messages, [{ answers: [], window: 7 }]);
});

test('answers out of order, and those of one turn in one message', async (t) => {
  const { path, waiting, until } = await startServer(t);
  const pipeline = openPipeline(t, path);
  pipeline.send([call(1, encrypt('a')), call(2, encrypt('b')), call(3, encrypt('c')), call(4, random(2))]);
  await until(() => waiting.length === 3);
  await pipeline.until(() => pipeline.answers.length === 1);
  waiting[2]?.resolve('third');
  waiting[0]?.resolve('first');
  await pipeline.until(() => pipeline.answers.length === 3);
  waiting[1]?.resolve('second');
  await pipeline.until(() => pipeline.answers.length === 4);
  assert.deepEqual(
    pipeline.answers.map(({ sequence }) => sequence),
    [4, 3, 1, 2],
  );
  assert.deepEqual(
    pipeline.messages.map(({ answers }) => answers.length),
    [0, 1, 2, 1],
  );
  assert.deepEqual(pipeline.answers[1]?.answer, { $case: 'encrypt', value: { jwe: 'third c', envelope: undefined } });
});

test('an error of one operation leaves the stream and the others alone', async (t) => {
  const { path, events } = await startServer(t);
  const pipeline = openPipeline(t, path);
  const unknown = { ...call(4, undefined) };
  const sign = {
    $case: 'sign' as const,
    value: { key: '', input: undefined, form: 'SIGNATURE_FORM_RAW' as never, type: '', context: Buffer.alloc(0) },
  };
  pipeline.send([call(1, random(1)), call(2, sign), unknown]);
  pipeline.stream.end();
  assert.equal(await pipeline.ended, undefined);
  assert.deepEqual(await pipeline.outcomes(3), { 1: 'generateRandom', 2: 'INTERNAL', 4: 'UNIMPLEMENTED' });
  const codes = events.filter(({ event }) => event === 'finished').map(({ method, code }) => `${method} ${code}`);
  assert.deepEqual(codes.sort(), [
    '/mortise.agent.v1.CryptoService/GenerateRandom ok',
    '/mortise.agent.v1.CryptoService/Sign INTERNAL',
    '/mortise.agent.v1.PipelineService/Pipeline ok',
  ]);
});

test('what is beyond the window is OVERLOADED and was not begun; answered numbers and room serve again', async (t) => {
  const { path, waiting, until } = await startServer(t, { limits: { pipelineWindow: 2 } });
  const pipeline = openPipeline(t, path);
  pipeline.send([1, 2, 3, 4].map((sequence) => call(sequence, encrypt(`k${sequence}`))));
  assert.deepEqual(await pipeline.outcomes(2), { 3: 'OVERLOADED', 4: 'OVERLOADED' });
  await until(() => waiting.length === 2);
  waiting[0]?.resolve('done');
  await pipeline.until(() => pipeline.answers.length === 3);
  pipeline.send([call(1, encrypt('again'))]);
  await until(() => waiting.length === 3);
  waiting[1]?.resolve('done');
  waiting[2]?.resolve('done');
  await pipeline.until(() => pipeline.answers.length === 5);
  assert.deepEqual(
    pipeline.answers.slice(2).map((answer) => [answer.sequence, outcomeOf(answer)]),
    [
      [1, 'encrypt'],
      [2, 'encrypt'],
      [1, 'encrypt'],
    ],
  );
});

test('a deadline ends one operation, also where its handler does not react; its place stays taken until it does', async (t) => {
  const { path, waiting, until } = await startServer(t, { limits: { pipelineWindow: 2 } });
  const pipeline = openPipeline(t, path);
  pipeline.send([call(1, encrypt('a'), { timeoutMs: 30 }), call(2, encrypt('b'))]);
  assert.deepEqual(await pipeline.outcomes(1), { 1: 'DEADLINE_EXCEEDED' });
  assert.equal(waiting[0]?.call.signal.aborted, true);
  assert.equal(waiting[1]?.call.signal.aborted, false);
  pipeline.send([call(3, random(1))]);
  assert.deepEqual(await pipeline.outcomes(2), { 1: 'DEADLINE_EXCEEDED', 3: 'OVERLOADED' });
  waiting[0]?.resolve('too late');
  waiting[1]?.resolve('in time');
  await pipeline.until(() => pipeline.answers.length === 3);
  await until(() => true);
  pipeline.send([call(4, random(1))]);
  assert.equal((await pipeline.outcomes(4))[4], 'generateRandom');
});

test('a call without a timeout gets the default, a long one is cut', async (t) => {
  const { path, waiting, until } = await startServer(t, { limits: { defaultDeadlineMs: 5_000, maxDeadlineMs: 9_000 } });
  const pipeline = openPipeline(t, path);
  const before = Date.now();
  pipeline.send([call(1, encrypt('a')), call(2, encrypt('b'), { timeoutMs: 4_000_000_000 })]);
  await until(() => waiting.length === 2);
  const lengths = waiting.map((row) => row.call.deadline - before);
  assert.ok((lengths[0] as number) >= 5_000 && (lengths[0] as number) < 9_000, String(lengths));
  assert.ok((lengths[1] as number) >= 9_000 && (lengths[1] as number) < 60_000, String(lengths));
  for (const { resolve } of waiting) resolve('done');
});

test('cancels one operation by its sequence, and passes over others', async (t) => {
  const { path, waiting, until } = await startServer(t);
  const pipeline = openPipeline(t, path);
  pipeline.send([call(1, encrypt('a')), call(2, encrypt('b'))]);
  await until(() => waiting.length === 2);
  pipeline.send([call(3, random(1))], { cancel: [2, 77] });
  assert.deepEqual(await pipeline.outcomes(2), { 2: 'CANCELLED', 3: 'generateRandom' });
  assert.equal(waiting[1]?.call.signal.aborted, true);
  assert.equal(waiting[0]?.call.signal.aborted, false);
  for (const { resolve } of waiting) resolve('done');
  assert.equal((await pipeline.outcomes(3))[1], 'encrypt');
});

test('a client that ends the stream cancels all of it, and the call is over once the handlers have settled', async (t) => {
  const { path, waiting, events, until } = await startServer(t);
  const pipeline = openPipeline(t, path);
  pipeline.send([call(1, encrypt('a')), call(2, encrypt('b'))]);
  await until(() => waiting.length === 2);
  const aborted = waiting.map(
    ({ call: { signal } }) => new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve())),
  );
  pipeline.stream.cancel();
  await Promise.all(aborted);
  const isOver = (): boolean => events.some(({ method }) => method === '/mortise.agent.v1.PipelineService/Pipeline');
  assert.equal(isOver(), false);
  for (const { resolve } of waiting) resolve('nobody waits');
  await until(isOver);
});

test('half-closing drains', async (t) => {
  const { path, waiting, until } = await startServer(t);
  const pipeline = openPipeline(t, path);
  pipeline.send([call(1, encrypt('a')), call(2, encrypt('b'))]);
  pipeline.stream.end();
  await until(() => waiting.length === 2);
  for (const { resolve } of waiting) resolve('done');
  assert.equal(await pipeline.ended, undefined);
  assert.deepEqual(await pipeline.outcomes(2), { 1: 'encrypt', 2: 'encrypt' });
});

test('every operation is authenticated; an expired token is told per operation until a new one comes in band', async (t) => {
  const refused: unknown[] = [];
  const seen: string[] = [];
  let expired = false;
  const { path, waiting, until } = await startServer(t, {
    authenticate: async ({ authorization }) => {
      seen.push(String(authorization));
      if (expired && authorization[0] === 'Bearer old') throw new AgentError('TOKEN_EXPIRED');
      return caller({ principal: String(authorization) });
    },
    refuse: async (refusal) => void refused.push(refusal),
  });
  const pipeline = openPipeline(t, path, { authorization: 'Bearer old' });
  pipeline.send([call(1, encrypt('a'))]);
  await until(() => waiting.length === 1);
  expired = true;
  pipeline.send([call(2, random(1)), call(3, random(1))]);
  assert.deepEqual(await pipeline.outcomes(2), { 2: 'TOKEN_EXPIRED', 3: 'TOKEN_EXPIRED' });
  assert.deepEqual(
    refused.map((row) => ({ ...(row as object), peer: 0 })),
    [2, 3].map((n) => ({ operation: 'generate-random', code: 'TOKEN_EXPIRED', correlationId: `c-${n}`, peer: 0 })),
  );
  pipeline.send([call(4, encrypt('b'))], { token: 'new' });
  await until(() => waiting.length === 2);
  assert.deepEqual(
    waiting.map((row) => row.call.caller.principal),
    ['Bearer old', 'Bearer new'],
  );
  for (const { resolve } of waiting) resolve('done');
  assert.equal((await pipeline.outcomes(4))[4], 'encrypt');
  assert.deepEqual(seen, ['Bearer old', 'Bearer old', 'Bearer old', 'Bearer old', 'Bearer new']);
});

test('where a refusal cannot be recorded, the operation is told so', async (t) => {
  let known = true;
  const { path } = await startServer(t, {
    authenticate: async () => {
      if (!known) throw new AgentError('UNAUTHENTICATED');
      return caller();
    },
    refuse: async () => {
      throw new AgentError('AUDIT_UNAVAILABLE');
    },
  });
  const pipeline = openPipeline(t, path);
  await pipeline.until(() => pipeline.messages.length === 1);
  known = false;
  pipeline.send([call(1, random(1))]);
  assert.deepEqual(await pipeline.outcomes(1), { 1: 'AUDIT_UNAVAILABLE' });
});

test('a stranger gets no stream', async (t) => {
  const refused: { operation: string }[] = [];
  const { path } = await startServer(t, {
    authenticate: async () => {
      throw new AgentError('UNAUTHENTICATED');
    },
    refuse: async (refusal) => void refused.push(refusal),
  });
  const pipeline = openPipeline(t, path);
  assert.ok(failsWith(status.UNAUTHENTICATED, 'UNAUTHENTICATED')(await pipeline.ended));
  assert.deepEqual(pipeline.messages, []);
  assert.deepEqual(
    refused.map(({ operation }) => operation),
    ['pipeline'],
  );
});

for (const [what, message] of [
  ['a call without a sequence', { calls: [call(0, random(1))] }],
  ['a sequence twice in a message', { calls: [call(5, random(1)), call(5, random(1))] }],
  ['a sequence that is in flight', { calls: [call(1, random(1))] }],
  ['a token that is too long', { token: 'x'.repeat(20_000) }],
] as const) {
  test(`${what} ends the stream with a recorded INVALID_REQUEST`, async (t) => {
    const { path, audit, waiting, until } = await startServer(t);
    const pipeline = openPipeline(t, path, { 'x-correlation-id': 'the-stream' });
    pipeline.send([call(1, encrypt('a'))]);
    await until(() => waiting.length === 1);
    pipeline.stream.write({ calls: [], token: '', cancel: [], ...message } as PipelineRequest);
    const error = await pipeline.ended;
    assert.ok(failsWith(status.INVALID_ARGUMENT, 'INVALID_REQUEST')(error), String(error));
    assert.equal(detailsOf(error).metadata?.['correlation_id'], 'the-stream');
    const [record] = audit.filter(({ operation }) => operation === 'pipeline');
    assert.deepEqual(
      [record?.outcome, record?.tenant, record?.correlationId],
      ['INVALID_REQUEST', 'blue', 'the-stream'],
    );
    assert.equal(waiting[0]?.call.signal.aborted, true);
    waiting[0]?.resolve('nobody waits');
  });
}

test('bytes that are no message end the stream with a recorded INVALID_REQUEST, whatever they are', async (t) => {
  const { path, audit } = await startServer(t);
  const client = pipelineClient(t, path);
  const isMessage = (bytes: Uint8Array): boolean => {
    try {
      PipelineRequest.decode(bytes);
      return true;
    } catch {
      return false;
    }
  };
  await fc.assert(
    fc.asyncProperty(
      fc.uint8Array({ minLength: 1, maxLength: 60 }).filter((bytes) => !isMessage(bytes)),
      async (bytes) => {
        const before = audit.length;
        const stream = client.makeBidiStreamRequest(
          PipelineServiceService.pipeline.path,
          (raw: Buffer) => raw,
          (raw: Buffer) => raw,
        );
        stream.resume();
        const failed = new Promise((resolve) => stream.once('error', resolve));
        stream.write(Buffer.from(bytes));
        assert.ok(failsWith(status.INVALID_ARGUMENT, 'INVALID_REQUEST')(await failed));
        assert.deepEqual(
          audit.slice(before).map(({ operation, outcome }) => [operation, outcome]),
          [['pipeline', 'INVALID_REQUEST']],
        );
      },
    ),
    { numRuns: 100 },
  );
});

test('a drain finishes what is in flight, refuses the rest, and ends the stream with SHUTTING_DOWN', async (t) => {
  const { path, server, waiting, until, events } = await startServer(t);
  const pipeline = openPipeline(t, path);
  const idle = openPipeline(t, path);
  await idle.until(() => idle.messages.length === 1);
  pipeline.send([call(1, encrypt('a'))]);
  await until(() => waiting.length === 1);
  const closed = server.close(60_000);
  assert.ok(failsWith(status.UNAVAILABLE, 'SHUTTING_DOWN')(await idle.ended));
  pipeline.send([call(2, random(1))]);
  assert.deepEqual(await pipeline.outcomes(1), { 2: 'SHUTTING_DOWN' });
  waiting[0]?.resolve('done');
  assert.ok(failsWith(status.UNAVAILABLE, 'SHUTTING_DOWN')(await pipeline.ended));
  assert.deepEqual(await pipeline.outcomes(2), { 1: 'encrypt', 2: 'SHUTTING_DOWN' });
  await closed;
  assert.equal(events.find(({ event }) => event === 'drained')?.['callsCutOff'], false);
});

test('a stream that carries nothing for long ends well', async (t) => {
  const { path } = await startServer(t, { limits: { idleMs: 40 } });
  const pipeline = openPipeline(t, path);
  assert.equal(await pipeline.ended, undefined);
  assert.equal(pipeline.messages[0]?.window, 256);
});

test('a connection has so many pipelines; one more is refused, one that ends makes room', async (t) => {
  const { path } = await startServer(t, { limits: { maxPipelinesPerConnection: 2 } });
  const client = pipelineClient(t, path);
  const [first, second] = [new RawPipeline(client), new RawPipeline(client)];
  for (const pipeline of [first, second]) await pipeline.until(() => pipeline.messages.length === 1);
  assert.ok(failsWith(status.RESOURCE_EXHAUSTED, 'OVERLOADED')(await new RawPipeline(client).ended));
  first.stream.end();
  await first.ended;
  const third = new RawPipeline(client);
  await third.until(() => third.messages.length === 1);
  second.stream.end();
  third.stream.end();
});

test('reads no further while large requests are in flight, and goes on as they are done', async (t) => {
  const { path, waiting, until } = await startServer(t, { limits: { maxPipelineRequestBytes: 64 * 1024 } });
  const pipeline = openPipeline(t, path);
  for (let sequence = 1; sequence <= 6; sequence += 1) pipeline.send([call(sequence, encrypt('k', 40 * 1024))]);
  await until(() => waiting.length === 2);
  await whoAmI(clientsOf(t, path).status); // whatever was on its way has arrived by then
  assert.equal(waiting.length, 2);
  for (let done = 0; done < 6; done += 1) {
    await until(() => waiting.length > done);
    assert.ok(waiting.length <= done + 2, `${waiting.length} begun, ${done} done`);
    waiting[done]?.resolve('done');
  }
  pipeline.stream.end();
  assert.equal(await pipeline.ended, undefined);
  assert.equal(pipeline.answers.length, 6);
});

test('a client that does not read makes the agent stop reading, and is cut in the end', async (t) => {
  const limits = { maxPipelineAnswerBytes: 64 * 1024, answerMs: 400, pipelineWindow: 8 };
  const { path, events, until } = await startServer(t, { limits });
  const { call: open } = await deafSession(t, path, 0);
  const bodies = Array.from({ length: 400 }, (_, at) =>
    PipelineRequest.encode({ calls: [call(at + 1, decrypt(100))], token: '', cancel: [] }).finish(),
  );
  const [first, ...rest] = bodies as [Uint8Array, ...Uint8Array[]];
  const framed = rest.flatMap((body) => {
    const frame = Buffer.alloc(5);
    frame.writeUInt32BE(body.length, 1);
    return [frame, body];
  });
  // 400 messages, each to be answered with 100 KiB.
  const bytes = Buffer.concat([first, ...framed]);
  const stream = open('/mortise.agent.v1.PipelineService/Pipeline', bytes, {}, first.length);
  stream.on('error', () => undefined);
  await until(() => events.some(({ event }) => event === 'cut'));
  assert.equal(events.find(({ event }) => event === 'cut')?.['reason'], 'SLOW_READER');
  const done = events.filter(({ method }) => method === '/mortise.agent.v1.CryptoService/Decrypt').length;
  assert.ok(done > 0 && done < 40, `${done} operations were done for a client that reads nothing`);
});
