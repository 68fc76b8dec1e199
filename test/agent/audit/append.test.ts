import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { StoredRecord } from '../../../agent/audit/types.ts';
import { AgentError } from '../../../agent/errors.ts';
import { appendMany, createToken, entry, openLog, recordEvents, tempFolder } from './fixture.ts';

test('everything appended in one turn goes into one commit', async (t) => {
  const events = recordEvents();
  const log = await openLog(t, { path: tempFolder(t), events });
  await Promise.all(Array.from({ length: 100 }, (_, i) => log.append(entry(i % 2 ? 'acme' : 'globex', i))));
  const commits = events.seen.filter(({ name }) => name === 'committed').map(({ event }) => event);
  assert.deepEqual(
    commits.map(({ records, tenants }) => [records, tenants]),
    [[100, 2]],
  );
});

test('an append answers with the event id that its record has', async (t) => {
  const log = await openLog(t, {
    path: tempFolder(t),
    durability: (tenant) => (tenant === 'acme' ? 'flushed' : 'committed'),
  });
  const tenants = Array.from({ length: 20 }, (_, i) => (i % 2 ? 'acme' : 'globex'));
  const ids = await Promise.all(tenants.map((tenant, i) => log.append(entry(tenant, i))));
  for (const [i, id] of ids.entries()) {
    const [stored] = await log.list(tenants[i] as string, { from: Math.floor(i / 2), limit: 1 });
    assert.equal(stored?.record.eventId, id);
    assert.equal(stored?.record.correlationId, `c-${i}`);
  }
});

test('an entry that cannot be a record is refused alone', async (t) => {
  const log = await openLog(t, { path: tempFolder(t) });
  const results = await Promise.allSettled([
    log.append(entry('acme', 1)),
    log.append(entry('acme', 2, { principal: '' })),
    log.append(entry('acme', 3, { correlationId: 'x'.repeat(2000) })),
    log.append(entry('NO TENANT', 4)),
    log.append(entry('acme', 5, { key: '\ud800' })),
    log.append(entry('acme', 6, { detail: { big: 1n } })),
    log.append(entry('acme', 7)),
  ]);
  assert.deepEqual(
    results.map((result) => (result.status === 'fulfilled' ? 'ok' : (result.reason as AgentError).code)),
    ['ok', ...Array(5).fill('AUDIT_UNAVAILABLE'), 'ok'],
  );
  assert.deepEqual(
    (await log.list('acme', { limit: 9 })).map(({ record }) => record.correlationId),
    ['c-1', 'c-7'],
  );
  assert.equal(log.size('NO TENANT'), 0);
  assert.deepEqual((await log.verify('acme')).findings, []);
});

