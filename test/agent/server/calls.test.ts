// The chain of a call over a real socket: identity, correlation id, deadline, cancellation, errors.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type ServiceError, status } from '@grpc/grpc-js';
import { AgentError } from '../../../agent/errors.ts';
import type { Call } from '../../../agent/operations/ports/call.ts';
import { ask, askRaw, caller, clientsOf, detailsOf, failsWith, startServer, whoAmI } from './support.ts';

const NOTHING = new Uint8Array();
const request = (key: string) => ({ key, plaintext: Buffer.from(NOTHING), associatedData: Buffer.from(NOTHING) });

test('a call knows its caller and the peer that the kernel names', async (t) => {
  const { path, audit } = await startServer(t);
  const answer = await whoAmI(clientsOf(t, path).status);
  assert.equal(answer.tenant, 'blue');
  assert.equal(answer.uid, process.getuid?.());
  assert.equal(answer.pid, process.pid);
  assert.equal(audit[0]?.detail?.['uid'], process.getuid?.());
});

test('no header names a tenant', async (t) => {
  const { path, audit } = await startServer(t);
  const names = [
    'x-tenant-id',
    'tenant',
    'x-tenant',
    'x-mortise-tenant',
    'x-principal',
    'x-scopes',
    'x-forwarded-user',
  ];
  const metadata = Object.fromEntries(names.map((name) => [name, 'green']));
  const answer = await whoAmI(clientsOf(t, path).status, { metadata });
  assert.equal(answer.tenant, 'blue');
  assert.equal(audit[0]?.tenant, 'blue');
});

test('authentication sees the peer and every authorization value, and nothing else', async (t) => {
  const seen: object[] = [];
  const { path } = await startServer(t, {
    authenticate: async (credentials) => {
      seen.push(credentials);
      return caller();
    },
  });
  const metadata = { authorization: 'Bearer abc' };
  await whoAmI(clientsOf(t, path).status, { metadata });
  const peer = { uid: process.getuid?.(), gid: process.getgid?.(), pid: process.pid };
  assert.deepEqual(seen, [{ peer, authorization: ['Bearer abc'] }]);
});

test('a stranger is refused before the body is read, and the refusal is recorded first', async (t) => {
  const refusals: object[] = [];
  const { path, audit, events } = await startServer(t, {
    authenticate: async () => {
      throw new AgentError('UNAUTHENTICATED', { cause: new Error('secret reason') });
    },
    refuse: async (refusal) => void refusals.push(refusal),
  });
  const { crypto } = clientsOf(t, path);
  const failure = await ask(crypto, crypto.encrypt as never, request('k'), {
    metadata: { 'x-correlation-id': 'abc' },
  }).catch((error: unknown) => error);
  assert.ok(failsWith(status.UNAUTHENTICATED, 'UNAUTHENTICATED')(failure));
  assert.doesNotMatch(JSON.stringify(failure) + String(failure), /secret reason/);
  const peer = { uid: process.getuid?.(), gid: process.getgid?.(), pid: process.pid };
  assert.deepEqual(refusals, [{ peer, operation: 'encrypt', code: 'UNAUTHENTICATED', correlationId: 'abc' }]);
  assert.deepEqual(audit, []);
  assert.equal(events.find(({ event }) => event === 'finished')?.['code'], 'UNAUTHENTICATED');
});

test('a refusal that cannot be recorded is AUDIT_UNAVAILABLE', async (t) => {
  const { path } = await startServer(t, {
    authenticate: async () => {
      throw new AgentError('TOKEN_EXPIRED');
    },
    refuse: async () => {
      throw new AgentError('AUDIT_UNAVAILABLE');
    },
  });
  await assert.rejects(whoAmI(clientsOf(t, path).status), failsWith(status.UNAVAILABLE, 'AUDIT_UNAVAILABLE'));
});

