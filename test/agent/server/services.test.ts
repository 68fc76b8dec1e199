// Health, reflection, status and audit calls, streams and the drain.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import {
  type ClientReadableStream,
  credentials,
  loadPackageDefinition,
  Metadata,
  type ServiceError,
  status,
} from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { protoPath } from 'grpc-health-check';
import { AgentError } from '../../../agent/errors.ts';
import { SCOPES } from '../../../proto/documents/operations.ts';
import type { TailRecordsResponse } from '../../../proto/gen/mortise/agent/v1/audit.ts';
import { ask, caller, clientsOf, deafSession, detailsOf, failsWith, record, startServer, whoAmI } from './support.ts';

interface HealthClient {
  check(request: { service: string }, callback: (error: ServiceError | null, answer: { status: string }) => void): void;
  watch(request: { service: string }): ClientReadableStream<{ status: string }>;
  close(): void;
}

const healthClient = (t: TestContext, path: string): HealthClient => {
  const loaded = loadPackageDefinition(loadSync(protoPath, { enums: String })) as unknown as {
    grpc: { health: { v1: { Health: new (target: string, creds: object, options: object) => HealthClient } } };
  };
  const options = { 'grpc.use_local_subchannel_pool': 1 };
  const client = new loaded.grpc.health.v1.Health(`unix:${path}`, credentials.createInsecure(), options);
  t.after(() => client.close());
  return client;
};

const check = (client: HealthClient, service: string): Promise<string> =>
  new Promise((resolve, reject) => {
    client.check({ service }, (error, answer) => (error ? reject(error) : resolve(answer.status)));
  });

const strangersOnly = {
  authenticate: async () => {
    throw new AgentError('UNAUTHENTICATED');
  },
};

test('health names the broken part and needs no credentials', async (t) => {
  const { path, server } = await startServer(t, strangersOnly);
  const client = healthClient(t, path);
  assert.equal(await check(client, ''), 'NOT_SERVING');
  for (const part of ['policy', 'keys', 'token', 'audit'] as const) server.setHealth(part, true);
  assert.equal(await check(client, ''), 'SERVING');
  server.setHealth('token', false);
  assert.equal(await check(client, ''), 'NOT_SERVING');
  assert.equal(await check(client, 'mortise.token'), 'NOT_SERVING');
  for (const part of ['policy', 'keys', 'audit']) assert.equal(await check(client, `mortise.${part}`), 'SERVING');
  await assert.rejects(check(client, 'nothing'), (error: ServiceError) => error.code === status.NOT_FOUND);
});

test('a health watcher learns of each change and of the drain', async (t) => {
  const { path, server } = await startServer(t, strangersOnly);
  for (const part of ['policy', 'keys', 'token', 'audit'] as const) server.setHealth(part, true);
  const watch = healthClient(t, path).watch({ service: 'mortise.token' });
  watch.on('error', () => undefined);
  const next = async (): Promise<string> => ((await once(watch, 'data')) as [{ status: string }])[0].status;
  assert.equal(await next(), 'SERVING');
  server.setHealth('token', false);
  assert.equal(await next(), 'NOT_SERVING');
  server.setHealth('token', true);
  assert.equal(await next(), 'SERVING');
  const last = next();
  const closed = server.close();
  assert.equal(await last, 'NOT_SERVING');
  await closed;
});

interface ReflectionClient {
  ServerReflectionInfo(): {
    on(event: string, listener: (answer: never) => void): void;
    write(request: object): void;
    end(): void;
  };
  close(): void;
}

const listedServices = (t: TestContext, path: string, version: 'v1' | 'v1alpha'): Promise<string[]> => {
  const folder = join(
    import.meta.dirname,
    '../../../node_modules/@grpc/reflection/build/proto/grpc/reflection',
    version,
  );
  const loaded = loadPackageDefinition(loadSync(join(folder, 'reflection.proto'), { oneofs: true })) as unknown as {
    grpc: { reflection: Record<string, { ServerReflection: new (target: string, creds: object) => ReflectionClient }> };
  };
  const Kind = loaded.grpc.reflection[version]?.ServerReflection as new (
    target: string,
    creds: object,
  ) => ReflectionClient;
  const client = new Kind(`unix:${path}`, credentials.createInsecure());
  t.after(() => client.close());
  return new Promise((resolve, reject) => {
    const stream = client.ServerReflectionInfo();
    stream.on('error', reject);
    stream.on('data', ((answer: { listServicesResponse: { service: { name: string }[] } }) => {
      stream.end();
      resolve(answer.listServicesResponse.service.map(({ name }) => name).sort());
    }) as never);
    stream.write({ listServices: '*' });
  });
};

