// The end of keys: what the reaper destroys, when, again after failures, and that nothing of it goes unrecorded; and
// that a crash leaves no token object that nobody knows.
import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import type { TokenCall } from '../../../agent/operations/ports/token.ts';
import type { KeyRecord } from '../../../proto/documents/key-record.ts';
import { FakeToken } from '../../fakes/token.ts';
import { aRecord, aVersion } from '../../support/key-records.ts';
import { HOUR, openWorld, type World } from './world.ts';

const tokenCall = (): TokenCall => ({
  tenant: 'acme',
  deadline: Date.now() + 30_000,
  signal: new AbortController().signal,
});
const LABEL = 'mortise:key:acme:invoices:v1:A256GCMKW';

const setUp = (t: TestContext): { world: World; token: FakeToken } => {
  const token = new FakeToken();
  return { world: openWorld(t, { token }), token };
};

const generate = (world: World) =>
  world.keys.objects.generate(
    { tenant: 'acme', keyId: 'invoices', version: 1, algorithm: 'AES-256', purpose: 'encrypt', jose: 'A256GCMKW' },
    tokenCall(),
  );

/** A key with one object in the token, whose undo window ends in an hour. */
const pending = async (world: World): Promise<KeyRecord> => {
  const { tokenId } = await generate(world);
  const record = aRecord({
    state: 'PENDING_DESTRUCTION',
    stateBefore: 'ACTIVE',
    destroyAt: world.now + HOUR,
    versions: [aVersion({ tokenId })],
  });
  await world.keys.catalog.insert(record);
  return record;
};

const stored = (world: World): KeyRecord => world.keys.catalog.get('acme', 'invoices') as KeyRecord;
const inToken = (token: FakeToken): Promise<unknown> => token.find(LABEL, tokenCall());

describe('the reaper', () => {
  test('leaves a key alone within its window', async (t) => {
    const { world, token } = setUp(t);
    const record = await pending(world);
    world.now += HOUR - 1;
    await world.keys.reaper.run();
    assert.deepEqual(stored(world), record);
    assert.ok(await inToken(token));
    assert.deepEqual(world.records, []);
  });

  test('destroys the object and the use counts at the end of the window, with both ends in the audit log', async (t) => {
    const { world, token } = setUp(t);
    const record = await pending(world);
    await world.keys.catalog.use(record);
    world.now += HOUR;
    await world.keys.reaper.run();
    assert.equal(stored(world).state, 'DESTROYED');
    assert.deepEqual(
      stored(world).versions.map((row) => [row.state, row.tokenId]),
      [['DESTROYED', undefined]],
    );
    assert.equal(await inToken(token), undefined);
    assert.deepEqual(
      world.records.map((row) => [row.tenant, row.principal, row.key, row.operation, row.outcome]),
      [
        ['acme', '-', 'invoices', 'destroy-key', 'intent'],
        ['acme', '-', 'invoices', 'destroy-key', 'ok'],
      ],
    );
    assert.deepEqual(world.records[1]?.detail?.['newState'], 'DESTROYED');
    assert.deepEqual(world.seen('destroyed'), [{ tenant: 'acme', keyId: 'invoices', objects: 1 }]);
    await world.keys.reaper.run();
    assert.equal(world.records.length, 2, 'done once');
  });

  test('destroys after a restart what fell due while the agent was down', async (t) => {
    const { world, token } = setUp(t);
    await pending(world);
    await world.reopen('closed');
    world.now += 2 * HOUR;
    const { promise, resolve } = Promise.withResolvers<void>();
    world.keys.catalog.watch((row) => {
      if (row.state === 'DESTROYED' && row.versions[0]?.tokenId === undefined) resolve();
    });
    world.keys.reaper.start();
    await promise;
    assert.equal(await inToken(token), undefined);
  });

  test('runs by itself when a key with no window falls due', async (t) => {
    const { world } = setUp(t);
    world.keys.reaper.start();
    const { promise, resolve } = Promise.withResolvers<void>();
    world.keys.catalog.watch((row) => {
      if (row.state === 'DESTROYED' && row.versions[0]?.tokenId === undefined) resolve();
    });
    const { tokenId } = await generate(world);
    const versions = [aVersion({ tokenId })];
    await world.keys.catalog.insert(
      aRecord({ state: 'PENDING_DESTRUCTION', stateBefore: 'ACTIVE', destroyAt: world.now, versions }),
    );
    await promise;
    assert.equal(stored(world).state, 'DESTROYED');
  });

  test('tries again when the token is down, also after a kill, and cannot be undone meanwhile', async (t) => {
    const { world, token } = setUp(t);
    const record = await pending(world);
    world.now += HOUR;
    token.fail({ method: 'destroy', code: 'HSM_UNAVAILABLE' });
    await world.keys.reaper.run();
    assert.equal(stored(world).state, 'DESTROYED');
    assert.equal(stored(world).versions[0]?.tokenId, record.versions[0]?.tokenId, 'still known');
    assert.equal(world.seen('destructionDelayed').length, 1);
    assert.ok(await inToken(token));
    await world.reopen(); // as after a kill
    await world.keys.reaper.run();
    assert.equal(await inToken(token), undefined);
    assert.equal(stored(world).versions[0]?.tokenId, undefined);
    assert.deepEqual(
      world.records.map((row) => row.outcome),
      ['intent', 'ok'],
    );
  });

  test('does not begin what it cannot record', async (t) => {
    const { world, token } = setUp(t);
    await pending(world);
    world.now += HOUR;
    world.auditFails = true;
    await world.keys.reaper.run();
    assert.equal(stored(world).state, 'PENDING_DESTRUCTION');
    assert.ok(await inToken(token));
    world.auditFails = false;
    await world.keys.reaper.run();
    assert.equal(await inToken(token), undefined);
  });

  test('drops wrapped blobs, and records their end later where the log is full in between', async (t) => {
    const { world } = setUp(t);
    const what = { tenant: 'acme', keyId: 'signer', version: 1, algorithm: 'Ed25519' };
    const made = await world.keys.vault.generate(what, tokenCall());
    const { tokenId: _, ...row } = aVersion({ algorithm: 'Ed25519', jose: 'Ed25519', custody: 'wrapped', ...made });
    const state = { state: 'PENDING_DESTRUCTION', stateBefore: 'REVOKED', destroyAt: world.now } as const;
    await world.keys.catalog.insert(aRecord({ keyId: 'signer', purpose: 'sign', ...state, versions: [row] }));
    world.keys.catalog.watch(() => {
      world.auditFails = true;
    });
    await world.keys.reaper.run();
    assert.equal(world.keys.catalog.get('acme', 'signer')?.versions[0]?.wrapped, undefined);
    assert.deepEqual(
      world.records.map((record) => record.outcome),
      ['intent'],
    );
    world.auditFails = false;
    await world.keys.reaper.run();
    assert.deepEqual(
      world.records.map((record) => record.outcome),
      ['intent', 'ok'],
    );
  });
});

