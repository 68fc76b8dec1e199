import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { AgentError, type Code } from '../../../agent/errors.ts';
import { createAuthenticator } from '../../../agent/identity/authenticate.ts';
import type { Issuer, Workload } from '../../../agent/identity/types.ts';
import { claimsOf, issuerOf, makeSigner, NOW, type Signer, sign, testClock } from './support.ts';

const PEER = { uid: 1001, gid: 100, pid: 42 };
let signer: Signer;
before(async () => {
  signer = await makeSigner('ES256');
});

interface Setting {
  issuers?: readonly Issuer[];
  workloads?: readonly Workload[];
  revoked?: readonly string[];
  revokedOfGreen?: readonly string[];
  cacheSeconds?: number;
  /** Tenants that the host was not enrolled for. */
  away?: readonly string[];
  store?: 'broken';
}

const setUp = (setting: Setting = {}) => {
  const clock = testClock();
  const state = { issuers: [issuerOf([signer])] as readonly Issuer[], ...setting };
  const used = new Set<string>();
  const refusals: { code: string; reason: string }[] = [];
  const authenticator = createAuthenticator({
    clock,
    policy: {
      issuers: () => state.issuers,
      workloads: () => state.workloads ?? [],
      revokedTokens: (tenant) => (tenant === 'green' ? state.revokedOfGreen : undefined) ?? state.revoked ?? [],
      serves: (tenant) => !state.away?.includes(tenant),
      tokenCacheSeconds: () => state.cacheSeconds ?? 60,
    },
    replay: {
      take: async ({ issuer, id }) => {
        if (state.store === 'broken') throw new AgentError('STORE_UNAVAILABLE');
        const first = !used.has(`${issuer} ${id}`);
        used.add(`${issuer} ${id}`);
        return first;
      },
    },
    events: { refused: (event) => refusals.push(event) },
  });
  const authenticate = async (authorization: readonly string[], peer = PEER) =>
    authenticator.authenticate({ peer, authorization });
  const ask = (token?: string, peer = PEER) => authenticate(token === undefined ? [] : [`Bearer ${token}`], peer);
  return { clock, state, refusals, authenticator, authenticate, ask };
};

const code = (expected: Code) => (error: unknown) => error instanceof AgentError && error.code === expected;

const BY_UID: Workload = { uid: 1001, tenant: 'blue', principal: 'host-daemon', scopes: ['crypto.sign'] };

test('a stranger without credentials is refused, and the reason stays inside', async () => {
  const { ask, refusals } = setUp();
  await assert.rejects(ask(), (error) => {
    assert.ok(error instanceof AgentError);
    assert.equal(error.message, 'no valid credentials');
    return error.code === 'UNAUTHENTICATED';
  });
  assert.match(refusals[0]?.reason ?? '', /neither uid nor gid/);
});

test('the policy maps a uid, or else a gid, to a principal', async () => {
  const byGid: Workload = { gid: 100, tenant: 'green', principal: 'group', scopes: ['keys.read', 'future'] };
  const { ask } = setUp({ workloads: [byGid, BY_UID] });
  const one = await ask();
  assert.deepEqual([one.tenant, one.principal, one.authenticatedBy], ['blue', 'host-daemon', 'peer']);
  const two = await ask(undefined, { uid: 1002, gid: 100, pid: 1 });
  assert.deepEqual([two.tenant, two.principal, [...two.scopes]], ['green', 'group', ['keys.read']]);
  await assert.rejects(ask(undefined, { uid: 1002, gid: 1001, pid: 1001 }), code('UNAUTHENTICATED'));
});

test('a token that is wrong is not made good by the peer', async () => {
  const { authenticate, ask } = setUp({ workloads: [BY_UID] });
  await assert.rejects(ask('x.y.z'), code('UNAUTHENTICATED'));
  const token = await sign(signer);
  for (const authorization of [
    [''],
    ['Basic abc'],
    ['Bearer'],
    [`Bearer  ${token}`],
    [`Bearer ${token} x`],
    [token],
    [`Bearer ${token}`, `Bearer ${token}`],
  ]) {
    await assert.rejects(authenticate(authorization), code('UNAUTHENTICATED'));
  }
  await authenticate([`bearer ${token}`]);
});

test('a cached token is judged at once, and anew for each call of one stream', async () => {
  const { authenticator, state, clock, refusals } = setUp({ workloads: [] });
  const credentials = { peer: PEER, authorization: [`Bearer ${await sign(signer)}`] };
  assert.ok(authenticator.authenticate(credentials) instanceof Promise, 'its signature is checked');
  await authenticator.authenticate(credentials);
  const identity = authenticator.authenticate(credentials);
  assert.ok(!(identity instanceof Promise), 'nothing to wait for');
  state.revoked = [`sub:${identity.principal}`];
  await assert.rejects(async () => authenticator.authenticate(credentials), code('UNAUTHENTICATED'));
  state.revoked = [];
  assert.ok(!(authenticator.authenticate(credentials) instanceof Promise));
  authenticator.policyChanged();
  const underNewPolicy = authenticator.authenticate(credentials);
  assert.ok(underNewPolicy instanceof Promise, 'the cache is empty');
  await underNewPolicy;
  clock.advance(3600_000);
  await assert.rejects(async () => authenticator.authenticate(credentials), code('TOKEN_EXPIRED'));
  assert.equal(refusals.length, 2);
});