test('the correlation id is the caller’s where it may stand in a log, else a new one', async (t) => {
  const { path, audit } = await startServer(t);
  const { status: client } = clientsOf(t, path);
  const given: [Record<string, string>, RegExp][] = [
    [{ 'x-correlation-id': 'A-z_0.9' }, /^A-z_0\.9$/],
    [{ 'x-request-id': 'req-1' }, /^req-1$/],
    [{ 'x-correlation-id': 'x'.repeat(65), 'x-request-id': 'req-2' }, /^req-2$/],
    [{ 'x-correlation-id': 'a b' }, /^[0-9a-f-]{36}$/],
    [{ 'x-correlation-id': '' }, /^[0-9a-f-]{36}$/],
    [{}, /^[0-9a-f-]{36}$/],
  ];
  for (const [metadata, expected] of given) {
    await whoAmI(client, { metadata });
    assert.match(audit.at(-1)?.correlationId ?? '', expected);
  }
});

test('a failure carries code, reason, fields, metadata and the time to wait', async (t) => {
  const { path } = await startServer(t, {
    ports: {
      rateLimit: {
        take: () => {
          throw new AgentError('RATE_LIMITED', { retryAfterMs: 1250, metadata: { tenant: 'blue' } });
        },
      },
    },
  });
  const failure = await whoAmI(clientsOf(t, path).status, { metadata: { 'x-correlation-id': 'c-1' } }).catch((e) => e);
  assert.equal((failure as ServiceError).code, status.RESOURCE_EXHAUSTED);
  assert.deepEqual(detailsOf(failure), {
    code: status.RESOURCE_EXHAUSTED,
    message: 'too many operations of this tenant',
    reason: 'RATE_LIMITED',
    domain: 'mortise',
    metadata: { tenant: 'blue', correlation_id: 'c-1' },
    fields: undefined,
    retryDelay: { seconds: 1n, nanos: 250_000_000 },
  });
});

test('a bug is INTERNAL, tells nothing, and goes to the events with its cause', async (t) => {
  const { path, events } = await startServer(t);
  const sign = '/mortise.agent.v1.CryptoService/Sign';
  const failure = await askRaw(path, sign, Buffer.alloc(0)).catch((error: unknown) => error);
  assert.ok(failsWith(status.INTERNAL, 'INTERNAL')(failure));
  assert.doesNotMatch(JSON.stringify(failure), /secret detail/);
  const finished = events.find(({ event }) => event === 'finished')?.['error'] as AgentError;
  assert.match(String(finished.cause), /secret detail/);
});

test('a client that sets no deadline gets the default one, and none gets more than the maximum', async (t) => {
  const calls: Call[] = [];
  const { path, waiting, until } = await startServer(t, { limits: { defaultDeadlineMs: 5_000, maxDeadlineMs: 9_000 } });
  const { crypto } = clientsOf(t, path);
  const before = Date.now();
  for (const deadline of [undefined, before + 2_000, before + 3_600_000]) {
    const answer = ask(crypto, crypto.encrypt as never, request('k'), deadline === undefined ? {} : { deadline });
    await until(() => waiting.length > 0);
    const { call, resolve } = waiting.pop() as (typeof waiting)[number];
    calls.push(call);
    resolve('jwe');
    await answer;
  }
  const [byDefault, asked, capped] = calls.map(({ deadline }) => deadline - before) as [number, number, number];
  assert.ok(byDefault >= 5_000 && byDefault < 9_000);
  assert.ok(asked > 0 && asked < 5_000);
  assert.ok(capped >= 9_000 && capped < 3_600_000);
});

test('at its deadline a call is answered and aborted, whatever its handler does', async (t) => {
  const { path, waiting, until, events } = await startServer(t, { limits: { defaultDeadlineMs: 600 } });
  const { crypto } = clientsOf(t, path);
  await assert.rejects(
    ask(crypto, crypto.encrypt as never, request('k')),
    failsWith(status.DEADLINE_EXCEEDED, 'DEADLINE_EXCEEDED'),
  );
  const { call, resolve } = waiting[0] as (typeof waiting)[number];
  assert.equal(call.signal.aborted, true);
  assert.equal((call.signal.reason as AgentError).code, 'DEADLINE_EXCEEDED');
  resolve('too late');
  await until(() => events.some(({ event }) => event === 'finished'));
});

