// The client over the pipeline, against a server that the test plays: what leaves in which message, and what becomes of
// calls when streams are refused, break or end.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, test } from 'node:test';
import { type ConnectOptions, connect, type MortiseClient, MortiseError } from '../../clients/typescript/index.ts';
import type { PipelineCall } from '../../proto/gen/mortise/agent/v1/pipeline.ts';
import { errorAnswer, PipelineStub, randomAnswer, type StubStream } from './pipeline-stub.ts';
import { agentFailure, StubAgent } from './stub-agent.ts';

const clients: MortiseClient[] = [];
after(() => {
  for (const client of clients) client.close();
});
const client = (socketPath: string, options: ConnectOptions = {}): MortiseClient => {
  const made = connect({ socketPath, token: 'token-1', ...options });
  clients.push(made);
  return made;
};
const fails = (code: string) => (error: unknown) => error instanceof MortiseError && error.code === code;
const lengths = (calls: readonly PipelineCall[]): unknown[] =>
  calls.map(({ request }) => (request?.$case === 'generateRandom' ? request.value.length : request?.$case));
/** The bytes say which answer it was. */
const randoms = async (calls: Promise<Buffer>[]): Promise<string[]> => (await Promise.all(calls)).map(String);

test('calls of one turn leave in one message, after the agent has greeted, and answers find them in any order', async () => {
  await using agent = await new PipelineStub().start();
  agent.onStream = () => undefined;
  const mortise = client(agent.socketPath);
  const calls = [1, 2, 3].map((length) => mortise.generateRandom(length, { correlationId: `c-${length}` }));
  await agent.until(() => agent.streams.length === 1);
  const [stream] = agent.streams as [StubStream];
  assert.deepEqual(stream.metadata.get('authorization'), ['Bearer token-1']);
  assert.equal(stream.messages.length, 0);
  stream.greet();
  await agent.until(() => stream.messages.length === 1);
  assert.deepEqual(lengths(stream.calls), [1, 2, 3]);
  assert.deepEqual(
    stream.calls.map(({ correlationId }) => correlationId),
    ['c-1', 'c-2', 'c-3'],
  );
  assert.ok(stream.calls.every(({ timeoutMs }) => timeoutMs > 0 && timeoutMs <= 10_000));
  assert.equal(stream.messages[0]?.token, '');
  const [one, two, three] = stream.calls.map(randomAnswer) as [never, never, never];
  stream.answer(three, one);
  stream.answer(two);
  assert.deepEqual(await randoms(calls), ['1', '2', '3']);
  const later = mortise.generateRandom(4);
  await agent.until(() => stream.messages.length === 2);
  stream.serve(...(stream.messages[1]?.calls ?? []));
  assert.equal(String(await later), '4');
  assert.deepEqual(agent.alone, []);
});

test('an agent without the pipeline is called by calls of their own, and not asked again for a while', async () => {
  await using agent = await new StubAgent().start();
  agent.answers['generateRandom'] = ({ request }) => ({ random: Buffer.from(String(request.length)) });
  agent.answers['rotateTenantKek'] = () => ({ version: 2, rewrapped: 0n });
  const mortise = client(agent.socketPath);
  assert.deepEqual(await randoms([mortise.generateRandom(1), mortise.generateRandom(2)]), ['1', '2']);
  // Not safe to repeat, and not repeated: the refused stream has carried nothing.
  assert.equal((await mortise.keys.rotateTenantKek()).version, 2);
  assert.equal(agent.calls.length, 3);
});

test('the client can be told to call alone, and does so with tokens for single use', async () => {
  await using agent = await new PipelineStub().start();
  assert.equal(String(await client(agent.socketPath, { transport: 'unary' }).generateRandom(1)), 'alone 1');
  const token = async () => 'single';
  assert.equal(String(await client(agent.socketPath, { token, reuseToken: false }).generateRandom(2)), 'alone 2');
  assert.deepEqual(agent.streams, []);
});