test('reflection lists the services in both versions of its protocol', async (t) => {
  const { path } = await startServer(t, { ...strangersOnly, reflection: true });
  const ours = ['Audit', 'Crypto', 'Keys', 'Pipeline', 'Status', 'Stream'].map(
    (name) => `mortise.agent.v1.${name}Service`,
  );
  for (const version of ['v1', 'v1alpha'] as const) assert.deepEqual(await listedServices(t, path, version), ours);
});

test('reflection can be switched off', async (t) => {
  const { path } = await startServer(t, { reflection: false });
  await assert.rejects(listedServices(t, path, 'v1'), (error: ServiceError) => error.code === status.UNIMPLEMENTED);
});

test('WhoAmI and GetStatus answer with all their fields', async (t) => {
  const scopes = new Set(SCOPES.slice(0, 3));
  const { path } = await startServer(t, { authenticate: async () => caller({ scopes, authenticatedBy: 'peer' }) });
  const answer = await whoAmI(clientsOf(t, path).status);
  assert.deepEqual(answer, {
    tenant: 'blue',
    principal: 'payments',
    scopes: [...scopes].sort(),
    authenticatedBy: 'peer',
    uid: process.getuid?.(),
    gid: process.getgid?.(),
    pid: process.pid,
  });
  await assert.rejects(
    ask(clientsOf(t, path).status, clientsOf(t, path).status.getStatus as never, {}),
    failsWith(status.PERMISSION_DENIED, 'PERMISSION_DENIED'),
  );
  const full = await startServer(t);
  const { status: client } = clientsOf(t, full.path);
  const state = await ask<object, object, Record<string, unknown>>(client, client.getStatus as never, {});
  assert.deepEqual(state['policies'], [
    { scope: 'platform', version: 7n, digest: 'ab', expiresAt: new Date(2), verifiedAt: new Date(1), stale: false },
  ]);
  assert.deepEqual(state['startTime'], new Date(1_700_000_000_000));
  assert.equal((state['token'] as { restarts: number }).restarts, 1);
});

const list = (client: ReturnType<typeof clientsOf>['audit'], from = 0n, pageSize = 0, newest = false) =>
  ask<object, object, { records: { index: bigint; tenant: string }[]; size: bigint }>(
    client,
    client.listRecords as never,
    { from, pageSize, newest },
  );

test('audit records come in pages, of the caller’s own tenant only', async (t) => {
  const { path, log } = await startServer(t);
  log.append(...Array.from({ length: 250 }, (_, index) => record(index)), record(0, '', 'green'));
  const { audit } = clientsOf(t, path);
  const indexes = async (...args: [bigint?, number?, boolean?]) =>
    (await list(audit, ...args)).records.map(({ index }) => Number(index));
  assert.deepEqual([(await indexes()).length, (await indexes()).at(-1)], [100, 99]);
  assert.deepEqual(await indexes(248n, 10), [248, 249]);
  assert.deepEqual(await indexes(0n, 2, true), [248, 249]);
  assert.deepEqual(await indexes(250n), []);
  assert.equal((await list(audit)).size, 250n);
  for (const [args, field] of [
    [[0n, 1001], 'page_size'],
    [[2n ** 60n], 'from'],
    [[1n, 1, true], 'from'],
  ] as const) {
    const failure = await list(audit, ...(args as [bigint])).catch((error: unknown) => error);
    assert.equal(detailsOf(failure).fields?.[0]?.field, field);
  }
});

test('the host reads its own log', async (t) => {
  const { path, log } = await startServer(t, { authenticate: async () => caller({ tenant: '_platform' }) });
  log.append(record(0), record(0, '', '_platform'));
  const { records } = await list(clientsOf(t, path).audit);
  assert.deepEqual(
    records.map(({ tenant }) => tenant),
    ['_platform'],
  );
});

test('a page of large records stays below what clients accept', async (t) => {
  const { path, log } = await startServer(t);
  log.append(...Array.from({ length: 1000 }, (_, index) => record(index, 'x'.repeat(8000))));
  const { audit } = clientsOf(t, path);
  const { records } = await list(audit, 0n, 1000);
  assert.ok(records.length > 300 && records.length < 1000);
  assert.equal(records[0]?.index, 0n);
  const newest = (await list(audit, 0n, 1000, true)).records;
  assert.equal(newest.at(-1)?.index, 999n);
});

