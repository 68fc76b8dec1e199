// The client: one connection, the operations on it, and its end.
import { randomUUID } from 'node:crypto';
import { AuditOperations } from './audit.ts';
import { type BatchOperations, type BatchResults, runBatch } from './batch.ts';
import { agentStatusOf } from './convert.ts';
import { Credentials, type TokenSource } from './credentials.ts';
import { CryptoOperations } from './crypto.ts';
import { socketPathOf } from './discovery.ts';
import { MortiseError } from './errors.ts';
import { KeyOperations } from './keys.ts';
import { NO_RETRY, RETRY_DEFAULTS, type RetryOptions } from './retry.ts';
import { StreamOperations } from './streams.ts';
import { type CallOptions, Transport, type TransportKind } from './transport.ts';
import type { AgentStatus, Explanation, HealthStatus, Identity } from './types.ts';

/** How to reach the agent. */
export interface ConnectOptions {
  /** Path of the agent's Unix socket. Default `$MORTISE_SOCKET`, else `/run/mortise/agent.sock`. */
  readonly socketPath?: string;
  /**
   * A JWT; a `TokenFile`; or a function that gets one: called when a token is needed, its answer kept until shortly
   * before the token's `exp`, and called again, once per call, when the agent says TOKEN_EXPIRED. Without it the agent
   * goes by the uid and gid of the process.
   */
  readonly token?: TokenSource;
  /** Set to false where the issuer's tokens are for single use: the function is then called for every attempt. */
  readonly reuseToken?: boolean;
  /** Milliseconds that a call may take, repeats included, unless it says otherwise. Default 10000. */
  readonly deadlineMs?: number;
  /** How to repeat calls that are safe to repeat; false: never. */
  readonly retry?: RetryOptions | false;
  /**
   * `pipeline`: all calls share one stream, and those made in one turn of the event loop one message; where the agent
   * does not take it, and with `reuseToken: false`, each call goes alone. `unary`: each call goes alone. Default
   * `pipeline`.
   */
  readonly transport?: TransportKind;
}

const DEADLINE_MS = 10_000;
const HEALTH: readonly HealthStatus[] = ['UNKNOWN', 'SERVING', 'NOT_SERVING', 'SERVICE_UNKNOWN'];

/** A client of one agent. Safe to share; make one per process. */
export class MortiseClient extends CryptoOperations {
  /** Lifecycle of keys. */
  readonly keys: KeyOperations;
  /** The tenant's audit log. */
  readonly audit: AuditOperations;
  /** Data of any size. */
  readonly streams: StreamOperations;
  readonly #transport: Transport;

  /** Use `connect`. */
  constructor(transport: Transport, streams: StreamOperations) {
    super(transport);
    this.#transport = transport;
    this.streams = streams;
    this.keys = new KeyOperations(transport);
    this.audit = new AuditOperations(transport);
  }

  /** Who the caller is to the agent: a way to test credentials. */
  async whoAmI(options: CallOptions = {}): Promise<Identity> {
    return this.#transport.call('whoAmI', {}, options);
  }

  /** State of every part of the agent, with the policy of the caller's tenant. */
  async status(options: CallOptions = {}): Promise<AgentStatus> {
    return agentStatusOf(await this.#transport.call('getStatus', {}, options));
  }

  /** Says by which rule a call would be allowed or denied, without making it. */
  async explain(
    question: { readonly operation: string; readonly key?: string; readonly algorithm?: string },
    options: CallOptions = {},
  ): Promise<Explanation> {
    const { operation, key = '', algorithm = '' } = question;
    return this.#transport.call('explain', { operation, key, algorithm }, options);
  }

  /** The standard health check (grpc.health.v1); `service` names a part, empty means the whole agent. */
  async health(service = '', options: CallOptions = {}): Promise<HealthStatus> {
    try {
      const { status } = await this.#transport.call('checkHealth', { service }, options);
      return HEALTH[status] ?? 'UNKNOWN';
    } catch (thrown) {
      // The health protocol answers an unknown service with NOT_FOUND, which no operation does without details.
      const cause = thrown instanceof MortiseError ? (thrown.cause as { code?: unknown } | undefined) : undefined;
      if (cause?.code === 5) return 'SERVICE_UNKNOWN';
      throw thrown;
    }
  }

  /**
   * Makes up to 256 operations in one call, which they share with its deadline:
   * `const [a, b] = await client.batch((each) => [each.sign('k', { message }), each.keys.get('k')])`.
   * Each is answered for itself, as by `Promise.allSettled`; the client repeats the call as a whole, and only where
   * every operation in it may be repeated.
   */
  async batch<const Operations extends readonly Promise<unknown>[]>(
    make: (operations: BatchOperations) => Operations,
    options: CallOptions = {},
  ): Promise<BatchResults<Operations>> {
    const correlationId = options.correlationId ?? randomUUID();
    return runBatch(this.#transport, make, { ...options, correlationId });
  }

  /** Closes the connection; calls in flight fail. */
  close(): void {
    this.streams.close();
    this.#transport.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/**
 * A client of the agent on this socket. Connects with the first call, and again by the path whenever the agent was
 * restarted.
 */
export const connect = (options: ConnectOptions = {}): MortiseClient => {
  const retry = options.retry === false ? NO_RETRY : { ...RETRY_DEFAULTS, ...options.retry };
  const socketPath = socketPathOf(options.socketPath);
  const credentials = new Credentials({ source: options.token, reuse: options.reuseToken ?? true });
  return new MortiseClient(
    new Transport({
      socketPath,
      credentials,
      deadlineMs: options.deadlineMs ?? DEADLINE_MS,
      retry,
      // A token for single use serves one call, so calls would share nothing.
      kind: options.reuseToken === false ? 'unary' : (options.transport ?? 'pipeline'),
    }),
    new StreamOperations({ socketPath, credentials }),
  );
};
