// The behaviour of a RegistryStore, as tests that run on any implementation, with a second replica where it has one.
import assert from 'node:assert/strict';
import { createHash, randomBytes, randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { systemClock } from '../../agent/clock.ts';
import type { Actor } from '../../registry/actor.ts';
import {
  type EntryChange,
  type EntryRow,
  LEASES_KEPT,
  type OfferRow,
  type RebuildRow,
} from '../../registry/catalog/store.ts';
import { type Code, RegistryError } from '../../registry/errors.ts';
import type { AdminRow, HostRow, PresenceRow, TokenRow } from '../../registry/hosts/store.ts';
import type { LogAppend, LogRow, RecordFacts } from '../../registry/ledger/store.ts';
import type { PolicyRow } from '../../registry/policies/store.ts';
import { SessionBudgets } from '../../registry/sessions/budgets.ts';
import { CHANGES_KEPT, type RegistryStore, type TenantStore } from '../../registry/store/store.ts';

export interface StoreUnderTest {
  readonly store: RegistryStore;
  /** Another replica over the same data; absent where there can be one only. */
  readonly replica?: RegistryStore;
  close(): Promise<void>;
}

const REGISTRY: Actor = { kind: 'registry' };
const WAIT_MS = 30_000;
let count = 0;
const fresh = (kind: string): string => {
  count += 1;
  return `${kind}-${process.pid}-${count}`;
};

const code =
  (expected: Code) =>
  (error: unknown): boolean =>
    (error as { code?: unknown }).code === expected;

const hostRow = (host: string, tenants: readonly string[], change: Partial<HostRow> = {}): HostRow => ({
  host,
  state: 'ACTIVE',
  tenants,
  bringsCertificate: false,
  revision: 1,
  ...change,
});
const adminRow = (name: string, tenants: readonly string[], scopes: readonly string[]): AdminRow => ({
  name,
  scopes,
  tenants,
  revoked: false,
  revision: 1,
});
const policyRow = (tenant: string, version: number): PolicyRow => ({
  tenant,
  version,
  digest: createHash('sha256').update(`${tenant}/${version}`).digest('hex'),
  jws: randomBytes(64),
  publishedAt: 1_764_000_000_000,
  publishedBy: 'alice',
  officers: ['o-1', 'o-2'],
  notBefore: 1,
  expiresAt: 2,
});
const change = (revision: number, entry = randomBytes(32), host = 'h-1'): EntryChange => ({
  revision,
  entry,
  host,
  changedAt: 1_764_000_000_000 + revision,
});

const rebuildRow = (row: Partial<RebuildRow> = {}): RebuildRow => ({
  id: 'ef'.repeat(16),
  openedBy: 'alice',
  openedAt: 1,
  expiresAt: 2,
  ...row,
});
const offerRow = (host: string): OfferRow => ({
  host,
  complete: true,
  entries: 1,
  stored: 1,
  conflicts: [],
  uses: [],
});

/** The next batch of a log: `facts` says what each record is found by. */
export const batchOf = (log: LogRow | undefined, origin: string, facts: readonly Partial<RecordFacts>[]): LogAppend => {
  const host = origin.split('/')[0] as string;
  const size = log?.size ?? 0;
  return {
    log: {
      origin,
      host,
      publicJwk: '{}',
      size: size + facts.length,
      frontier: [randomBytes(32)],
      lastEpoch: 1,
      lastSequence: size + facts.length,
      checkpoint: '',
      checkpointSize: 0,
      refusal: '',
      revision: (log?.revision ?? 0) + 1,
    },
    records: facts.map((row, at) => ({
      row: { index: size + at, record: randomBytes(40), mac: randomBytes(32), ingestedAt: 5 },
      facts: {
        time: '2026-11-24T00:00:00.000000Z',
        key: '-',
        principal: 'p',
        operation: 'sign',
        outcome: 'ok',
        correlationId: `c-${size + at}`,
        event: `1/${size + at}`,
        ...row,
      },
    })),
    nodes: [],
    checkpoints: [],
  };
};

/** Waits until `told` holds; what `listen` registers is called with each name. */
const heard = (listen: (listener: (name: string) => void) => () => void, wanted: string, what: string) => {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const timer = setTimeout(() => reject(new Error(`nobody told of ${what}`)), WAIT_MS);
  const stop = listen((name) => name === wanted && resolve());
  return promise.finally(() => {
    clearTimeout(timer);
    stop();
  });
};

export const registryStoreContract = (name: string, open: () => Promise<StoreUnderTest>): void => {
  describe(name, () => {
    let under: StoreUnderTest;
    let store: RegistryStore;
    /** Where the same is asked for by another replica. */
    let other: RegistryStore;
    before(async () => {
      under = await open();
      store = under.store;
      other = under.replica ?? store;
    });
    after(() => under.close());
    const of = (tenant: string, actor: Actor = REGISTRY): TenantStore => store.forTenant(tenant, actor);

    test('can be written', () => store.check());

    test('keeps the first row of a tenant, and pages through tenants in order', async () => {
      const [a, b] = [fresh('t'), fresh('t')].sort() as [string, string];
      const row = { tenant: a, displayName: 'A', createdAt: 7 };
      assert.deepEqual(await store.insertTenant(row), row);
      assert.deepEqual(await store.insertTenant({ ...row, displayName: 'B' }), row);
      await store.insertTenant({ tenant: b, displayName: '', createdAt: 8 });
      assert.deepEqual(await other.tenant(a), row);
      const [next] = await store.tenants({ after: a, limit: 1 });
      assert.ok(next !== undefined && next.tenant > a && next.tenant <= b);
      assert.equal(await store.tenant(fresh('t')), undefined);
    });

    test('changes rows of hosts, administrators and tokens together or not at all', async () => {
      const [host, admin, id] = [fresh('h'), fresh('a'), fresh('id')];
      const token: TokenRow = {
        ...{ id, kind: 'host', name: host, secretHash: 'ab', tenants: ['t'], expiresAt: 9, revision: 1 },
      };
      const rows = { host: hostRow(host, ['t']), admin: adminRow(admin, [], ['hosts.read']), token };
      assert.equal(await store.change(rows), true);
      assert.equal(await store.change({ host: hostRow(host, ['t'], { revision: 2 }), token }), false);
      assert.deepEqual(await other.host(host), rows.host);
      assert.deepEqual(await other.admin(admin), rows.admin);
      assert.deepEqual(await other.token(id), token);
      assert.ok((await store.admins()).some((row) => row.name === admin));
    });

    test('changes a session budget by one at a time, on every replica', async () => {
      const token = { label: fresh('label'), serial: '' };
      assert.equal(await store.sessionBudget(token), undefined);
      const one = { ...token, total: 1, reserve: 0, leaseSeconds: 60, setBy: 'root', setAt: 5, shares: [] };
      const racers = Array.from({ length: 12 }, (_, at) =>
        (at % 2 === 0 ? store : other).changeSessionBudget(token, (row) => ({ ...one, total: (row?.total ?? 0) + 1 })),
      );
      const totals = (await Promise.all(racers)).map(({ total }) => total);
      assert.deepEqual(
        totals.sort((a, b) => a - b),
        Array.from({ length: 12 }, (_, at) => at + 1),
      );
      assert.deepEqual(await other.sessionBudget(token), { ...one, total: 12 });
      const refuse = (): never => {
        throw new RegistryError('HOST_UNKNOWN');
      };
      await assert.rejects(store.changeSessionBudget(token, refuse), code('HOST_UNKNOWN'));
      await assert.rejects(store.changeSessionBudget({ ...token, serial: '4711' }, refuse), code('HOST_UNKNOWN'));
      const named = (await other.sessionBudgets()).filter(({ label }) => label === token.label);
      assert.deepEqual(named, [{ ...one, total: 12 }]);
    });

    test('hands out no more sessions than there are, though many hosts ask both replicas at once', async () => {
      const token = { label: fresh('label'), serial: '4711' };
      const events = { sessionsLeased: () => undefined, budgetSet: () => undefined };
      const [here, there] = [store, other].map(
        (each) => new SessionBudgets({ store: each, clock: systemClock, events }),
      );
      await here?.set('root', token, { total: 40, reserve: 0, leaseSeconds: 60 });
      const ask = (at: number) => {
        const asked = { host: `h-${at}`, name: 'default', held: 0, grant: 0, wanted: 20, fallback: 2 };
        return (at % 2 === 0 ? here : there)?.lease(token, asked);
      };
      const given = await Promise.all(Array.from({ length: 12 }, (_, at) => ask(at)));
      const sum = given.reduce((all, lease) => all + (lease?.share ?? 0), 0);
      assert.ok(sum > 0 && sum <= 40, `${sum} of 40`);
      const [budget] = (await other.sessionBudgets()).filter(({ label }) => label === token.label);
      assert.equal(budget?.shares.length, 12);
      assert.equal(
        budget?.shares.reduce((all, { held }) => all + held, 0),
        sum,
      );
    });

    test('lets one of many take a token', async () => {
      const id = fresh('id');
      const token: TokenRow = {
        ...{ id, kind: 'host', name: 'h', secretHash: 'ab', tenants: [], expiresAt: 9, revision: 1 },
      };
      await store.change({ token });
      const takers = Array.from({ length: 8 }, (_, at) =>
        (at % 2 === 0 ? store : other).change({ token: { ...token, usedWith: `key-${at}`, revision: 2 } }),
      );
      assert.equal((await Promise.all(takers)).filter((taken) => taken).length, 1);
    });

    test('finds hosts by tenant and state', async () => {
      const tenant = fresh('t');
      const [a, b] = [fresh('h'), fresh('h')].sort() as [string, string];
      await store.change({ host: hostRow(a, [tenant]) });
      await store.change({ host: hostRow(b, [tenant, 'x'], { state: 'PENDING' }) });
      const names = async (query: object) =>
        (await store.hosts({ limit: 10, tenant, ...query })).map((row) => row.host);
      assert.deepEqual(await names({}), [a, b]);
      assert.deepEqual(await names({ state: 'PENDING' }), [b]);
      assert.deepEqual(await names({ after: a }), [b]);
      assert.deepEqual(await names({ limit: 1 }), [a]);
    });

    test('takes whatever text a host says of itself, and the presences beside it', async () => {
      const presence = (host: string, detail: string): PresenceRow => ({
        ...{ host, agentVersion: `1${detail}`, startedAt: 0, policies: [], catalogs: [], backlogs: [] },
        ...{ parts: [{ part: 'token', healthy: true, detail }], lastSeen: 1 },
      });
      const [odd, half, backslash, plain] = ['odd', 'half', 'backslash', 'plain'].map(fresh) as [
        string,
        string,
        string,
        string,
      ];
      const rows = [
        presence(odd, 'a\0b'),
        presence(half, 'a\ud83d'),
        presence(backslash, '\\u0000'),
        presence(plain, 'é'),
      ];
      await store.putPresences(rows);
      const found = await store.presences([odd, half, backslash, plain]);
      const details = new Map(found.map(({ host, parts }) => [host, parts[0]?.detail]));
      assert.equal(details.size, 4);
      assert.deepEqual([details.get(backslash), details.get(plain)], ['\\u0000', 'é']);
    });

    test('tells every replica of hosts, presences, policies and the catalogue', async () => {
      const [host, tenant] = [fresh('h'), fresh('t')];
      await store.insertTenant({ tenant, displayName: '', createdAt: 1 });
      const all = Promise.all([
        heard((listener) => other.watchHosts(({ name: row }) => listener(row)), host, 'the host'),
        heard(
          (listener) => other.watchPresences(({ host: row, replica }) => listener(`${row} on ${replica}`)),
          `${host} on r`,
          'the presence',
        ),
        heard((listener) => other.watchPolicies(listener), tenant, 'the policy'),
        heard((listener) => other.watchCatalog(listener), tenant, 'the catalogue'),
        heard((listener) => store.watchCatalog(listener), tenant, 'the catalogue, here'),
      ]);
      await store.change({ host: hostRow(host, [tenant]) });
      const presence: PresenceRow = {
        ...{ host, replica: 'r', lastSeen: 1, agentVersion: '1', startedAt: 1, policies: [], catalogs: [] },
        ...{ backlogs: [{ tenant, records: 3 }], parts: [] },
      };
      await store.putPresences([presence, { ...presence, host: `${host}-2`, lastSeen: 2 }]);
      await store.insertPolicy(policyRow(tenant, 1), { newest: 0, platform: 0 });
      await of(tenant).change({ kind: 'key', name: 'k' }, () => change(1));
      await all;
      assert.deepEqual(await other.presence(host), presence);
      assert.equal((await other.presence(`${host}-2`))?.lastSeen, 2);
      assert.deepEqual(await other.presences([host, fresh('h')]), [presence]);
    });

    test('stores a policy only on top of what it was judged against', async () => {
      const tenant = fresh('t');
      const rows = [policyRow(tenant, 1), policyRow(tenant, 4)] as const;
      assert.equal(await store.insertPolicy(rows[0], { newest: 0, platform: 0 }), true);
      assert.equal(await store.insertPolicy(rows[1], { newest: 0, platform: 0 }), false);
      assert.equal(await store.insertPolicy(rows[1], { newest: 1, platform: 9 }), false);
      const racers = [store, other].map((each) => each.insertPolicy(rows[1], { newest: 1, platform: 0 }));
      assert.deepEqual((await Promise.all(racers)).sort(), [false, true]);
      assert.deepEqual(await other.newestPolicy(tenant), rows[1]);
      assert.deepEqual(await store.policy(tenant, 1), rows[0]);
      assert.equal(await store.policy(tenant, 2), undefined);
      assert.deepEqual(await store.policyVersions({ tenant, limit: 9 }), [rows[1], rows[0]]);
      assert.deepEqual(await store.policyVersions({ tenant, below: 4, limit: 9 }), [rows[0]]);
      const heads = (await store.policyHeads()).filter((head) => head.tenant === tenant);
      assert.deepEqual(heads, [{ tenant, version: 4, digest: rows[1].digest }]);
    });

    test('keeps the first MAC key of a host and epoch', async () => {
      const host = fresh('h');
      assert.equal(await store.insertMacKey(host, 4_000_000_000, 'one'), 'one');
      assert.equal(await other.insertMacKey(host, 4_000_000_000, 'two'), 'one');
      assert.equal(await store.macKey(host, 4_000_000_000), 'one');
      assert.equal(await store.macKey(host, 1), undefined);
    });

    test('numbers the changes of a tenant without gaps, each with the head of all before it', async () => {
      const tenant = fresh('t');
      const names = ['b', 'a', 'b'];
      const rows: EntryRow[] = [];
      for (const [at, key] of names.entries()) {
        rows.push((await of(tenant).change({ kind: 'key', name: key }, () => change(at + 1))) as EntryRow);
      }
      let head = Buffer.alloc(32);
      for (const [at, row] of rows.entries()) {
        const entry = createHash('sha256').update(row.entry).digest();
        head = createHash('sha256')
          .update(Buffer.concat([head, entry]))
          .digest();
        assert.equal(row.position, at + 1);
        assert.deepEqual(row.head, head);
        assert.deepEqual(await of(tenant).positionAt(at + 1), { position: at + 1, head });
      }
      assert.deepEqual(await other.forTenant(tenant, REGISTRY).position(), { position: 3, head });
      assert.deepEqual(await of(tenant).changes({ after: 1, limit: 9 }), rows.slice(1));
      assert.deepEqual(await of(tenant).changes({ after: 3, limit: 9 }), []);
      assert.deepEqual(await of(tenant).entry({ kind: 'key', name: 'b' }), rows[2]);
      assert.equal(await of(tenant).positionAt(4), undefined);
      const all = { limit: 2, readers: [], joining: [] };
      const [start, end] = [{ position: 0, head: Buffer.alloc(0) }, await of(tenant).position()];
      const behind = await of(tenant).look({ ...all, after: start });
      assert.deepEqual([behind.known, behind.rows?.map(({ position }) => position)], [true, [1, 2]]);
      assert.deepEqual([behind.position, behind.rebuild], [end, undefined]);
      const foreign = await of(tenant).look({ ...all, after: { position: 1, head: Buffer.alloc(32) } });
      assert.deepEqual([foreign.known, foreign.rows], [false, []]);
      const ahead = await of(tenant).look({ ...all, after: { position: 4, head: Buffer.alloc(32) } });
      assert.deepEqual([ahead.known, ahead.rows], [false, []]);
      assert.deepEqual(await of(fresh('t')).position(), { position: 0, head: Buffer.alloc(0) });
    });

    test('lists entries by kind and name', async () => {
      const tenant = fresh('t');
      for (const key of ['b', 'a']) await of(tenant).change({ kind: 'key', name: key }, () => change(1));
      await of(tenant).change({ kind: 'kek', name: '1' }, () => change(1));
      const names = async (query: object) =>
        (await of(tenant).entries({ limit: 9, ...query })).map((row) => `${row.kind}/${row.name}`);
      assert.deepEqual(await names({}), ['kek/1', 'key/a', 'key/b']);
      assert.deepEqual(await names({ kind: 'key' }), ['key/a', 'key/b']);
      assert.deepEqual(await names({ limit: 2 }), ['kek/1', 'key/a']);
      assert.deepEqual(await names({ after: { kind: 'kek', name: '1' }, limit: 1 }), ['key/a']);
      assert.deepEqual(await names({ after: { kind: 'key', name: 'a' } }), ['key/b']);
    });

    test('changes nothing where the decision throws or says nothing', async () => {
      const tenant = fresh('t');
      const key = { kind: 'key', name: 'k' } as const;
      const row = await of(tenant).change(key, () => change(1));
      const refuse = (): never => {
        throw Object.assign(new Error('no'), { code: 'KEY_CONFLICT' });
      };
      await assert.rejects(of(tenant).change(key, refuse));
      assert.deepEqual(await of(tenant).change(key, () => undefined), row);
      assert.equal((await of(tenant).position()).position, 1);
    });

    test('lets one of many concurrent changes of a revision through', async () => {
      const tenant = fresh('t');
      const key = { kind: 'key', name: 'k' } as const;
      await of(tenant).change(key, () => change(1));
      let won = 0;
      const racers = Array.from({ length: 10 }, (_, at) =>
        (at % 2 === 0 ? store : other).forTenant(tenant, REGISTRY).change(key, (stored) => {
          if (stored?.revision !== 1) return undefined;
          won += 1;
          return change(2);
        }),
      );
      const answers = await Promise.all(racers);
      assert.equal(won, 1);
      assert.ok(answers.every((row) => row?.revision === 2));
      assert.equal((await of(tenant).position()).position, 2);
    });

    test('takes nothing but what hosts offer while a catalogue is rebuilt, and raises counts of uses at its end', async () => {
      const tenant = fresh('t');
      const store = of(tenant);
      const key = { kind: 'key', name: 'a' } as const;
      await store.change(key, () => change(1));
      const id = fresh('r');
      await store.changeRebuild((row) => {
        assert.equal(row, undefined);
        return { row: rebuildRow({ id }), uses: [] };
      });
      const lease = { id: fresh('l'), keyId: 'a', version: 1 };
      const granted = () => ({ host: 'h-1', wanted: 1, granted: 1, hardUses: 0 });
      await assert.rejects(
        store.change(key, () => change(2)),
        code('REBUILDING'),
      );
      await assert.rejects(store.lease(lease, granted), code('REBUILDING'));
      await assert.rejects(
        store.endLease(lease.id, () => 0),
        code('REBUILDING'),
      );
      const names = [key, { kind: 'key', name: 'b' } as const];
      await store.offer({ rebuild: id, host: 'h-1', names }, (row, told, stored) => {
        assert.deepEqual([row?.id, told, stored.map((found) => found?.revision)], [id, undefined, [1, undefined]]);
        return { told: offerRow('h-1'), changes: [change(7), change(3)] };
      });
      await store.offer({ rebuild: id, host: 'h-1', names }, (_row, told, stored) => {
        assert.deepEqual(
          stored.map((found) => [found?.revision, found?.position]),
          [
            [7, 2],
            [3, 3],
          ],
        );
        return { told: { ...(told as OfferRow), entries: 9 }, changes: [] };
      });
      assert.deepEqual(
        (await store.offers(id)).map(({ host, entries }) => [host, entries]),
        [['h-1', 9]],
      );
      assert.deepEqual(await store.offers('another'), []);
      const uses = [{ keyId: 'a', version: 1, count: 5 }];
      await store.changeRebuild((row) => ({ row: { ...(row as RebuildRow), endedAt: 3 }, uses }));
      await store.changeRebuild((row) => ({ row: row as RebuildRow, uses: [{ keyId: 'a', version: 1, count: 2 }] }));
      assert.equal((await store.lease(lease, granted)).leased, 6);
      assert.equal((await store.rebuild())?.endedAt, 3);
    });

    test('shows a decision the entries beside it as they are then', async () => {
      const tenant = fresh('t');
      const [kek, other] = [
        { kind: 'kek', name: '1' },
        { kind: 'kek', name: '2' },
      ] as const;
      await of(tenant).change(kek, () => change(3));
      const name = { kind: 'key', name: 'a' } as const;
      await of(tenant).change(
        name,
        (stored, beside) => {
          assert.deepEqual([stored, beside.map((row) => row?.revision)], [undefined, [undefined, 3]]);
          return change(1);
        },
        [other, kek],
      );
      assert.equal((await of(tenant).entry(name))?.revision, 1);
    });

    test('never leases more than the decision gives, whoever asks', async () => {
      const tenant = fresh('t');
      await of(tenant).change({ kind: 'key', name: 'k' }, () => change(1));
      const ask = (at: number, id: string = randomUUID()) =>
        (at % 2 === 0 ? store : other)
          .forTenant(tenant, REGISTRY)
          .lease({ id, keyId: 'k', version: 1 }, (leased, key) => {
            assert.equal(key?.revision, 1);
            return { host: 'h-1', wanted: 7, granted: Math.min(7, 50 - leased), hardUses: 50 };
          });
      const granted = await Promise.all(Array.from({ length: 12 }, (_, at) => ask(at)));
      assert.equal(
        granted.reduce((sum, lease) => sum + lease.granted, 0),
        50,
      );
      const first = granted[0] as (typeof granted)[0];
      assert.deepEqual(await ask(1, first.id), first);
      assert.equal(await other.leaseTenant(first.id), tenant);
      assert.equal(await store.leaseTenant(randomUUID()), undefined);
      await of(tenant).endLease(first.id, () => 3);
      await of(tenant).endLease(first.id, (lease) => (lease?.unused === 3 ? undefined : assert.fail('not ended')));
      assert.equal((await ask(0)).granted, 3);
      await of(tenant).endLease(randomUUID(), (lease) => (lease === undefined ? undefined : assert.fail('a lease')));
    });

    test('keeps the newest leases of a host and key, and the count of all of them', async () => {
      const tenant = fresh('t');
      await of(tenant).change({ kind: 'key', name: 'k' }, () => change(1));
      const ask = (id: string, host = 'h-1', version = 1) =>
        of(tenant).lease({ id, keyId: 'k', version }, () => ({ host, wanted: 7, granted: 7, hardUses: 900 }));
      const ids = Array.from({ length: LEASES_KEPT + 4 }, () => randomUUID());
      const others = await ask(randomUUID(), 'h-2');
      const granted = [];
      for (const [at, id] of ids.entries()) granted.push(await ask(id, 'h-1', at < 9 ? 1 : 2));
      assert.deepEqual(
        granted.map(({ forgotten }) => forgotten),
        ids.map((_, at) => (at < LEASES_KEPT ? 0 : 1)),
      );
      for (const [at, id] of ids.entries()) {
        assert.equal(await other.leaseTenant(id), at < 4 ? undefined : tenant);
        await of(tenant).endLease(id, (row) => {
          assert.equal(row !== undefined, at >= 4);
          return undefined;
        });
      }
      assert.equal(await other.leaseTenant(others.id), tenant, 'of another host');
      const last = await ask(ids.at(-1) as string);
      assert.deepEqual([last.leased, last.forgotten], [(LEASES_KEPT + 4 - 9) * 7, 0]);
      assert.equal((await ask(randomUUID())).leased, (9 + 1 + 1) * 7, 'what was forgotten counts');
    });

    test('takes a batch on top of the state that it was made for, and once', async () => {
      const tenant = fresh('t');
      const origin = `${fresh('h')}/${tenant}/1`;
      const first = batchOf(undefined, origin, [{}, {}]);
      assert.equal(await of(tenant).append(first), true);
      assert.equal(await of(tenant).append(first), false);
      const second: LogAppend = {
        ...batchOf(first.log, origin, [{}]),
        nodes: [{ level: 1, index: 0, hash: randomBytes(32) }],
        checkpoints: [{ size: 3, text: 'three' }],
      };
      const racers = [store, other].map((each) => each.forTenant(tenant, REGISTRY).append(second));
      assert.deepEqual((await Promise.all(racers)).sort(), [false, true]);
      assert.deepEqual(await of(tenant).log(origin), second.log);
      const rows = await of(tenant).records({ origin, from: 1, limit: 9 });
      assert.deepEqual(rows, [first.records[1]?.row, second.records[0]?.row]);
      assert.deepEqual(await of(tenant).nodes({ origin, level: 1, from: 0, limit: 9 }), second.nodes);
      assert.deepEqual(await of(tenant).checkpoints({ origin, from: 2, limit: 9 }), second.checkpoints);
      assert.deepEqual(await of(tenant).checkpoints({ origin, from: 4, limit: 9 }), []);
      const host = first.log.host;
      assert.deepEqual(await of(tenant).locate({ host, event: '1/2' }), { origin, index: 2 });
      assert.equal(await of(tenant).locate({ host, event: '1/3' }), undefined);
    });

    test('finds records by each filter, in order of log and position, page by page', async () => {
      const tenant = fresh('t');
      const hosts = [fresh('h'), fresh('h')].sort() as [string, string];
      const time = (second: number): string => `2026-11-24T00:00:0${second}.000000Z`;
      const facts = [
        { time: time(1), key: 'k/1', principal: 'p\0q', operation: 'sign', outcome: 'ok', correlationId: 'c' },
        { time: time(2), key: 'k/2', principal: 'q', operation: 'sign', outcome: 'KEY_STATE', correlationId: 'd' },
        { time: time(3), key: 'k', principal: 'q', operation: 'encrypt', outcome: 'ok', correlationId: 'c' },
        { time: time(4), key: '-', principal: 'r'.repeat(1024), operation: 'mac', outcome: 'ok', correlationId: 'e' },
      ];
      for (const host of hosts) {
        const origin = `${host}/${tenant}/1`;
        await of(tenant).append(batchOf(undefined, origin, facts));
      }
      const places = async (query: object): Promise<string[]> => {
        const found = await of(tenant).query({ limit: 100, ...query });
        return found.map((row) => `${hosts.indexOf(row.origin.split('/')[0] as string)}:${row.index}`);
      };
      const both = (...at: number[]): string[] => [0, 1].flatMap((host) => at.map((index) => `${host}:${index}`));
      assert.deepEqual(await places({}), both(0, 1, 2, 3));
      assert.deepEqual(await places({ key: 'k' }), both(0, 1, 2));
      assert.deepEqual(await places({ key: 'k/2' }), both(1));
      assert.deepEqual(await places({ principal: 'p\0q' }), both(0));
      assert.deepEqual(await places({ principal: 'r'.repeat(1024) }), both(3));
      assert.deepEqual(await places({ operation: 'sign' }), both(0, 1));
      assert.deepEqual(await places({ outcome: 'KEY_STATE' }), both(1));
      assert.deepEqual(await places({ outcome: 'ok', operation: 'sign' }), both(0));
      assert.deepEqual(await places({ correlationId: 'c' }), both(0, 2));
      assert.deepEqual(await places({ fromTime: time(2), toTime: time(4) }), both(1, 2));
      assert.deepEqual(await places({ fromTime: time(5) }), []);
      assert.deepEqual(await places({ host: hosts[1], key: 'k/1' }), ['1:0']);
      assert.deepEqual(await places({ host: hosts[1], fromTime: time(4) }), ['1:3']);
      for (const filter of [{}, { key: 'k' }]) {
        const walked: string[] = [];
        let page = await of(tenant).query({ ...filter, limit: 2 });
        while (page.length > 0) {
          walked.push(...page.map((row) => `${hosts.indexOf(row.origin.split('/')[0] as string)}:${row.index}`));
          const last = page.at(-1) as (typeof page)[0];
          page = await of(tenant).query({ ...filter, limit: 2, after: { origin: last.origin, index: last.index } });
        }
        assert.deepEqual(walked, await places(filter));
      }
      const logs = await of(tenant).logs({ limit: 1, after: `${hosts[0]}/${tenant}/1` });
      assert.deepEqual(
        logs.map((log) => log.host),
        [hosts[1]],
      );
      assert.equal((await of(tenant).logs({ host: hosts[0], limit: 9 })).length, 1);
    });

    test('finds records and events of a long log, whatever the batches were that it came in', async () => {
      const tenant = fresh('t');
      const host = fresh('h');
      const origin = `${host}/${tenant}/1`;
      let log: LogRow | undefined;
      for (const count of [1, 254, 3, 200, 57, 1, 300]) {
        const from = log?.size ?? 0;
        const facts = Array.from({ length: count }, (_, at) => ({
          principal: `p-${(from + at) % 7}`,
          event: `${from + at < 400 ? 9 : 10}/${(from + at) * 3}`,
        }));
        const append = batchOf(log, origin, facts);
        assert.equal(await of(tenant).append(append), true);
        log = append.log;
      }
      const found: number[] = [];
      for (;;) {
        const last = found.at(-1);
        const cursor = last === undefined ? {} : { after: { origin, index: last } };
        const page = await of(tenant).query({ principal: 'p-3', limit: 10, ...cursor });
        if (page.length === 0) break;
        found.push(...page.map(({ index }) => index));
      }
      const size = log?.size ?? 0;
      const expected = Array.from({ length: size }, (_, index) => index).filter((index) => index % 7 === 3);
      assert.deepEqual(found, expected);
      for (const index of [0, 255, 256, 399, 400, size - 1]) {
        const event = `${index < 400 ? 9 : 10}/${index * 3}`;
        assert.deepEqual(await of(tenant).locate({ host, event }), { origin, index });
      }
      for (const event of ['9/1', '9/1200', '10/0', '11/0', '8/0']) {
        assert.equal(await of(tenant).locate({ host, event }), undefined);
      }
    });

    test('finds records by time in long logs, also where a clock was set back', async () => {
      const tenant = fresh('t');
      const origin = `${fresh('h')}/${tenant}/1`;
      const second = (index: number): number => (index === 400 ? 10 : index);
      const time = (at: number): string => new Date(1_764_000_000_000 + at * 1000).toISOString().replace('Z', '000Z');
      let log: LogRow | undefined;
      for (let from = 0; from < 600; from += 100) {
        const facts = Array.from({ length: 100 }, (_, at) => ({ time: time(second(from + at)) }));
        const append = batchOf(log, origin, facts);
        await of(tenant).append(append);
        log = append.log;
      }
      const at = async (from: number, to: number, limit = 1000, after?: number): Promise<number[]> => {
        const cursor = after === undefined ? {} : { after: { origin, index: after } };
        const times = { fromTime: time(from), toTime: time(to) };
        return (await of(tenant).query({ ...times, ...cursor, limit })).map(({ index }) => index);
      };
      assert.deepEqual(await at(9, 12), [9, 10, 11, 400]);
      assert.deepEqual(await at(398, 402), [398, 399, 401]);
      assert.deepEqual(await at(250, 520, 3), [250, 251, 252]);
      assert.deepEqual(await at(9, 12, 2, 10), [11, 400]);
      assert.deepEqual(await at(500, 700, 2, 597), [598, 599]);
      assert.deepEqual(await at(600, 700), []);
    });

    test('finds records by time and by an index together, over the edge of a wide span', async () => {
      const tenant = fresh('t');
      const origin = `${fresh('h')}/${tenant}/1`;
      const start = 65_300; // 236 records before the edge
      const time = (at: number): string => new Date(1_764_000_000_000 + at * 1000).toISOString().replace('Z', '000Z');
      let log = { ...batchOf(undefined, origin, []).log, size: start, revision: 0 };
      for (let from = start; from < start + 600; from += 100) {
        const facts = Array.from({ length: 100 }, (_, at) => ({
          time: time(from + at),
          principal: `p-${(from + at) % 10}`,
          event: `1/${from + at}`,
        }));
        const append = batchOf(log, origin, facts);
        assert.equal(await of(tenant).append(append), true);
        log = append.log as typeof log;
      }
      const at = async (from: number, to: number, query: object = {}): Promise<number[]> => {
        const times = { fromTime: time(from), toTime: time(to) };
        return (await of(tenant).query({ ...times, limit: 1000, ...query })).map(({ index }) => index);
      };
      assert.deepEqual(await at(65_534, 65_538), [65_534, 65_535, 65_536, 65_537]);
      assert.deepEqual(await at(65_520, 65_550, { principal: 'p-5' }), [65_525, 65_535, 65_545]);
      assert.deepEqual(await at(65_800, 65_820, { principal: 'p-5' }), [65_805, 65_815]);
      assert.deepEqual(
        await at(65_300, 65_900, { principal: 'p-5', limit: 2, after: { origin, index: 65_535 } }),
        [65_545, 65_555],
      );
      assert.deepEqual(await at(65_900, 66_000, { principal: 'p-5' }), []);
      assert.deepEqual(await at(65_520, 65_550, { correlationId: 'c-65540' }), [65_540]);
    });

    test('forgets the bytes of old changes, never their heads', async () => {
      const tenant = fresh('t');
      const key = { kind: 'key', name: 'k' } as const;
      const entry = Buffer.from('x');
      const extra = 2;
      for (let revision = 1; revision <= CHANGES_KEPT + extra; revision += 1) {
        await of(tenant).change(key, () => change(revision, entry));
      }
      assert.equal(await of(tenant).changes({ after: 0, limit: 5 }), undefined);
      assert.equal((await of(tenant).changes({ after: extra, limit: 5 }))?.length, 5);
      assert.equal((await of(tenant).positionAt(1))?.head.length, 32);
    });

    describe('with no check above it', () => {
      const [mine, theirs] = [fresh('t'), fresh('t')];
      const [host, admin, auditor] = [fresh('h'), fresh('a'), fresh('a')];
      const origin = `${fresh('h')}/${theirs}/1`;
      const key = { kind: 'key', name: 'secret' } as const;
      before(async () => {
        for (const tenant of [mine, theirs]) await store.insertTenant({ tenant, displayName: '', createdAt: 1 });
        await store.change({ host: hostRow(host, [mine]) });
        await store.change({ admin: adminRow(admin, [mine], ['audit.read']) });
        await store.change({ admin: adminRow(auditor, [mine], ['audit.read-any']) });
        await of(theirs).change(key, () => change(1));
        await of(theirs).lease({ id: 'ab'.repeat(16), keyId: 'secret', version: 1 }, () => ({
          ...{ host: 'h', wanted: 1, granted: 1, hardUses: 0 },
        }));
        await of(theirs).append({
          ...batchOf(undefined, origin, [{ key: 'secret/1' }]),
          nodes: [{ level: 1, index: 0, hash: randomBytes(32) }],
          checkpoints: [{ size: 1, text: 'one' }],
        });
      });

      /** Every function of a handle, with names and cursors of the other tenant. */
      const walk = (at: TenantStore): Readonly<Record<keyof TenantStore, () => Promise<unknown>>> => ({
        position: () => at.position(),
        positionAt: () => at.positionAt(1),
        entry: () => at.entry(key),
        entries: () => at.entries({ limit: 9, after: { kind: 'kek', name: '' } }),
        changes: () => at.changes({ after: 0, limit: 9 }),
        look: async () => {
          const after = { position: 1, head: Buffer.alloc(32) };
          return (await at.look({ after, limit: 9, readers: [], joining: [] })).rows;
        },
        change: () => at.change(key, () => change(2)),
        lease: () =>
          at.lease({ id: 'cd'.repeat(16), keyId: 'secret', version: 1 }, () => ({
            ...{ host, wanted: 1, granted: 1, hardUses: 0 },
          })),
        endLease: () => at.endLease('ab'.repeat(16), () => 1),
        rebuild: () => at.rebuild(),
        offers: () => at.offers('ef'.repeat(16)),
        changeRebuild: () => at.changeRebuild(() => ({ row: rebuildRow(), uses: [] })),
        offer: () =>
          at.offer({ rebuild: 'ef'.repeat(16), host, names: [key] }, () => ({
            ...{ told: offerRow(host), changes: [change(2)] },
          })),
        log: () => at.log(origin),
        logs: () => at.logs({ limit: 9 }),
        append: () => at.append(batchOf(undefined, `${host}/${theirs}/7`, [{}])),
        records: () => at.records({ origin, from: 0, limit: 9 }),
        query: () => at.query({ limit: 9, after: { origin, index: -1 } }),
        locate: () => at.locate({ host: origin.split('/')[0] as string, event: '1/0' }),
        nodes: () => at.nodes({ origin, level: 1, from: 0, limit: 9 }),
        checkpoints: () => at.checkpoints({ origin, from: 0, limit: 9 }),
      });

      const actors: readonly Actor[] = [
        { kind: 'host', name: host },
        { kind: 'host', name: 'nobody' },
        { kind: 'admin', name: admin },
        { kind: 'admin', name: auditor },
        { kind: 'auditor', name: admin },
      ];
      for (const actor of actors) {
        test(`refuses ${actor.kind} ${'name' in actor ? actor.name : ''} every call on another tenant`, async () => {
          const calls = Object.entries(walk(of(theirs, actor)));
          assert.equal(calls.length, Object.keys(of(theirs)).length);
          for (const [call, work] of calls) await assert.rejects(work(), code('PERMISSION_DENIED'), call);
          assert.equal((await of(theirs).entry(key))?.revision, 1);
        });
      }

      test("finds nothing of another tenant by that one's names and cursors", async () => {
        const nothing = [undefined, [], { position: 0, head: Buffer.alloc(0) }];
        const {
          change: _change,
          lease: _lease,
          endLease: _end,
          changeRebuild: _rebuild,
          offer: _offer,
          append: _append,
          ...reads
        } = walk(of(mine, { kind: 'host', name: host }));
        for (const [call, work] of Object.entries(reads)) {
          const answer = await work();
          assert.ok(
            nothing.some((empty) => JSON.stringify(empty) === JSON.stringify(answer)),
            `${call} answered ${JSON.stringify(answer)}`,
          );
        }
        await of(mine).endLease('ab'.repeat(16), (lease) => (lease === undefined ? undefined : assert.fail(lease.id)));
      });

      test('takes a log of another tenant or another host from nobody', async () => {
        const as = of(mine, { kind: 'host', name: host });
        const elsewhere = `${host}/${theirs}/1`;
        await assert.rejects(as.append(batchOf(undefined, elsewhere, [{}])), code('PERMISSION_DENIED'));
        const stranger = `${fresh('h')}/${mine}/1`;
        await assert.rejects(as.append(batchOf(undefined, stranger, [{}])), code('PERMISSION_DENIED'));
        assert.equal(await as.append(batchOf(undefined, `${host}/${mine}/1`, [{}])), true);
        assert.equal((await of(mine).logs({ limit: 9 })).length, 1);
      });

      test('lets auditors read and nobody but hosts write', async () => {
        const reader = of(theirs, { kind: 'auditor', name: auditor });
        assert.equal((await reader.query({ limit: 9 })).length, 1);
        await assert.rejects(
          reader.change(key, () => change(2)),
          code('PERMISSION_DENIED'),
        );
        const own = of(mine, { kind: 'admin', name: admin });
        await assert.rejects(own.append(batchOf(undefined, `${admin}/${mine}/2`, [{}])), code('PERMISSION_DENIED'));
        await assert.rejects(
          own.change(key, () => change(1)),
          code('PERMISSION_DENIED'),
        );
      });

      test('judges each of many readers by his own row, where there is something to read or he is new', async () => {
        const gone = fresh('h');
        await store.change({ host: hostRow(gone, [theirs], { state: 'REVOKED' }) });
        const good = fresh('h');
        await store.change({ host: hostRow(good, [mine, theirs]) });
        const allowed: Actor[] = [
          { kind: 'registry' },
          { kind: 'host', name: good },
          { kind: 'auditor', name: auditor },
        ];
        const refused: Actor[] = [
          { kind: 'host', name: host },
          { kind: 'host', name: gone },
          { kind: 'admin', name: admin },
          { kind: 'auditor', name: admin },
        ];
        const everyone = [...refused, ...allowed];
        const start = { position: 0, head: Buffer.alloc(0) };
        const look = (query: Partial<Parameters<TenantStore['look']>[0]>) =>
          of(theirs).look({ after: undefined, limit: 9, readers: [], joining: [], ...query });
        const names = (actors: readonly Actor[]): string[] => actors.map((actor) => JSON.stringify(actor)).sort();
        const changed = await look({ after: start, readers: everyone });
        assert.equal(changed.rows?.length, 1);
        assert.deepEqual(names(changed.refused), names(refused));
        const { refused: quiet, rows } = await look({ after: changed.position, readers: everyone });
        assert.deepEqual([quiet, rows], [[], []]);
        const joined = await look({ after: changed.position, joining: everyone });
        assert.deepEqual(names(joined.refused), names(refused));
      });

      test('refuses a host from the moment that it is revoked', async () => {
        const revoked = fresh('h');
        await store.change({ host: hostRow(revoked, [mine]) });
        const as = other.forTenant(mine, { kind: 'host', name: revoked });
        await as.position();
        await store.change({ host: hostRow(revoked, [mine], { state: 'REVOKED', revision: 2 }) });
        await assert.rejects(as.position(), code('PERMISSION_DENIED'));
      });
    });
  });
};