test('checkpoint and verification pass through, findings bounded', async (t) => {
  const { path, log } = await startServer(t);
  const { audit } = clientsOf(t, path);
  assert.deepEqual(await ask(audit, audit.getCheckpoint as never, {}), {
    checkpoint: 'checkpoint of blue\n',
    publicJwk: '{"kty":"OKP"}',
  });
  const verify = (trustedCheckpoint: string) =>
    ask<object, object, { findings: object[]; intact: boolean; checkpointTime: Date }>(
      audit,
      audit.verifyLog as never,
      {
        trustedCheckpoint,
      },
    );
  const result = await verify('');
  assert.equal(result.findings.length, 100);
  assert.equal(result.intact, false);
  assert.deepEqual(result.checkpointTime, new Date(1_700_000_000_000));
  await verify('mine');
  assert.deepEqual(log.verified, [undefined, 'mine']);
  await assert.rejects(verify('x'.repeat(20_000)), failsWith(status.INVALID_ARGUMENT, 'INVALID_REQUEST'));
});

const tail = (t: TestContext, path: string, from = 0n) => {
  const stream = clientsOf(t, path).audit.tailRecords({ from }, new Metadata());
  const failed = new Promise<ServiceError>((resolve) => stream.on('error', resolve));
  const next = async () => ((await once(stream, 'data')) as [TailRecordsResponse])[0].records.map(({ index }) => index);
  return { stream, failed, next };
};

test('a tail shows what is there and then what comes, and ends with the call', async (t) => {
  const { path, log, events, until } = await startServer(t);
  log.append(record(0), record(1));
  const { stream, failed, next } = tail(t, path, 1n);
  assert.deepEqual(await next(), [1n]);
  const coming = next();
  log.append(record(2), record(3));
  assert.deepEqual(await coming, [2n, 3n]);
  stream.cancel();
  assert.equal((await failed).code, status.CANCELLED);
  await until(() => events.some(({ event }) => event === 'finished'));
});

test('a tail ends at its deadline, and cannot begin beyond the end of the log', async (t) => {
  const { path } = await startServer(t, { limits: { maxStreamDeadlineMs: 600 } });
  assert.equal((await tail(t, path).failed).code, status.DEADLINE_EXCEEDED);
  assert.ok(failsWith(status.INVALID_ARGUMENT, 'INVALID_REQUEST')(await tail(t, path, 5n).failed));
});

test('a tail shows nothing more once the credentials of its caller have ended', async (t) => {
  let ended = false;
  const stands = (): void => {
    if (ended) throw new AgentError('TOKEN_EXPIRED');
  };
  const { path, log } = await startServer(t, { authenticate: async () => caller({ stands }) });
  log.append(record(0));
  const { stream, failed } = tail(t, path);
  const seen: unknown[] = [];
  stream.on('data', ({ records }) => {
    seen.push(...records.map(({ index }: { index: bigint }) => Number(index)));
    ended = true;
    log.append(record(1));
  });
  assert.ok(failsWith(status.UNAUTHENTICATED, 'TOKEN_EXPIRED')(await failed));
  assert.deepEqual(seen, [0]);
});

test('a tail whose reader does not read holds one message, not the log', async (t) => {
  const { path, log, events, until } = await startServer(t, { limits: { answerMs: 300 } });
  log.append(...Array.from({ length: 4000 }, (_, index) => record(index, 'x'.repeat(8000))));
  const { call } = await deafSession(t, path, 0);
  call('/mortise.agent.v1.AuditService/TailRecords', Buffer.alloc(0));
  await until(() => events.some(({ event }) => event === 'cut'));
  assert.equal(events.find(({ event }) => event === 'cut')?.['reason'], 'SLOW_READER');
  assert.ok(log.served <= 1000, `${log.served} records were fetched for a reader that took none`);
});

const request = { key: 'k', plaintext: Buffer.alloc(0), associatedData: Buffer.alloc(0) };