for (const code of ['OVERLOADED', 'PERMISSION_DENIED', 'INTERNAL'] as const) {
  test(`where the agent refuses the stream with ${code}, calls go alone`, async () => {
    await using agent = await new PipelineStub().start();
    agent.onStream = (stream) => stream.end(agentFailure(code));
    const mortise = client(agent.socketPath);
    assert.deepEqual(await randoms([mortise.generateRandom(1), mortise.generateRandom(2)]), ['alone 1', 'alone 2']);
    await mortise.generateRandom(3);
    assert.equal(agent.streams.length, 1);
  });
}

test('an operation that the agent knows only as a call of its own goes alone', async () => {
  await using agent = await new PipelineStub().start();
  const mortise = client(agent.socketPath);
  const call = mortise.generateRandom(5);
  await agent.until(() => agent.streams[0]?.calls.length === 1);
  agent.streams[0]?.answer(errorAnswer(1, 'UNIMPLEMENTED'));
  assert.equal(String(await call), 'alone 5');
});

test('an error answer is the error of its call alone, with all its details', async () => {
  await using agent = await new PipelineStub().start();
  const mortise = client(agent.socketPath, { retry: false });
  const calls = [mortise.generateRandom(1), mortise.generateRandom(2, { correlationId: 'mine' })] as const;
  await agent.until(() => agent.streams[0]?.calls.length === 2);
  const more = {
    message: 'slowly',
    metadata: { a: 'b' },
    fields: [{ field: 'f', description: 'd' }],
    retryAfterMs: 1500,
  };
  const [first] = agent.streams[0]?.calls.map(randomAnswer) ?? [];
  agent.streams[0]?.answer(errorAnswer(2, 'RATE_LIMITED', more), first as never);
  assert.equal(String(await calls[0]), '1');
  await assert.rejects(calls[1], (error: MortiseError) => {
    const { code, message, metadata, fields, retryAfterMs, correlationId, retryable } = error;
    assert.deepEqual({ message, metadata, fields, retryAfterMs }, more);
    assert.deepEqual(
      { code, correlationId, retryable },
      { code: 'RATE_LIMITED', correlationId: 'mine', retryable: true },
    );
    return true;
  });
});

test('a renewed token goes in band, once, before the calls that it is for', async () => {
  await using agent = await new PipelineStub().start();
  const tokens = ['old', 'new', 'newer'];
  const mortise = client(agent.socketPath, { token: async () => tokens.shift() as string });
  const calls = [mortise.generateRandom(1), mortise.generateRandom(2)];
  await agent.until(() => agent.streams[0]?.calls.length === 2);
  const [stream] = agent.streams as [StubStream];
  stream.answer(errorAnswer(1, 'TOKEN_EXPIRED'), errorAnswer(2, 'TOKEN_EXPIRED'));
  await agent.until(() => stream.messages.length === 2);
  stream.serve(...(stream.messages[1]?.calls ?? []));
  assert.deepEqual(await randoms(calls), ['1', '2']);
  const third = mortise.generateRandom(3);
  await agent.until(() => stream.messages.length === 3);
  stream.serve(...(stream.messages[2]?.calls ?? []));
  await third;
  assert.deepEqual(stream.metadata.get('authorization'), ['Bearer old']);
  assert.deepEqual(
    stream.messages.map(({ token }) => token),
    ['', 'new', ''],
  );
  assert.deepEqual(tokens, ['newer']);
  assert.equal(agent.streams.length, 1);
});

test('a stream that is refused for an expired token is opened again with a fresh one, once', async () => {
  await using agent = await new PipelineStub().start();
  agent.onStream = (stream) => stream.end(agentFailure('TOKEN_EXPIRED'));
  let issued = 0;
  const token = async (): Promise<string> => {
    issued += 1;
    return `token-${issued}`;
  };
  const mortise = client(agent.socketPath, { token });
  await assert.rejects(mortise.generateRandom(1), fails('TOKEN_EXPIRED'));
  assert.deepEqual(
    agent.streams.map(({ metadata }) => metadata.get('authorization')[0]),
    ['Bearer token-1', 'Bearer token-2'],
  );
  assert.deepEqual(agent.alone, []);
});

