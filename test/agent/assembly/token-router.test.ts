// Which token a call reaches, by its tenant.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TokenRouter } from '../../../agent/assembly/token-router.ts';
import type { TokenSlot } from '../../../agent/assembly/token-slot.ts';
import { tokenPart, tokenStates } from '../../../agent/assembly/token-states.ts';
import { AgentError } from '../../../agent/errors.ts';
import type { TokenCall } from '../../../agent/operations/ports/token.ts';

const call = (tenant: string, owner?: string): TokenCall => ({
  tenant,
  ...(owner !== undefined && { owner }),
  deadline: Date.now() + 1000,
  signal: new AbortController().signal,
});

/** Three tokens that note what reaches them; one that is `down` fails every call. */
const setUp = (down: ReadonlySet<string> = new Set()) => {
  const seen: string[] = [];
  const slot = (name: string): TokenSlot =>
    new Proxy({} as TokenSlot, {
      get: (_, method) => {
        if (method === 'token') return undefined;
        if (method === 'health') {
          return () => ({ healthy: !down.has(name), state: 'ready', detail: down.has(name) ? 'gone' : 'ready' });
        }
        return (...args: unknown[]) => {
          seen.push(`${name} ${String(method)}`);
          if (method === 'canHold') return { ok: true, args };
          return down.has(name) ? Promise.reject(new AgentError('HSM_UNAVAILABLE')) : Promise.resolve(Buffer.of(1));
        };
      },
    });
  const row = (name: string, tenants: readonly string[] | 'others') => ({
    name,
    tenants,
    certificate: undefined,
    slot: slot(name),
  });
  const router = new TokenRouter({
    agent: 'own',
    slots: [row('own', ['acme']), row('luna', ['globex', 'initech']), row('rest', 'others')],
  });
  return { router, seen };
};

test('each operation reaches the token of its tenant, and no other', async () => {
  const gcm = { iv: Buffer.alloc(12), aad: Buffer.alloc(0), data: Buffer.alloc(1) };
  const made = { algorithm: 'AES-256', purpose: 'encrypt', label: 'x', tokenId: '00', material: [] } as const;
  for (const [tenant, token] of [
    ['acme', 'own'],
    ['globex', 'luna'],
    ['unheard-of', 'rest'],
    ['_platform', 'own'],
  ]) {
    const { router, seen } = setUp();
    const of = call(tenant as string);
    await router.generate(made, of);
    await router.create(made, of);
    await router.find('x', of);
    await router.destroy('00', of);
    await router.gcmEncrypt('00', gcm, of);
    await router.gcmDecrypt('00', gcm, of);
    await router.sign('00', 'ES256', Buffer.alloc(32), of);
    await router.mac('00', 'HS256', Buffer.alloc(32), of);
    await router.oaepDecrypt('00', Buffer.alloc(32), of);
    await router.ecdh('00', Buffer.alloc(32), of);
    await router.decapsulate('00', Buffer.alloc(32), of);
    await router.random(8, of);
    await router.rewrap({ tokenId: '00', data: Buffer.alloc(1) }, { tokenId: '01', iv: Buffer.alloc(12) }, 32, of);
    router.canHold('AES-256', 'encrypt', tenant);
    assert.equal(seen.length, 14);
    assert.deepEqual([...new Set(seen.map((line) => line.split(' ')[0]))], [token], tenant);
  }
});

test('what the agent does of itself to a tenant’s object reaches the tenant’s token; of nobody’s object, every token', async () => {
  const { router, seen } = setUp();
  await router.destroy('00', call('_platform', 'globex'));
  assert.deepEqual(seen.splice(0), ['luna destroy']);
  await router.destroy('00', call('_platform', '*'));
  assert.deepEqual(seen.sort(), ['luna destroy', 'own destroy', 'rest destroy']);
});

test('a tenant that no token is for is refused, and cannot hold anything', async () => {
  const { router } = setUp();
  const bound = new TokenRouter({ agent: 'own', slots: router.all.filter(({ tenants }) => tenants !== 'others') });
  await assert.rejects(bound.random(8, call('unheard-of')), { code: 'HSM_UNSUPPORTED' });
  assert.equal(bound.canHold('AES-256', 'encrypt', 'unheard-of').ok, false);
  assert.equal(tokenPart(bound, 'unheard-of').healthy, false);
});

test('the agent’s random bytes come from another token while its own is away; a tenant’s do not', async () => {
  const { router, seen } = setUp(new Set(['own']));
  await assert.rejects(router.random(8, call('_platform')), { code: 'HSM_UNAVAILABLE' });
  assert.equal((await router.random(8, call('_platform'))).length, 1);
  await assert.rejects(router.random(8, call('acme')), { code: 'HSM_UNAVAILABLE' });
  assert.deepEqual(seen, ['own random', 'luna random', 'own random']);
});

test('the platform is told which token is broken; a tenant hears of its own alone', () => {
  const { router } = setUp(new Set(['luna']));
  assert.deepEqual(tokenPart(router, '_platform'), { part: 'token', healthy: false, detail: 'luna: gone' });
  assert.deepEqual(tokenPart(router, 'acme'), { part: 'token', healthy: true, detail: 'ready' });
  assert.deepEqual(tokenPart(router, 'globex'), { part: 'token', healthy: false, detail: 'gone' });
  assert.deepEqual(
    tokenStates(router, '_platform', 0).map(({ name, healthy }) => [name, healthy]),
    [
      ['own', true],
      ['luna', false],
      ['rest', true],
    ],
  );
  assert.deepEqual(
    tokenStates(router, 'acme', 0).map(({ name }) => name),
    ['own'],
  );
});
