import assert from 'node:assert/strict';
import { test } from 'node:test';
import { connect, MortiseError } from '../../clients/typescript/index.ts';
import { agentFailure, type Seen, StubAgent } from './stub-agent.ts';

const jwt = (name: string, expiresInSeconds: number): string => {
  const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');
  return `${part({ alg: 'none' })}.${part({ sub: name, exp: Math.floor(Date.now() / 1000) + expiresInSeconds })}.x`;
};
const ME = { tenant: 'acme', principal: 'p', scopes: [], authenticatedBy: 'jwt', uid: 0, gid: 0, pid: 1 };
const sent = (agent: StubAgent) => agent.calls.map((seen) => seen.metadata.get('authorization')[0]);

test('the provider runs when the first call needs it, once for all calls', async () => {
  await using agent = await new StubAgent().start();
  agent.answers['whoAmI'] = () => ME;
  const token = jwt('a', 300);
  let runs = 0;
  using client = connect({
    socketPath: agent.socketPath,
    token: async () => {
      runs += 1;
      return token;
    },
  });
  assert.equal(runs, 0);
  await Promise.all([client.whoAmI(), client.whoAmI(), client.whoAmI()]);
  await client.whoAmI();
  assert.equal(runs, 1);
  assert.deepEqual(sent(agent), Array(4).fill(`Bearer ${token}`));
});

test('white space round a token, as at the end of a file, is dropped', async () => {
  await using agent = await new StubAgent().start();
  agent.answers['whoAmI'] = () => ME;
  for (const token of ['abc\n', async () => ' abc\r\n']) {
    using client = connect({ socketPath: agent.socketPath, token });
    await client.whoAmI();
  }
  assert.deepEqual(sent(agent), ['Bearer abc', 'Bearer abc']);
});

test('a token near its exp is renewed before the call', async () => {
  await using agent = await new StubAgent().start();
  agent.answers['whoAmI'] = () => ME;
  const tokens = [jwt('a', 3), jwt('b', 300), jwt('c', 300)];
  using client = connect({ socketPath: agent.socketPath, token: async () => tokens.shift() as string });
  await client.whoAmI();
  await client.whoAmI();
  await client.whoAmI();
  assert.equal(tokens.length, 1);
  assert.equal(new Set(sent(agent)).size, 2);
});

test('TOKEN_EXPIRED renews the token once and repeats the call, a rotation too', async () => {
  await using agent = await new StubAgent().start();
  const names = ['old', 'new'];
  agent.answers['rotateTenantKek'] = ({ metadata }: Seen) => {
    if (metadata.get('authorization')[0] === 'Bearer old') throw agentFailure('TOKEN_EXPIRED');
    return { version: 2, rewrapped: 5n };
  };
  using client = connect({ socketPath: agent.socketPath, token: () => names.shift() ?? 'none left' });
  assert.deepEqual(await client.keys.rotateTenantKek(), { version: 2, rewrapped: 5 });
  assert.deepEqual(sent(agent), ['Bearer old', 'Bearer new']);
});

test('a provider that keeps giving expired tokens is asked only once more per call', async () => {
  await using agent = await new StubAgent().start();
  agent.answers['whoAmI'] = () => {
    throw agentFailure('TOKEN_EXPIRED');
  };
  let runs = 0;
  using client = connect({
    socketPath: agent.socketPath,
    token: () => {
      runs += 1;
      return `t${runs}`;
    },
  });
  await assert.rejects(client.whoAmI(), { code: 'TOKEN_EXPIRED' });
  assert.equal(runs, 2);
});

test('single-use tokens: the provider runs for every attempt', async () => {
  await using agent = await new StubAgent().start();
  let failed = false;
  agent.answers['whoAmI'] = () => {
    if (failed) return ME;
    failed = true;
    throw agentFailure('HSM_BUSY');
  };
  let runs = 0;
  using client = connect({
    socketPath: agent.socketPath,
    reuseToken: false,
    retry: { initialDelayMs: 1 },
    token: async () => {
      runs += 1;
      return jwt(`t${runs}`, 300);
    },
  });
  await client.whoAmI();
  await client.whoAmI();
  assert.equal(new Set(sent(agent)).size, 3);
});

test('a provider that fails is UNAUTHENTICATED with its cause, and is asked again by the next call', async () => {
  await using agent = await new StubAgent().start();
  agent.answers['whoAmI'] = () => ME;
  let broken = true;
  using client = connect({
    socketPath: agent.socketPath,
    token: async () => {
      if (broken) throw new Error('issuer is down');
      return 'fresh';
    },
  });
  await assert.rejects(client.whoAmI(), (error: unknown) => {
    assert.ok(error instanceof MortiseError);
    assert.equal(error.code, 'UNAUTHENTICATED');
    assert.equal((error.cause as Error).message, 'issuer is down');
    return true;
  });
  broken = false;
  assert.equal((await client.whoAmI()).tenant, 'acme');
});

test('a provider that hangs ends the call at its deadline, or when it is aborted', async () => {
  using client = connect({ socketPath: '/nonexistent', token: () => new Promise<string>(() => undefined) });
  // The deadline's own timer does not keep a process alive, so something else must.
  const alive = setInterval(() => undefined, 1000);
  try {
    await assert.rejects(client.whoAmI({ deadlineMs: 50 }), { code: 'DEADLINE_EXCEEDED' });
    const abort = new AbortController();
    const waiting = client.whoAmI({ signal: abort.signal });
    abort.abort();
    await assert.rejects(waiting, { code: 'CANCELLED' });
  } finally {
    clearInterval(alive);
  }
});