test('calls beyond the window wait in the client', async () => {
  await using agent = await new PipelineStub().start();
  agent.onStream = (stream) => stream.greet(2);
  const mortise = client(agent.socketPath);
  const calls = [1, 2, 3, 4, 5].map((length) => mortise.generateRandom(length));
  await agent.until(() => agent.streams[0]?.calls.length === 2);
  const [stream] = agent.streams as [StubStream];
  stream.serve(stream.calls[1] as PipelineCall);
  await agent.until(() => stream.calls.length === 3);
  stream.serve(stream.calls[0] as PipelineCall, stream.calls[2] as PipelineCall);
  await agent.until(() => stream.calls.length === 5);
  stream.serve(...stream.calls.slice(3));
  assert.deepEqual(await randoms(calls), ['1', '2', '3', '4', '5']);
  assert.deepEqual(lengths(stream.calls), [1, 2, 3, 4, 5]);
});

test('an aborted call fails at once: one that was sent is cancelled by its number, one that waits is never sent', async () => {
  await using agent = await new PipelineStub().start();
  agent.onStream = (stream) => stream.greet(1);
  const mortise = client(agent.socketPath);
  const aborting = new AbortController();
  const { signal } = aborting;
  const sent = mortise.generateRandom(1, { signal });
  await agent.until(() => agent.streams[0]?.calls.length === 1);
  const waits = mortise.generateRandom(2, { signal });
  const last = mortise.generateRandom(3);
  await new Promise((resolve) => setImmediate(resolve));
  aborting.abort();
  for (const call of [sent, waits]) await assert.rejects(call, fails('CANCELLED'));
  const [stream] = agent.streams as [StubStream];
  await agent.until(() => stream.messages.length === 2);
  assert.deepEqual(stream.messages[1], { calls: [], token: '', cancel: [1] });
  // Its place in the window is free once the agent has answered, whatever it says.
  stream.serve(stream.calls[0] as PipelineCall);
  await agent.until(() => stream.calls.length === 2);
  stream.serve(stream.calls[1] as PipelineCall);
  assert.equal(String(await last), '3');
});

test('a call fails by its deadline though the agent says nothing', async () => {
  await using agent = await new PipelineStub().start();
  const mortise = client(agent.socketPath);
  await assert.rejects(mortise.generateRandom(1, { deadlineMs: 40 }), fails('DEADLINE_EXCEEDED'));
  agent.streams[0]?.serve(...(agent.streams[0]?.calls ?? []));
  const next = mortise.generateRandom(2);
  await agent.until(() => agent.streams[0]?.calls.length === 2);
  agent.streams[0]?.serve(agent.streams[0]?.calls[1] as PipelineCall);
  assert.equal(String(await next), '2');
  agent.onStream = () => undefined;
  const silent = client(agent.socketPath);
  await assert.rejects(silent.generateRandom(1, { deadlineMs: 40 }), fails('DEADLINE_EXCEEDED'));
});

test('over a reconnect, what was sent is repeated only where that is safe, and what was not sent goes once', async () => {
  await using agent = await new PipelineStub().start();
  agent.onStream = (stream) => stream.greet(3);
  const mortise = client(agent.socketPath, { retry: { initialDelayMs: 1 } });
  const safe = [mortise.generateRandom(1), mortise.generateRandom(2)];
  const unsafe = mortise.keys.rotate('k');
  const unsent = mortise.keys.rotateTenantKek();
  await agent.until(() => agent.streams[0]?.calls.length === 3);
  agent.kill();
  await assert.rejects(unsafe, fails('AGENT_UNREACHABLE'));
  await agent.start();
  await agent.until(() => agent.streams[1]?.calls.length === 3);
  const again = agent.streams[1] as StubStream;
  assert.deepEqual(lengths(again.calls).sort(), [1, 2, 'rotateTenantKek']);
  const isRandom = (call: PipelineCall): boolean => call.request?.$case === 'generateRandom';
  again.serve(...again.calls.filter(isRandom));
  const { sequence } = again.calls.find((call) => !isRandom(call)) as PipelineCall;
  again.answer({ sequence, answer: { $case: 'rotateTenantKek', value: { version: 3, rewrapped: 1n } } });
  assert.deepEqual(await randoms(safe), ['1', '2']);
  assert.equal((await unsent).version, 3);
  const all = agent.streams.flatMap((stream) => stream.calls).map(({ request }) => request?.$case);
  assert.equal(all.filter((name) => name === 'rotateKey').length, 1);
  assert.equal(all.filter((name) => name === 'rotateTenantKek').length, 1);
});

