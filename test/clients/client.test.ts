import assert from 'node:assert/strict';
import { test } from 'node:test';
import { connect, MortiseError, type MortiseErrorCode } from '../../clients/typescript/index.ts';
import { agentFailure, ENVELOPE, type Seen, StubAgent } from './stub-agent.ts';

const QUICK = { initialDelayMs: 1, maxDelayMs: 5 };

const failure = async (promise: Promise<unknown>): Promise<MortiseError> => {
  const error = await promise.then(
    () => assert.fail('the call succeeded'),
    (thrown: unknown) => thrown,
  );
  assert.ok(error instanceof MortiseError, String(error));
  return error;
};
const rejectsWith = async (promise: Promise<unknown>, code: MortiseErrorCode): Promise<MortiseError> => {
  const error = await failure(promise);
  assert.equal(error.code, code, error.message);
  return error;
};

/** Answers with each outcome in turn: an Error is thrown, anything else is the answer. */
const inTurn = (...outcomes: unknown[]) => {
  const left = [...outcomes];
  return () => {
    const next = left.length > 1 ? left.shift() : left[0];
    if (next instanceof Error) throw next;
    return next;
  };
};
const RANDOM = { random: Buffer.from([1, 2, 3]) };

test('a call carries its token, correlation id and deadline', async () => {
  await using agent = await new StubAgent().start();
  agent.answers['generateRandom'] = () => RANDOM;
  using client = connect({ socketPath: agent.socketPath, token: 'abc.def.ghi' });
  const before = Date.now();
  const random = await client.generateRandom(3, { correlationId: 'order-17', deadlineMs: 4000 });
  assert.deepEqual(random, Buffer.from([1, 2, 3]));
  const seen = agent.calls[0] as Seen;
  assert.deepEqual(seen.metadata.get('authorization'), ['Bearer abc.def.ghi']);
  assert.deepEqual(seen.metadata.get('x-correlation-id'), ['order-17']);
  assert.ok(seen.deadline >= before + 3000 && seen.deadline <= Date.now() + 4000, 'the deadline that was given');
  assert.deepEqual(seen.request, { length: 3 });
});

test('without a correlation id each call gets one of its own', async () => {
  await using agent = await new StubAgent().start();
  agent.answers['generateRandom'] = () => RANDOM;
  using client = connect({ socketPath: agent.socketPath });
  await client.generateRandom(3);
  await client.generateRandom(3);
  const [first, second] = agent.calls.map((seen) => seen.metadata.get('x-correlation-id')[0]);
  assert.match(String(first), /^[0-9a-f-]{36}$/);
  assert.notEqual(first, second);
  assert.deepEqual(agent.calls[0]?.metadata.get('authorization'), []);
});

test('a bad correlation id or token is refused here, and the token is not quoted', async () => {
  using client = connect({ socketPath: '/nonexistent', token: 'secret\ntoken' });
  const bad = await rejectsWith(client.whoAmI({ correlationId: 'a b' }), 'INVALID_REQUEST');
  assert.equal(bad.fields[0]?.field, 'correlationId');
  const token = await rejectsWith(client.whoAmI(), 'UNAUTHENTICATED');
  assert.doesNotMatch(`${token.stack} ${JSON.stringify(token)}`, /secret/);
});

for (const code of ['HSM_BUSY', 'HSM_UNAVAILABLE', 'RATE_LIMITED', 'AUDIT_UNAVAILABLE', 'SHUTTING_DOWN'] as const) {
  test(`a safe call is repeated after ${code}, under one correlation id`, async () => {
    await using agent = await new StubAgent().start();
    agent.answers['encrypt'] = inTurn(agentFailure(code), agentFailure(code), { jwe: 'e.e.e', envelope: ENVELOPE });
    using client = connect({ socketPath: agent.socketPath, retry: QUICK });
    const { jwe, envelope } = await client.encrypt('orders', Buffer.from('x'));
    assert.equal(jwe, 'e.e.e');
    assert.deepEqual(envelope, ENVELOPE);
    assert.equal(agent.calls.length, 3);
    assert.equal(new Set(agent.calls.map((seen) => seen.metadata.get('x-correlation-id')[0])).size, 1);
  });
}

for (const code of ['POLICY_DENIED', 'KEY_STATE', 'INVALID_CIPHERTEXT', 'INTERNAL', 'TOKEN_EXPIRED'] as const) {
  test(`${code} is not repeated`, async () => {
    await using agent = await new StubAgent().start();
    agent.answers['encrypt'] = inTurn(agentFailure(code));
    using client = connect({ socketPath: agent.socketPath, retry: QUICK, token: 'fixed' });
    await rejectsWith(client.encrypt('orders', Buffer.from('x')), code);
    assert.equal(agent.calls.length, 1);
  });
}

test('what could act twice is not repeated, whatever the error', async () => {
  await using agent = await new StubAgent().start();
  for (const method of ['rotateKey', 'updateKey', 'rotateTenantKek']) {
    agent.answers[method] = inTurn(agentFailure('HSM_BUSY'));
  }
  using client = connect({ socketPath: agent.socketPath, retry: QUICK });
  await rejectsWith(client.keys.rotate('k'), 'HSM_BUSY');
  await rejectsWith(client.keys.update('k', { labels: { a: 'b' } }), 'HSM_BUSY');
  await rejectsWith(client.keys.rotateTenantKek(), 'HSM_BUSY');
  assert.equal(agent.calls.length, 3);
  await rejectsWith(client.keys.rotate('k', { expectedVersion: 1 }), 'HSM_BUSY');
  assert.equal(agent.calls.length, 3 + 10);
});