test('token and peer must speak for one tenant; then the token names principal and scopes', async () => {
  const { ask } = setUp({ workloads: [BY_UID] });
  const both = await ask(await sign(signer));
  assert.deepEqual([both.tenant, both.principal, both.authenticatedBy], ['blue', 'payments', 'jwt']);
  assert.deepEqual([...both.scopes].sort(), ['crypto.decrypt', 'crypto.encrypt']);
  await assert.rejects(ask(await sign(signer, claimsOf({ tenant: 'green' }))), code('UNAUTHENTICATED'));
});

test('a cached token ends with its exp', async () => {
  const { ask, clock } = setUp();
  const token = await sign(signer, claimsOf({ exp: NOW / 1000 + 10 }));
  await ask(token);
  clock.advance(9_999);
  await ask(token);
  clock.advance(1);
  await assert.rejects(ask(token), code('TOKEN_EXPIRED'));
});

test('a cached token is verified again after the time that the policy sets', async () => {
  const { ask, clock, state } = setUp({ cacheSeconds: 30 });
  const token = await sign(signer);
  await ask(token);
  state.issuers = [];
  clock.advance(29_999);
  await ask(token);
  clock.advance(1);
  await assert.rejects(ask(token), code('UNAUTHENTICATED'));
});

test('a new policy empties the cache at once', async () => {
  const { ask, state, authenticator } = setUp();
  const token = await sign(signer);
  await ask(token);
  state.issuers = [];
  authenticator.policyChanged();
  await assert.rejects(ask(token), code('UNAUTHENTICATED'));
});

test('a token verified while the policy changed does not enter the cache', async () => {
  const { ask, state, authenticator } = setUp();
  const token = await sign(signer);
  const underWay = ask(token);
  state.issuers = [];
  authenticator.policyChanged();
  await underWay;
  await assert.rejects(ask(token), code('UNAUTHENTICATED'));
});

test('a clock set back makes a cached token not valid yet', async () => {
  const { ask, clock } = setUp();
  const token = await sign(signer);
  await ask(token);
  clock.advance(-10_000);
  await assert.rejects(ask(token), code('UNAUTHENTICATED'));
});

test('revocation by jti or by subject stops a cached token on the next call', async () => {
  for (const entry of ['one', 'sub:payments']) {
    const { ask, state } = setUp();
    const token = await sign(signer, claimsOf({ jti: 'one' }));
    await ask(token);
    state.revoked = [entry];
    await assert.rejects(ask(token), code('UNAUTHENTICATED'));
    state.revoked = ['payments', 'sub:one'];
    await ask(token);
  }
});

test('an identity says later on whether its credentials still stand', async () => {
  const { ask, clock, state } = setUp();
  const identity = await ask(await sign(signer, claimsOf({ exp: NOW / 1000 + 10 })));
  identity.stands?.();
  state.revoked = ['sub:payments'];
  assert.throws(() => identity.stands?.(), code('UNAUTHENTICATED'));
  state.revoked = [];
  clock.advance(9_999);
  identity.stands?.();
  clock.advance(1);
  assert.throws(() => identity.stands?.(), code('TOKEN_EXPIRED'));
});

test('a tenant that the host was not enrolled for has no callers here, by token or by peer', async () => {
  const { ask, state, refusals } = setUp({ workloads: [BY_UID] });
  const token = await sign(signer);
  assert.equal((await ask(token)).tenant, 'blue');
  state.away = ['blue'];
  await assert.rejects(ask(token), code('POLICY_DENIED'));
  await assert.rejects(ask(), code('POLICY_DENIED'));
  assert.deepEqual(
    refusals.map((refusal) => refusal.code),
    ['POLICY_DENIED', 'POLICY_DENIED'],
  );
});

test('a tenant revokes its own tokens only', async () => {
  const { ask } = setUp({ revokedOfGreen: ['sub:payments'] });
  await ask(await sign(signer));
  await assert.rejects(ask(await sign(signer, claimsOf({ tenant: 'green' }))), code('UNAUTHENTICATED'));
});

test('a single-use token works once, also for two calls at the same time', async () => {
  const { ask } = setUp({ issuers: [issuerOf([signer], { singleUse: true })] });
  const token = await sign(signer, claimsOf({ jti: 'one' }));
  const results = await Promise.allSettled([ask(token), ask(token), ask(token)]);
  assert.equal(results.filter(({ status }) => status === 'fulfilled').length, 1);
  await assert.rejects(ask(token), code('TOKEN_REPLAYED'));
});

test('a replay memory that cannot be written lets nobody in', async () => {
  const { ask } = setUp({ issuers: [issuerOf([signer], { singleUse: true })], store: 'broken' });
  await assert.rejects(ask(await sign(signer, claimsOf({ jti: 'one' }))), code('STORE_UNAVAILABLE'));
});

test('a uid that keeps sending bad tokens has to wait; other uids and cached tokens do not', async () => {
  const { ask, clock } = setUp();
  const good = await sign(signer);
  await ask(good);
  const bad = await sign(signer, claimsOf({ tenant: 'red' }));
  let waitMs: number | undefined;
  for (let count = 0; count < 600 && waitMs === undefined; count += 1) {
    await ask(bad).catch((error: AgentError) => {
      if (error.code === 'RATE_LIMITED') waitMs = error.retryAfterMs;
    });
  }
  assert.ok(waitMs !== undefined && waitMs > 0);
  await ask(good);
  const fresh = await sign(signer, claimsOf({ sub: 'second' }));
  await assert.rejects(ask(fresh), code('RATE_LIMITED'));
  await ask(fresh, { uid: 1002, gid: 100, pid: 7 });
  clock.advance(waitMs);
  await ask(await sign(signer, claimsOf({ sub: 'third' })));
});