describe('a token object that no record came to name', () => {
  test('is kept when its record is stored', async (t) => {
    const { world, token } = setUp(t);
    const { tokenId } = await generate(world);
    await world.keys.catalog.insert(aRecord({ versions: [aVersion({ tokenId })] }));
    await world.reopen();
    await world.keys.reaper.run();
    assert.ok(await inToken(token));
    assert.deepEqual(world.seen('orphanDestroyed'), []);
  });

  test('is destroyed by discard', async (t) => {
    const { world, token } = setUp(t);
    const { tokenId } = await generate(world);
    await world.keys.objects.discard(tokenId);
    assert.equal(await inToken(token), undefined);
  });

  test('is destroyed at the next start where a crash came between making and storing it', async (t) => {
    const { world, token } = setUp(t);
    const { tokenId } = await generate(world);
    await world.reopen(); // as after a kill
    await world.keys.reaper.run();
    assert.equal(await inToken(token), undefined);
    assert.deepEqual(world.seen('orphanDestroyed'), [{ tokenId, tenant: 'acme', keyId: 'invoices' }]);
  });

  test('is left alone while its call may be under way, and destroyed later', async (t) => {
    const { world, token } = setUp(t);
    await generate(world);
    await world.keys.reaper.run();
    assert.ok(await inToken(token));
    world.now += 10 * 60_000;
    await world.keys.reaper.run();
    assert.equal(await inToken(token), undefined);
  });

  test('is destroyed later where the token is down when it is discarded', async (t) => {
    const { world, token } = setUp(t);
    const { tokenId } = await generate(world);
    token.fail({ method: 'destroy', code: 'HSM_UNAVAILABLE' });
    await world.keys.objects.discard(tokenId);
    assert.equal(world.seen('orphanKept').length, 1);
    await world.reopen();
    await world.keys.reaper.run();
    assert.equal(await inToken(token), undefined);
  });

  test('is looked for by id where the token failed while making it', async (t) => {
    const { world, token } = setUp(t);
    token.fail({ method: 'generate', code: 'DEADLINE_EXCEEDED' });
    await assert.rejects(generate(world), { code: 'DEADLINE_EXCEEDED' });
    assert.equal(token.calls.get('destroy'), 1);
  });

  test('of another host, with the same label on a shared token, is left alone', async (t) => {
    const { world, token } = setUp(t);
    const other = await token.generate({ algorithm: 'AES-256', purpose: 'encrypt', label: LABEL }, tokenCall());
    const { tokenId } = await generate(world);
    await world.keys.objects.discard(tokenId);
    await world.reopen();
    await world.keys.reaper.run();
    assert.equal(((await inToken(token)) as { tokenId: string }).tokenId, other.tokenId);
  });

  test('is not made at all where the note cannot be written', async (t) => {
    const { world, token } = setUp(t);
    await world.keys.close();
    await assert.rejects(generate(world), { code: 'SHUTTING_DOWN' });
    assert.equal(token.calls.get('generate'), undefined);
  });
});
