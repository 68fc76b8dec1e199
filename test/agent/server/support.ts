// A server on a real socket with small ports in place of the rooms, and clients for it. The crypto service has test
// handlers: Encrypt waits for the test, Decrypt answers with as many bytes as the JWE is long, times 1,024.
import { once } from 'node:events';
import { connect as connectHttp2 } from 'node:http2';
import { connect } from 'node:net';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { Client, type ClientOptions, credentials, Metadata, type ServiceError, type status } from '@grpc/grpc-js';
import { AgentError } from '../../../agent/errors.ts';
import { type Ports, perform } from '../../../agent/operations/perform.ts';
import type { AuditEvent } from '../../../agent/operations/ports/audit.ts';
import type { AuditReadPort, AuditRecordView } from '../../../agent/operations/ports/audit-log.ts';
import type { Call, Caller, Peer } from '../../../agent/operations/ports/call.ts';
import type { AgentState } from '../../../agent/operations/ports/status.ts';
import type { ServerLimits } from '../../../agent/server/limits.ts';
import { type Handlers, service } from '../../../agent/server/rpc.ts';
import { createServer, type ServerParts } from '../../../agent/server/server.ts';
import { SCOPES } from '../../../proto/documents/operations.ts';
import { BadRequest, ErrorInfo, RetryInfo, Status } from '../../../proto/gen/google/rpc/status.ts';
import { AuditServiceClient } from '../../../proto/gen/mortise/agent/v1/audit.ts';
import { CryptoServiceClient, CryptoServiceService } from '../../../proto/gen/mortise/agent/v1/crypto.ts';
import { StatusServiceClient } from '../../../proto/gen/mortise/agent/v1/status.ts';
import { temporaryFolder } from '../../support/folder.ts';

export const record = (index: number, detail = '', tenant = 'blue'): AuditRecordView => ({
  index,
  tenant,
  principal: 'payments',
  key: '-',
  algorithm: '-',
  operation: 'encrypt',
  outcome: 'ok',
  time: '2026-01-15T12:00:00.000000Z',
  correlationId: 'c',
  eventId: `host/1/${index}`,
  detail,
  canonical: new Uint8Array([1, 2, index % 256]),
  mac: new Uint8Array(32),
});

/** A log in memory that the test appends to. */
export class TestLog implements AuditReadPort {
  readonly records: AuditRecordView[] = [];
  #grown = Promise.withResolvers<void>();
  verified: (string | undefined)[] = [];
  served = 0;

  append(...records: AuditRecordView[]): void {
    this.records.push(...records);
    this.#grown.resolve();
    this.#grown = Promise.withResolvers();
  }

  #of(tenant: string): AuditRecordView[] {
    return this.records.filter((row) => row.tenant === tenant);
  }

  size(tenant: string): number {
    return this.#of(tenant).length;
  }

  async list(tenant: string, from: number, limit: number): Promise<readonly AuditRecordView[]> {
    return this.#of(tenant).slice(from, from + limit);
  }

  async *tail(tenant: string, from: number, signal: AbortSignal): AsyncGenerator<readonly AuditRecordView[]> {
    const aborted = new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
    for (let at = from; !signal.aborted; ) {
      const grown = this.#grown.promise;
      const rows = this.#of(tenant).slice(at, at + 500);
      at += rows.length;
      this.served += rows.length;
      if (rows.length > 0) yield rows;
      else await Promise.race([grown, aborted]);
    }
  }

  async checkpoint(tenant: string) {
    return { checkpoint: `checkpoint of ${tenant}\n`, publicJwk: '{"kty":"OKP"}' };
  }

  async receipt(tenant: string, { eventId, countersigned, mayRead }: Parameters<AuditReadPort['receipt']>[1]) {
    const found = this.#of(tenant).find((row) => row.eventId === eventId);
    if (found === undefined || !mayRead(found.principal)) throw new AgentError('RECORD_UNKNOWN');
    const { canonical, mac } = found;
    return { proof: `proof of ${eventId}`, record: canonical, mac, publicJwk: '{"kty":"OKP"}', countersigned };
  }

  async verify(tenant: string, trusted: string | undefined) {
    this.verified.push(trusted);
    const findings = Array.from({ length: 150 }, (_, index) => ({ code: 'RECORD_EDITED', index, message: 'edited' }));
    return { intact: false, size: this.size(tenant), root: 'ab', findings, checkpointTime: 1_700_000_000_000 };
  }
}

