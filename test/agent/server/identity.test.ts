// The identity room behind the real socket: what a caller can and cannot say about itself.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { status } from '@grpc/grpc-js';
import { createAuthenticator } from '../../../agent/identity/authenticate.ts';
import { createRefusalRecorder } from '../../../agent/identity/refusals.ts';
import { openReplayMemory } from '../../../agent/identity/replay.ts';
import type { Issuer, Workload } from '../../../agent/identity/types.ts';
import { temporaryFolder } from '../../support/folder.ts';
import { claimsOf, issuerOf, makeSigner, sign } from '../identity/support.ts';
import { clientsOf, failsWith, startServer, whoAmI } from './support.ts';

const clock = { now: () => Date.now() };
const seconds = Math.floor(Date.now() / 1000);
const fresh = (change: object = {}) => claimsOf({ iat: seconds, nbf: seconds, exp: seconds + 300, ...change });

const start = async (t: TestContext, issuers: readonly Issuer[], workloads: readonly Workload[] = []) => {
  const replay = openReplayMemory({ folder: join(temporaryFolder(t), 'identity'), clock });
  t.after(() => replay.close());
  const authenticator = createAuthenticator({
    clock,
    replay,
    policy: {
      issuers: () => issuers,
      workloads: () => workloads,
      revokedTokens: () => [],
      serves: () => true,
      tokenCacheSeconds: () => 60,
    },
    events: { refused: () => undefined },
  });
  const recorded: Record<string, unknown>[] = [];
  const refuse = createRefusalRecorder({ clock, audit: { append: async (event) => void recorded.push({ ...event }) } });
  const { path } = await startServer(t, { authenticate: authenticator.authenticate, refuse });
  const ask = (token?: string, more: Record<string, string> = {}) =>
    whoAmI(clientsOf(t, path).status, {
      metadata: { ...(token !== undefined && { authorization: `Bearer ${token}` }), ...more },
    });
  return { ask, recorded };
};

test('a bearer token makes the caller, and no header changes its tenant', async (t) => {
  const signer = await makeSigner('ES256');
  const { ask } = await start(t, [issuerOf([signer])]);
  const answer = await ask(await sign(signer, fresh()), {
    'x-tenant-id': 'green',
    tenant: 'green',
    'x-principal': 'root',
  });
  assert.deepEqual([answer.tenant, (answer as unknown as { principal: string }).principal], ['blue', 'payments']);
});

test('a stranger stands in the log of the host with its uid', async (t) => {
  const { ask, recorded } = await start(t, []);
  await assert.rejects(ask(), failsWith(status.UNAUTHENTICATED, 'UNAUTHENTICATED'));
  await assert.rejects(ask('a.b.c'), failsWith(status.UNAUTHENTICATED, 'UNAUTHENTICATED'));
  assert.deepEqual(
    recorded.map(({ tenant, operation, outcome }) => [tenant, operation, outcome]),
    Array(2).fill(['_platform', 'who-am-i', 'UNAUTHENTICATED']),
  );
  const peer = { uid: process.getuid?.(), gid: process.getgid?.(), pid: process.pid };
  assert.deepEqual(recorded[0]?.['detail'], peer);
});

test('a single-use token is good for one call over the socket', async (t) => {
  const signer = await makeSigner('Ed25519');
  const { ask } = await start(t, [issuerOf([signer], { singleUse: true })]);
  const token = await sign(signer, fresh({ jti: 'once' }));
  const results = await Promise.allSettled([ask(token), ask(token), ask(token)]);
  assert.equal(results.filter(({ status: how }) => how === 'fulfilled').length, 1);
  await assert.rejects(ask(token), failsWith(status.UNAUTHENTICATED, 'TOKEN_REPLAYED'));
});

test('an expired token says so', async (t) => {
  const signer = await makeSigner('ES256');
  const { ask } = await start(t, [issuerOf([signer])]);
  const token = await sign(signer, fresh({ iat: seconds - 60, nbf: seconds - 60, exp: seconds - 1 }));
  await assert.rejects(ask(token), failsWith(status.UNAUTHENTICATED, 'TOKEN_EXPIRED'));
});

test('the uid of the process is enough where the policy maps it', async (t) => {
  const uid = process.getuid?.() ?? 0;
  const { ask } = await start(t, [], [{ uid, tenant: 'green', principal: 'daemon', scopes: ['keys.read'] }]);
  const answer = (await ask()) as unknown as { principal: string; authenticatedBy: string; scopes: string[] };
  assert.deepEqual([answer.principal, answer.authenticatedBy, answer.scopes], ['daemon', 'peer', ['keys.read']]);
  await assert.rejects(ask('a.b.c'), failsWith(status.UNAUTHENTICATED, 'UNAUTHENTICATED'));
});