test('detail over 4 KiB is left out and the record kept', async (t) => {
  const log = await openLog(t, { path: tempFolder(t) });
  await log.append(entry('acme', 1, { detail: { text: 'ü'.repeat(4000) } }));
  await log.append(entry('acme', 2, { detail: { text: 'x'.repeat(4000) } }));
  const [first, second] = await log.list('acme', { limit: 2 });
  assert.match(first?.record.detail ?? '', /^\{"omitted":"detail of 80\d\d bytes/);
  assert.equal((JSON.parse(second?.record.detail ?? '') as { text: string }).text.length, 4000);
});

test('more waiting records than the limit are refused', async (t) => {
  const log = await openLog(t, { path: tempFolder(t), limits: { maxWaiting: 10 } });
  const results = await Promise.allSettled(Array.from({ length: 15 }, (_, i) => log.append(entry('acme', i))));
  assert.equal(results.filter(({ status }) => status === 'fulfilled').length, 10);
  assert.equal(log.size('acme'), 10);
});

test('a burst larger than the journal waits for the disk and is taken whole', async (t) => {
  const log = await openLog(t, { path: tempFolder(t), limits: { journalBytes: 64 * 1024 } });
  await appendMany(log, 'acme', 3000, 3000);
  assert.equal(log.size('acme'), 3000);
  assert.deepEqual((await log.verify('acme')).findings, []);
});

test('times have microseconds and do not go back', async (t) => {
  const log = await openLog(t, { path: tempFolder(t) });
  await appendMany(log, 'acme', 500, 50);
  const times = (await log.list('acme', { limit: 500 })).map(({ record }) => record.time);
  assert.deepEqual(times, times.toSorted());
  assert.match(times[0] ?? '', /\.\d{6}Z$/);
  assert.ok(new Set(times).size > 5);
});

test('lists pages from any position, and the newest', async (t) => {
  const log = await openLog(t, { path: tempFolder(t) });
  await appendMany(log, 'acme', 30);
  const positions = async (query: Parameters<typeof log.list>[1]): Promise<number[]> =>
    (await log.list('acme', query)).map(({ index }) => index);
  assert.deepEqual(await positions({ from: 5, limit: 3 }), [5, 6, 7]);
  assert.deepEqual(await positions({ from: 28, limit: 10 }), [28, 29]);
  assert.deepEqual(await positions({ from: 30, limit: 10 }), []);
  assert.deepEqual(await positions({ limit: 2, newest: true }), [28, 29]);
  assert.deepEqual(
    await positions({ limit: 100, newest: true }),
    Array.from({ length: 30 }, (_, i) => i),
  );
  assert.deepEqual(await log.list('none', { limit: 3 }), []);
});

test('tail gives what is there, then what comes, and ends at the signal', async (t) => {
  const log = await openLog(t, { path: tempFolder(t) });
  await appendMany(log, 'acme', 5);
  const ended = new AbortController();
  const seen: number[] = [];
  const reader = (async () => {
    for await (const page of log.tail('acme', { from: 2, signal: ended.signal })) {
      seen.push(...page.map(({ index }: StoredRecord) => index));
      if (seen.length === 3) void appendMany(log, 'acme', 4, 1);
      if (seen.length === 7) ended.abort();
    }
  })();
  await reader;
  assert.deepEqual(seen, [2, 3, 4, 5, 6, 7, 8]);
});

test('close ends a tail, commits what waits, and refuses what comes after', async (t) => {
  const path = tempFolder(t);
  const token = createToken();
  const log = await openLog(t, { path, token });
  const reader = (async () => {
    let count = 0;
    for await (const page of log.tail('acme', { from: 0, signal: new AbortController().signal })) count += page.length;
    return count;
  })();
  const waiting = [log.append(entry('acme', 1)), log.append(entry('acme', 2))];
  const closing = log.close();
  await assert.rejects(log.append(entry('acme', 3)), { code: 'AUDIT_UNAVAILABLE' });
  await Promise.all([...waiting, closing]);
  assert.ok((await reader) <= 2);
  assert.equal((await openLog(t, { path, token })).size('acme'), 2);
});

test('listeners hear of each commit and can leave', async (t) => {
  const log = await openLog(t, { path: tempFolder(t) });
  const heard: [string, number][] = [];
  const stop = log.onAppend((tenant, size) => heard.push([tenant, size]));
  await log.append(entry('acme'));
  await log.append(entry('acme'));
  stop();
  await log.append(entry('acme'));
  assert.deepEqual(heard, [
    ['acme', 1],
    ['acme', 2],
  ]);
});

test('a token that is away at the start is its own error; the folder can be opened again', async (t) => {
  const path = tempFolder(t);
  const token = createToken();
  token.broken = new AgentError('HSM_UNAVAILABLE');
  await assert.rejects(openLog(t, { path, token }), { code: 'HSM_UNAVAILABLE' });
  token.broken = undefined;
  await (await openLog(t, { path, token })).close();
  token.broken = new AgentError('HSM_BUSY');
  await assert.rejects(openLog(t, { path, token }), { code: 'HSM_BUSY' });
  token.broken = undefined;
  await (await openLog(t, { path, token })).append(entry('acme'));
});

test('another token than the one that wrapped the MAC keys cannot append', async (t) => {
  const path = tempFolder(t);
  const first = await openLog(t, { path });
  await first.append(entry('acme'));
  await first.close();
  const stranger = createToken();
  const events = recordEvents();
  const log = await openLog(t, {
    path,
    events,
    token: {
      ...stranger,
      unwrap: async (...args) => {
        try {
          return await stranger.unwrap(...args);
        } catch (cause) {
          throw new AgentError('INVALID_CIPHERTEXT', { cause }); // as the token room translates it
        }
      },
    },
  });
  await assert.rejects(log.append(entry('acme')), { code: 'AUDIT_CORRUPT', message: /cannot unwrap the MAC key/ });
  assert.equal(events.seen.filter(({ name }) => name === 'corrupt').length, 1);
});

test('a policy that cannot say the durability refuses the append, not the process', async (t) => {
  const log = await openLog(t, {
    path: tempFolder(t),
    durability: (tenant) => {
      if (tenant === 'acme') throw new AgentError('POLICY_INVALID');
      return 'committed';
    },
  });
  await assert.rejects(log.append(entry('acme')), { code: 'POLICY_INVALID' });
  await log.append(entry('globex'));
  assert.deepEqual([log.size('acme'), log.size('globex')], [0, 1]);
});