test('a drain answers what is under way, refuses what is new, ends streams and removes the socket', async (t) => {
  const { path, server, waiting, until, events } = await startServer(t);
  const { crypto, status: client } = clientsOf(t, path);
  const tailing = tail(t, path);
  await until(() => events.some(({ event }) => event === 'opened'));
  await whoAmI(client);
  const underWay = ask<object, object, { jwe: string }>(crypto, crypto.encrypt as never, request);
  await until(() => waiting.length === 1);
  const closed = server.close();
  await assert.rejects(whoAmI(client), failsWith(status.UNAVAILABLE, 'SHUTTING_DOWN'));
  assert.ok(failsWith(status.UNAVAILABLE, 'SHUTTING_DOWN')(await tailing.failed));
  waiting[0]?.resolve('jwe');
  assert.equal((await underWay).jwe, 'jwe k');
  await closed;
  assert.equal(existsSync(path), false);
  assert.equal(events.find(({ event }) => event === 'drained')?.['callsCutOff'], false);
  await assert.rejects(whoAmI(client), (error: ServiceError) => error.code === status.UNAVAILABLE);
});

test('a drain waits for a handler whose caller has gone, since what it does is recorded', async (t) => {
  const { path, server, waiting, until, audit, events } = await startServer(t);
  const { crypto } = clientsOf(t, path);
  const controller = new AbortController();
  const cancelled = ask(crypto, crypto.encrypt as never, request, { signal: controller.signal });
  await until(() => waiting.length === 1);
  const aborted = once(waiting[0]?.call.signal as never, 'abort');
  controller.abort();
  await assert.rejects(cancelled);
  await aborted;
  let done = false;
  const closed = server.close().then(() => {
    done = true;
  });
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(done, false);
  waiting[0]?.resolve('jwe');
  await closed;
  assert.equal(audit.at(-1)?.operation, 'encrypt');
  assert.ok(events.some(({ event }) => event === 'drained'));
});

test('a drain ends in its time, with the signal of what hangs aborted', async (t) => {
  const { path, server, waiting, until, events } = await startServer(t);
  const { crypto } = clientsOf(t, path);
  const hanging = ask(crypto, crypto.encrypt as never, request);
  await until(() => waiting.length === 1);
  const { call, resolve } = waiting[0] as (typeof waiting)[number];
  call.signal.addEventListener('abort', () => resolve('gave up'));
  await server.close(20);
  assert.equal((call.signal.reason as AgentError).code, 'SHUTTING_DOWN');
  await hanging.catch((error: ServiceError) => assert.equal(error.code, status.UNAVAILABLE));
  assert.equal(events.find(({ event }) => event === 'drained')?.['callsCutOff'], true);
});

test('answers given in the last moment of a drain arrive whole', async (t) => {
  const { path, server, waiting, until } = await startServer(t);
  const { crypto } = clientsOf(t, path);
  const answers = Array.from({ length: 20 }, () =>
    ask<object, object, { jwe: string }>(crypto, crypto.encrypt as never, request),
  );
  await until(() => waiting.length === 20);
  const closed = server.close();
  const large = 'x'.repeat(1024 * 1024);
  for (const { resolve } of waiting) resolve(large);
  for (const answer of await Promise.all(answers)) assert.equal(answer.jwe.length, large.length + 2);
  await closed;
});

test('an open health watch is ended by a drain with SHUTTING_DOWN', async (t) => {
  const { path, server, events } = await startServer(t);
  const watch = healthClient(t, path).watch({ service: '' });
  const failed = new Promise((resolve) => watch.once('error', (error) => resolve([error])));
  watch.resume();
  await once(watch, 'metadata');
  await server.close(60_000);
  const [error] = (await failed) as [ServiceError];
  assert.equal(error.code, status.UNAVAILABLE);
  assert.equal(events.find(({ event }) => event === 'drained')?.['callsCutOff'], false);
});

test('refused calls do not hold up a drain', async (t) => {
  const { path, server, events } = await startServer(t, strangersOnly);
  await assert.rejects(whoAmI(clientsOf(t, path).status), failsWith(status.UNAUTHENTICATED, 'UNAUTHENTICATED'));
  await server.close(60_000);
  assert.equal(events.find(({ event }) => event === 'drained')?.['callsCutOff'], false);
});

test('calls that never reached their handler do not hold up a drain', async (t) => {
  const gate = Promise.withResolvers<void>();
  const begun = Promise.withResolvers<void>();
  const { path, server, events, until } = await startServer(t, {
    authenticate: async () => {
      begun.resolve();
      await gate.promise;
      return caller();
    },
  });
  const { crypto } = clientsOf(t, path);
  const controller = new AbortController();
  const cancelled = ask(crypto, crypto.encrypt as never, request, { signal: controller.signal });
  await begun.promise;
  controller.abort();
  await assert.rejects(cancelled);
  await until(() => events.some(({ event, code }) => event === 'finished' && code === 'CANCELLED'));
  gate.resolve();
  await server.close();
});