test('an agent that is not there is AGENT_UNREACHABLE, and a call waits for it though it may not be repeated', async () => {
  await using agent = await new PipelineStub().start();
  agent.kill();
  await assert.rejects(client(agent.socketPath, { retry: false }).generateRandom(1), fails('AGENT_UNREACHABLE'));
  const waits = client(agent.socketPath).keys.rotate('k', { deadlineMs: 9000 });
  await agent.start();
  await agent.until(() => agent.streams[0]?.calls.length === 1);
  agent.streams[0]?.answer(errorAnswer(1, 'KEY_UNKNOWN'));
  await assert.rejects(waits, fails('KEY_UNKNOWN'));
});

test('calls that an agent had not begun when it stopped go to the next one', async () => {
  await using agent = await new PipelineStub().start();
  const mortise = client(agent.socketPath, { retry: { initialDelayMs: 1 } });
  const call = mortise.generateRandom(1);
  await agent.until(() => agent.streams[0]?.calls.length === 1);
  agent.streams[0]?.answer(errorAnswer(1, 'SHUTTING_DOWN'));
  agent.streams[0]?.end(agentFailure('SHUTTING_DOWN'));
  await agent.until(() => agent.streams[1]?.calls.length === 1);
  agent.streams[1]?.serve(...(agent.streams[1]?.calls ?? []));
  assert.equal(String(await call), '1');
});

test('a request larger than a message fails alone', async () => {
  await using agent = await new PipelineStub().start();
  const mortise = client(agent.socketPath);
  const calls = [mortise.generateRandom(1), mortise.encrypt('k', Buffer.alloc(4 * 1024 * 1024))] as const;
  await assert.rejects(calls[1], fails('TOO_LARGE'));
  await agent.until(() => agent.streams[0]?.calls.length === 1);
  agent.streams[0]?.serve(...(agent.streams[0]?.calls ?? []));
  assert.equal(String(await calls[0]), '1');
});

test('large requests share no message, small ones fill it', async () => {
  await using agent = await new PipelineStub().start();
  const mortise = client(agent.socketPath);
  const sizes = [300_000, 10, 10, 300_000, 250_000, 10_000];
  const calls = sizes.map((bytes) => mortise.mac('k', Buffer.alloc(bytes)));
  await agent.until(() => agent.streams[0]?.calls.length === sizes.length);
  const [stream] = agent.streams as [StubStream];
  assert.deepEqual(
    stream.messages.map((message) => message.calls.length),
    [1, 2, 1, 2],
  );
  const mac = Buffer.alloc(32);
  for (const { sequence } of stream.calls) {
    stream.answer({ sequence, answer: { $case: 'mac', value: { mac, envelope: undefined } } });
  }
  await Promise.allSettled(calls);
});

test('the answer of another operation is an error, not a guess', async () => {
  await using agent = await new PipelineStub().start();
  const call = client(agent.socketPath).generateRandom(1);
  await agent.until(() => agent.streams[0]?.calls.length === 1);
  agent.streams[0]?.answer({ sequence: 99, answer: undefined }, { sequence: 1, answer: undefined });
  await assert.rejects(call, fails('INTERNAL'));
});