test('repeats end with maxAttempts, and retry: false makes none', async () => {
  await using agent = await new StubAgent().start();
  agent.answers['whoAmI'] = inTurn(agentFailure('HSM_BUSY'));
  using three = connect({ socketPath: agent.socketPath, retry: { ...QUICK, maxAttempts: 3 } });
  await rejectsWith(three.whoAmI(), 'HSM_BUSY');
  assert.equal(agent.calls.length, 3);
  using one = connect({ socketPath: agent.socketPath, retry: false });
  await rejectsWith(one.whoAmI(), 'HSM_BUSY');
  assert.equal(agent.calls.length, 4);
});

test('a wait that would pass the deadline ends the call with the error at hand', async () => {
  await using agent = await new StubAgent().start();
  agent.answers['whoAmI'] = inTurn(agentFailure('RATE_LIMITED', { retryAfterMs: 60_000 }));
  using client = connect({ socketPath: agent.socketPath, deadlineMs: 5000 });
  const error = await rejectsWith(client.whoAmI(), 'RATE_LIMITED');
  assert.equal(error.retryAfterMs, 60_000);
  assert.equal(agent.calls.length, 1);
});

test('a silent agent ends the call at its deadline', async () => {
  await using agent = await new StubAgent().start();
  agent.answers['whoAmI'] = ({ cancelled }) => cancelled;
  using client = connect({ socketPath: agent.socketPath });
  await rejectsWith(client.whoAmI({ deadlineMs: 100 }), 'DEADLINE_EXCEEDED');
});

test('an abort cancels the call at the agent', async () => {
  await using agent = await new StubAgent().start();
  const abort = new AbortController();
  agent.answers['whoAmI'] = ({ cancelled }) => {
    abort.abort();
    return cancelled;
  };
  using client = connect({ socketPath: agent.socketPath });
  await rejectsWith(client.whoAmI({ signal: abort.signal }), 'CANCELLED');
  await agent.calls[0]?.cancelled;
  await rejectsWith(client.whoAmI({ signal: abort.signal }), 'CANCELLED');
  assert.equal(agent.calls.length, 1, 'an aborted signal stops the call before it is sent');
});

test('an abort ends the wait between two attempts', async () => {
  await using agent = await new StubAgent().start();
  const abort = new AbortController();
  agent.answers['whoAmI'] = () => {
    setImmediate(() => abort.abort());
    throw agentFailure('RATE_LIMITED', { retryAfterMs: 4000 });
  };
  using client = connect({ socketPath: agent.socketPath });
  await rejectsWith(client.whoAmI({ signal: abort.signal }), 'CANCELLED');
});

test('the client finds an agent that was restarted on the same path', async () => {
  await using agent = await new StubAgent().start();
  agent.answers['whoAmI'] = () => ({
    tenant: 'acme',
    principal: 'p',
    scopes: [],
    authenticatedBy: 'peer',
    uid: 0,
    gid: 0,
    pid: 1,
  });
  using client = connect({ socketPath: agent.socketPath });
  assert.equal((await client.whoAmI()).tenant, 'acme');
  agent.kill();
  const waiting = client.whoAmI();
  await agent.start();
  assert.equal((await waiting).tenant, 'acme');
});

test('a call in flight when the agent dies is made again where that is safe', async () => {
  await using agent = await new StubAgent().start();
  let first = true;
  const arrived = Promise.withResolvers<void>();
  agent.answers['generateRandom'] = async ({ cancelled }) => {
    if (!first) return RANDOM;
    first = false;
    arrived.resolve();
    await cancelled;
    return RANDOM;
  };
  agent.answers['rotateKey'] = agent.answers['generateRandom'];
  using client = connect({ socketPath: agent.socketPath });
  const waiting = client.generateRandom(3);
  await arrived.promise;
  agent.kill();
  await agent.start();
  assert.deepEqual(await waiting, RANDOM.random);
  assert.equal(agent.calls.length, 2);
});

test('no agent on the path is AGENT_UNREACHABLE', async () => {
  using client = connect({ socketPath: '/nonexistent/agent.sock', retry: { ...QUICK, maxAttempts: 2 } });
  const error = await rejectsWith(client.whoAmI(), 'AGENT_UNREACHABLE');
  assert.equal(error.retryable, true);
  assert.ok(error.correlationId);
});

test('a closed client refuses calls', async () => {
  const client = connect({ socketPath: '/nonexistent/agent.sock' });
  client.close();
  await rejectsWith(client.whoAmI(), 'CANCELLED');
});

test('health: the whole agent, a broken part, a part that does not exist, an agent without the service', async () => {
  await using agent = new StubAgent();
  agent.health = { '': 'SERVING', token: 'NOT_SERVING' };
  await agent.start();
  using client = connect({ socketPath: agent.socketPath });
  assert.equal(await client.health(), 'SERVING');
  assert.equal(await client.health('token'), 'NOT_SERVING');
  assert.equal(await client.health('oracle'), 'SERVICE_UNKNOWN');
  await using without = await new StubAgent().start();
  using other = connect({ socketPath: without.socketPath });
  await rejectsWith(other.health(), 'UNIMPLEMENTED');
});