test('a caller that cancels aborts the signal of its call alone', async (t) => {
  const { path, waiting, until } = await startServer(t);
  const { crypto } = clientsOf(t, path);
  const controller = new AbortController();
  const cancelled = ask(crypto, crypto.encrypt as never, request('one'), { signal: controller.signal });
  await until(() => waiting.length === 1);
  const kept = ask<object, object, { jwe: string }>(crypto, crypto.encrypt as never, request('two'));
  await until(() => waiting.length === 2);
  const [first, second] = waiting as [(typeof waiting)[number], (typeof waiting)[number]];
  const aborted = new Promise((resolve) => first.call.signal.addEventListener('abort', resolve));
  controller.abort();
  await assert.rejects(cancelled, (error: ServiceError) => error.code === status.CANCELLED);
  await aborted;
  assert.equal((first.call.signal.reason as AgentError).code, 'CANCELLED');
  assert.equal(second.call.signal.aborted, false);
  first.resolve('dropped');
  second.resolve('jwe');
  assert.equal((await kept).jwe, 'jwe two');
});

test('a request that does not decode is a recorded INVALID_REQUEST', async (t) => {
  const { path, audit } = await startServer(t);
  const method = '/mortise.agent.v1.CryptoService/Encrypt';
  const bad: Record<string, Buffer> = {
    'a length beyond the end': Buffer.from([0x0a, 0x7f, 0x41]),
    'an endless varint': Buffer.alloc(11, 0xff),
    'an unknown wire type': Buffer.from([0x0f]),
    'an end group before the end': Buffer.from([0x0c, 0x00]),
    'a string that is not UTF-8': Buffer.from([0x0a, 0x02, 0xc3, 0x28]),
    'a string with a surrogate': Buffer.from([0x0a, 0x03, 0xed, 0xa0, 0x80]),
    'a field number of zero': Buffer.from([0x00, 0x00]),
  };
  for (const [name, bytes] of Object.entries(bad)) {
    await assert.rejects(askRaw(path, method, bytes), failsWith(status.INVALID_ARGUMENT, 'INVALID_REQUEST'), name);
    assert.equal(audit.at(-1)?.operation, 'encrypt');
    assert.equal(audit.at(-1)?.outcome, 'INVALID_REQUEST');
  }
  assert.equal(audit.length, Object.keys(bad).length);
});

test('an unknown method or service is UNIMPLEMENTED', async (t) => {
  const { path } = await startServer(t);
  for (const method of ['/mortise.agent.v1.CryptoService/Nothing', '/other.Service/Call']) {
    await assert.rejects(
      askRaw(path, method, Buffer.alloc(0)),
      (error: ServiceError) => error.code === status.UNIMPLEMENTED,
    );
  }
});

test('messages above the limit are refused without being held', async (t) => {
  const { path } = await startServer(t, { limits: { maxRequestBytes: 1024 * 1024 } });
  const method = '/mortise.agent.v1.StatusService/WhoAmI';
  const padded = (bytes: number) => Buffer.concat([Buffer.from([0x7a, ...varint(bytes)]), Buffer.alloc(bytes)]);
  await askRaw(path, method, padded(1024 * 1024 - 16));
  await assert.rejects(
    askRaw(path, method, padded(1024 * 1024 + 1)),
    (error: ServiceError) => error.code === status.RESOURCE_EXHAUSTED,
  );
});

const varint = (value: number): number[] => (value < 128 ? [value] : [(value & 127) | 128, ...varint(value >>> 7)]);

test('metadata above the limit is refused', async (t) => {
  const { path, audit } = await startServer(t, { limits: { maxMetadataBytes: 2048 } });
  const { status: client } = clientsOf(t, path);
  await whoAmI(client, { metadata: { padding: 'x'.repeat(1000) } });
  await assert.rejects(
    whoAmI(client, { metadata: { padding: 'x'.repeat(2048) } }),
    failsWith(status.INVALID_ARGUMENT, 'TOO_LARGE'),
  );
  assert.equal(audit.length, 1);
});
