// Puts events of the agent itself into the audit log of the platform. Invariant: one that could not be recorded waits in
// order for the log to take it, up to a bound.
import type { AuditEvent } from '../operations/ports/audit.ts';

export type AgentOperation =
  | 'agent-start'
  | 'agent-stop'
  | 'token-restart'
  | 'host-revoked'
  | 'certificate-renewed'
  | 'log-refused'
  | 'registry-rewound'
  | 'catalog-told'
  | 'catalog-rebuilt';

const PLATFORM_TENANT = '_platform';
const PRINCIPAL = 'agent';
const MAX_QUEUED = 64; // a token that keeps dying while the disk is full must not fill the memory

export class Recorder {
  readonly #append: (event: AuditEvent) => Promise<unknown>;
  readonly #failed: (event: { operation: string; cause: unknown }) => void;
  readonly #queue: AuditEvent[] = [];
  #running: Promise<void> | undefined;
  #sequence = 0;

  constructor(parts: {
    readonly append: (event: AuditEvent) => Promise<unknown>;
    readonly failed: (event: { operation: string; cause: unknown }) => void;
  }) {
    this.#append = parts.append;
    this.#failed = parts.failed;
  }

  /** Never rejects; resolves when this and all before it are recorded, or the log refused. */
  record(operation: AgentOperation, detail: Readonly<Record<string, unknown>>): Promise<void> {
    this.#sequence += 1;
    if (this.#queue.length >= MAX_QUEUED) this.#queue.shift();
    this.#queue.push({
      tenant: PLATFORM_TENANT,
      principal: PRINCIPAL,
      key: '-',
      algorithm: '-',
      operation,
      outcome: 'ok',
      correlationId: `${operation}-${process.pid}-${this.#sequence}`,
      detail,
    });
    return this.flush();
  }

  /** Tries what waits. */
  flush(): Promise<void> {
    this.#running ??= this.#drain().finally(() => {
      this.#running = undefined;
    });
    return this.#running;
  }

  async #drain(): Promise<void> {
    for (let event = this.#queue[0]; event !== undefined; event = this.#queue[0]) {
      try {
        await this.#append(event);
        this.#queue.shift();
      } catch (cause) {
        this.#failed({ operation: event.operation, cause });
        return;
      }
    }
  }
}
