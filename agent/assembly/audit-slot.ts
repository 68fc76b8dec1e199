// The audit log for the rest of the agent, from before it is open: its MAC key is unwrapped by the token, so it cannot
// be opened without one. Invariant: until then nothing can be recorded, and so nothing is done.
import type { AuditLog, StoredRecord } from '../audit/types.ts';
import { AgentError } from '../errors.ts';
import type { AuditEvent, AuditPort } from '../operations/ports/audit.ts';
import type {
  AuditReadPort,
  AuditReceiptView,
  AuditRecordView,
  ReceiptQuestion,
} from '../operations/ports/audit-log.ts';

const view = ({ index, record, canonical, mac }: StoredRecord): AuditRecordView => ({
  index,
  ...record,
  canonical,
  mac,
});

const notOpen = (): AgentError => new AgentError('AUDIT_UNAVAILABLE', { message: 'the audit log is not open yet' });

export class AuditSlot implements AuditPort, AuditReadPort {
  readonly #opened = Promise.withResolvers<AuditLog>();
  #log: AuditLog | undefined;

  constructor() {
    this.#opened.promise.catch(() => undefined); // nobody may be waiting when it ends unopened
  }

  set(log: AuditLog): void {
    this.#log = log;
    this.#opened.resolve(log);
  }

  /** From now on nothing waits for a log that was not opened. */
  giveUp(): void {
    this.#opened.reject(new AgentError('SHUTTING_DOWN'));
  }

  async close(): Promise<void> {
    this.giveUp();
    await this.#log?.close();
  }

  /** Waits for the log to be opened. */
  async appendOnceOpen(event: AuditEvent): Promise<string> {
    return (await this.#opened.promise).append(event);
  }

  /** Resolves when it is open; rejects where the agent ends first. */
  get opened(): Promise<AuditLog> {
    return this.#opened.promise;
  }

  get log(): AuditLog | undefined {
    return this.#log;
  }

  append(event: AuditEvent): Promise<string> {
    return this.#log === undefined ? Promise.reject(notOpen()) : this.#log.append(event);
  }

  size(tenant: string): number {
    return this.#need().size(tenant);
  }

  async list(tenant: string, from: number, limit: number): Promise<readonly AuditRecordView[]> {
    return (await this.#need().list(tenant, { from, limit })).map(view);
  }

  async *tail(tenant: string, from: number, signal: AbortSignal): AsyncGenerator<readonly AuditRecordView[]> {
    for await (const records of this.#need().tail(tenant, { from, signal })) yield records.map(view);
  }

  async checkpoint(tenant: string): Promise<{ checkpoint: string; publicJwk: string }> {
    const { text, publicJwk } = await this.#need().checkpoint(tenant);
    return { checkpoint: text, publicJwk: JSON.stringify(publicJwk) };
  }

  async receipt(tenant: string, question: ReceiptQuestion): Promise<AuditReceiptView> {
    const { publicJwk, ...receipt } = await this.#need().receipt(tenant, question);
    return { ...receipt, publicJwk: JSON.stringify(publicJwk) };
  }

  async verify(tenant: string, trustedCheckpoint: string | undefined): ReturnType<AuditReadPort['verify']> {
    const { intact, tenants, findings } = await this.#need().verify(tenant, trustedCheckpoint);
    const verified = tenants.find((row) => row.tenant === tenant);
    return {
      intact,
      findings,
      size: verified?.size ?? 0,
      root: verified?.root.toString('hex') ?? '',
      checkpointTime: verified?.newestCheckpoint?.signedAt,
    };
  }

  #need(): AuditLog {
    if (this.#log !== undefined) return this.#log;
    throw notOpen();
  }
}