export const STATE: AgentState = {
  version: '1.2.3',
  host: 'host-a',
  startedAt: 1_700_000_000_000,
  parts: [{ part: 'policy', healthy: true, detail: 'ok' }],
  policies: [{ scope: 'platform', version: 7, digest: 'ab', expiresAt: 2, verifiedAt: 1, stale: false }],
  token: { label: 'l', model: 'm', serial: 's', library: '/l.so', sessions: 2, restarts: 1, abilities: ['ecdsa'] },
  tokens: [],
  fipsBoundary: '',
  opensslFips: false,
};

export const caller = (change: Partial<Caller> = {}): Caller => ({
  tenant: 'blue',
  principal: 'payments',
  scopes: new Set(SCOPES),
  authenticatedBy: 'jwt',
  ...change,
});

const unused = async (): Promise<never> => {
  throw new AgentError('UNIMPLEMENTED');
};
const unusedCrypto = Object.fromEntries(
  Object.keys(CryptoServiceService).map((name) => [name, unused]),
) as unknown as Handlers<typeof CryptoServiceService>;

type Recorded = Record<string, unknown>;
export interface Setting {
  readonly limits?: Partial<ServerLimits>;
  readonly ports?: Partial<Ports>;
  readonly authenticate?: ServerParts['authenticate'];
  readonly refuse?: ServerParts['refuse'];
  readonly reflection?: boolean;
  readonly mode?: number;
  readonly folder?: string;
}

export const startServer = async (t: TestContext, setting: Setting = {}) => {
  const path = join(setting.folder ?? temporaryFolder(t), 'agent.sock');
  const audit: AuditEvent[] = [];
  const events: Recorded[] = [];
  const log = new TestLog();
  const waiting: { call: Call; resolve(jwe: string): void }[] = [];
  const watchers = new Set<() => void>();
  const changed = (): void => watchers.forEach((watcher) => void watcher());
  const event =
    (name: string) =>
    (value: object): void => {
      events.push({ event: name, ...value });
      changed();
    };
  const ports = {
    policy: { decide: () => ({ allowed: true, rule: 'platform.algorithms', warnings: [] }) },
    keys: { get: () => undefined, uses: () => 0, processed: () => undefined },
    audit: {
      append: async (entry: AuditEvent) => {
        return `host-a/1/${audit.push(entry)}`;
      },
    },
    rateLimit: { take: () => undefined },
    clock: { now: () => Date.now() },
    events: { finished: () => undefined, auditSuspended: () => undefined, wrongResult: () => undefined },
    ...setting.ports,
  } as unknown as Ports;
  const server = await createServer({
    ports,
    status: { state: () => STATE },
    auditLog: log,
    services: [
      service(CryptoServiceService, {
        ...unusedCrypto,
        encrypt: async (call, request) => {
          const { value } = await perform(ports, call, 'encrypt', () => {
            const { promise, resolve } = Promise.withResolvers<string>();
            waiting.push({ call, resolve });
            changed();
            return promise;
          });
          return { jwe: `${value} ${request.key}`, envelope: undefined };
        },
        decrypt: async (_call, { jwe }) => ({ plaintext: Buffer.alloc(jwe.length * 1024), envelope: undefined }),
        sign: async () => {
          throw new TypeError('secret detail of a bug');
        },
        generateRandom: async (call, { length }) => {
          await perform(ports, call, 'generate-random', () => undefined);
          return { random: Buffer.alloc(length, 7) };
        },
      }),
    ],
    socket: { path, mode: setting.mode ?? 0o600 },
    authenticate: setting.authenticate ?? (async () => caller()),
    refuse: setting.refuse ?? (async () => undefined),
    events: {
      connectionOpened: event('opened'),
      connectionClosed: event('closed'),
      connectionCut: event('cut'),
      callFinished: event('finished'),
      listening: event('listening'),
      drained: event('drained'),
    },
    clock: { now: () => Date.now() },
    limits: setting.limits ?? {},
    reflection: setting.reflection ?? false,
  });
  t.after(() => server.close(0));
  /** Resolves as soon as the predicate holds; looks again with every event. */
  const until = async (predicate: () => boolean): Promise<void> => {
    while (!predicate()) {
      const { promise, resolve } = Promise.withResolvers<void>();
      watchers.add(resolve);
      await promise;
      watchers.delete(resolve);
    }
  };
  return { server, path, audit, events, log, waiting, until };
};