test('closing the client fails what is in flight and what waits', async () => {
  await using agent = await new PipelineStub().start();
  agent.onStream = (stream) => stream.greet(1);
  const mortise = client(agent.socketPath);
  const calls = [mortise.generateRandom(1), mortise.generateRandom(2)];
  await agent.until(() => agent.streams[0]?.calls.length === 1);
  mortise.close();
  for (const call of calls) await assert.rejects(call, fails('CANCELLED'));
  await assert.rejects(mortise.generateRandom(3), fails('CANCELLED'));
});

test('a batch is one call; its operations settle each for itself', async () => {
  await using agent = await new StubAgent().start();
  const signed = { jws: 'a.b.c', signature: Buffer.alloc(0), envelope: undefined };
  agent.answers['batch'] = () => ({
    answers: [
      { sequence: 1, answer: { $case: 'generateRandom', value: { random: Buffer.from([7]) } } },
      errorAnswer(2, 'KEY_UNKNOWN', { metadata: { key: 'x' } }),
      { sequence: 3, answer: { $case: 'sign', value: signed } },
    ],
  });
  const mortise = client(agent.socketPath);
  const [random, key, wrong] = await mortise.batch(
    (each) => [
      each.generateRandom(1, { correlationId: 'first', deadlineMs: 70 }),
      each.keys.get('x'),
      each.mac('k', Buffer.alloc(1)),
    ],
    { correlationId: 'all' },
  );
  assert.deepEqual(random, { status: 'fulfilled', value: Buffer.from([7]) });
  assert.ok(key.status === 'rejected' && fails('KEY_UNKNOWN')(key.reason));
  assert.deepEqual([key.reason.metadata, key.reason.correlationId], [{ key: 'x' }, 'all']);
  assert.ok(wrong.status === 'rejected' && fails('INTERNAL')(wrong.reason));
  const [seen] = agent.calls;
  assert.deepEqual(seen?.metadata.get('x-correlation-id'), ['all']);
  assert.deepEqual(seen?.request.calls, [
    { sequence: 1, timeoutMs: 70, correlationId: 'first', request: { $case: 'generateRandom', value: { length: 1 } } },
    { sequence: 2, timeoutMs: 0, correlationId: '', request: { $case: 'getKey', value: { key: 'x' } } },
    {
      sequence: 3,
      timeoutMs: 0,
      correlationId: '',
      request: { $case: 'mac', value: { key: 'k', message: Buffer.alloc(1) } },
    },
  ]);
});

test('a batch that fails as a whole rejects; it is repeated only where all of it may be', async () => {
  await using agent = await new StubAgent().start();
  agent.answers['batch'] = () => {
    throw agentFailure('HSM_BUSY');
  };
  const mortise = client(agent.socketPath, { retry: { initialDelayMs: 1, maxAttempts: 3 } });
  await assert.rejects(
    mortise.batch((each) => [each.generateRandom(1), each.keys.rotate('k')]),
    fails('HSM_BUSY'),
  );
  assert.equal(agent.calls.length, 1);
  await assert.rejects(
    mortise.batch((each) => [each.generateRandom(1), each.keys.get('k')]),
    fails('HSM_BUSY'),
  );
  assert.equal(agent.calls.length, 4);
  assert.deepEqual(await mortise.batch(() => []), []);
  await assert.rejects(
    mortise
      .batch((each) => [each.generateRandom(1, { correlationId: 'not good' })])
      .then(([row]) => Promise.reject(row.status === 'rejected' && row.reason)),
    fails('INVALID_REQUEST'),
  );
  assert.equal(agent.calls.length, 4);
});

test('operations are not added to a batch that was sent', async () => {
  await using agent = await new StubAgent().start();
  const mortise = client(agent.socketPath);
  let late: Promise<unknown> | undefined;
  await mortise.batch((each) => {
    late = once(process, 'never', { signal: AbortSignal.abort() }).catch(() => each.generateRandom(1));
    return [];
  });
  await assert.rejects(late as Promise<unknown>, fails('INVALID_REQUEST'));
});