export const clientsOf = (t: TestContext, path: string, options: ClientOptions = {}) => {
  const all = { 'grpc.use_local_subchannel_pool': 1, ...options };
  const make = <C>(
    Kind: new (target: string, creds: ReturnType<typeof credentials.createInsecure>, o: ClientOptions) => C,
  ) => new Kind(`unix:${path}`, credentials.createInsecure(), all);
  const clients = {
    status: make(StatusServiceClient),
    audit: make(AuditServiceClient),
    crypto: make(CryptoServiceClient),
  };
  t.after(() => {
    for (const client of Object.values(clients)) client.close();
  });
  return clients;
};

type Unary<Req, Res> = (
  request: Req,
  metadata: Metadata,
  options: { deadline?: number },
  callback: (error: ServiceError | null, response: Res) => void,
) => { cancel(): void };

/** A unary call as a promise. */
export const ask = <Client extends object, Req, Res>(
  client: Client,
  method: Unary<Req, Res>,
  request: Req,
  options: { metadata?: Record<string, string>; deadline?: number; signal?: AbortSignal } = {},
): Promise<Res> =>
  new Promise((resolve, reject) => {
    const metadata = new Metadata();
    for (const [key, value] of Object.entries(options.metadata ?? {})) metadata.set(key, value);
    const under = method.call(
      client,
      request,
      metadata,
      options.deadline === undefined ? {} : { deadline: options.deadline },
      (error, response) => (error ? reject(error) : resolve(response)),
    );
    options.signal?.addEventListener('abort', () => under.cancel(), { once: true });
  });

export const whoAmI = (client: StatusServiceClient, options: Parameters<typeof ask>[3] = {}) =>
  ask(client, client.whoAmI as Unary<object, { tenant: string; uid: number; pid: number }>, {}, options);

/** An HTTP/2 session that never opens its windows: what the agent sends stays with the agent. */
export const deafSession = async (t: TestContext, path: string, windowBytes: number) => {
  const session = connectHttp2('http://localhost', {
    createConnection: () => connect(path),
    settings: { initialWindowSize: windowBytes },
  });
  session.on('error', () => undefined);
  t.after(() => session.destroy());
  await once(session, 'connect');
  /** `length` is that of the first message, where the body has frames of further ones behind it. */
  const call = (method: string, body: Buffer, headers: Record<string, string> = {}, length = body.length) => {
    const stream = session.request({
      ':method': 'POST',
      ':path': method,
      'content-type': 'application/grpc',
      te: 'trailers',
      ...headers,
    });
    const frame = Buffer.alloc(5);
    frame.writeUInt32BE(length, 1);
    stream.on('error', () => undefined);
    stream.end(Buffer.concat([frame, body]));
    return stream;
  };
  return { session, call };
};

const raw = (bytes: Buffer): Buffer => bytes;

/** A unary call with the bytes as they are, on a connection of its own. */
export const askRaw = (path: string, method: string, bytes: Buffer): Promise<Buffer> =>
  new Promise((resolve, reject) => {
    const client = new Client(`unix:${path}`, credentials.createInsecure(), { 'grpc.use_local_subchannel_pool': 1 });
    client.makeUnaryRequest(method, raw, raw, bytes, (error, response) => {
      client.close();
      if (error) reject(error);
      else resolve(response ?? Buffer.alloc(0));
    });
  });

/** The google.rpc details of a failure. */
export const detailsOf = (error: unknown) => {
  const [bytes] = (error as ServiceError).metadata.get('grpc-status-details-bin');
  const { code, message, details } = Status.decode(bytes as Buffer);
  const find = (name: string) =>
    details.find(({ typeUrl }) => typeUrl === `type.googleapis.com/google.rpc.${name}`)?.value;
  const [info, fields, retry] = ['ErrorInfo', 'BadRequest', 'RetryInfo'].map(find);
  return {
    code,
    message,
    reason: info && ErrorInfo.decode(info).reason,
    domain: info && ErrorInfo.decode(info).domain,
    metadata: info && ErrorInfo.decode(info).metadata,
    fields: fields && BadRequest.decode(fields).fieldViolations,
    retryDelay: retry && RetryInfo.decode(retry).retryDelay,
  };
};

/** For assert.rejects: the gRPC status and the reason in the details. */
export const failsWith = (code: status, reason: string) => (error: unknown) => {
  const found = detailsOf(error);
  return (error as ServiceError).code === code && found.code === code && found.reason === reason;
};

export type { Peer };
