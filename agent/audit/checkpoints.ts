// When checkpoints are signed: after so many new records, so long after the first of them, on request, at close.
// Invariant: only what is on the disk is signed, appends never wait for it, and a token that is away delays it, no more.
import { type Checkpoint, signCheckpoint, verifyCheckpoint } from '../../proto/documents/checkpoint.ts';
import { EMPTY_ROOT } from '../../proto/documents/merkle.ts';
import type { Clock } from '../clock.ts';
import type { MacKeyOf } from './mac-keys.ts';
import { readCheckpoint } from './read-checkpoint.ts';
import { originOf } from './rows.ts';
import type { LogState } from './state.ts';
import type { AuditStore } from './store.ts';
import type { AuditEvents, AuditToken, SignedCheckpoint } from './types.ts';

export interface CheckpointsOptions {
  readonly host: string;
  readonly store: AuditStore;
  readonly state: LogState;
  readonly macKeyOf: MacKeyOf;
  readonly token: AuditToken;
  readonly clock: Clock;
  readonly events: AuditEvents;
  readonly everyRecords: number;
  readonly everySeconds: number;
  /** Commits the row with the heads that go with it. */
  keep(tenant: string, size: number, row: { text: string; signedAt: number; publicJwk: AuditToken['publicJwk'] }): void;
}

export class Checkpoints {
  readonly #options: CheckpointsOptions;
  readonly #signing = new Map<string, Promise<SignedCheckpoint>>();
  #timer: NodeJS.Timeout | undefined;
  #late: string | undefined;

  constructor(options: CheckpointsOptions) {
    this.#options = options;
  }

  /** Why checkpoints are late, or undefined. */
  get late(): string | undefined {
    return this.#late;
  }

  /** To be called after each commit of records. */
  noteAppended(tenant: string): void {
    const { state, everyRecords, everySeconds } = this.#options;
    const behind = state.size(tenant) - (state.tenant(tenant)?.checkpointSize ?? 0);
    if (behind >= everyRecords && this.#late === undefined && !this.#signing.has(tenant)) {
      this.newest(tenant).catch(() => undefined); // reported by #sign; the timer tries again
    }
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      void this.signAll();
    }, everySeconds * 1000).unref();
  }

  /** Signs for every tenant that has new records. Failures are reported, not thrown. */
  async signAll(): Promise<void> {
    const { state } = this.#options;
    const behind = [...state.tenants()].filter((name) => state.size(name) > (state.tenant(name)?.checkpointSize ?? 0));
    for (const tenant of behind) {
      await this.newest(tenant).catch(() => this.noteAppended(tenant)); // reported by #sign
    }
  }

  /** The newest checkpoint; one is signed first where there are records that it does not cover. */
  async newest(tenant: string): Promise<SignedCheckpoint> {
    for (let under = this.#signing.get(tenant); under !== undefined; under = this.#signing.get(tenant)) {
      await under.catch(() => undefined); // reported by #sign; ours is tried below
    }
    const { state } = this.#options;
    const stored = state.tenant(tenant)?.checkpointSize ?? 0;
    if (stored > 0 && stored === state.size(tenant)) return this.#stored(tenant, stored);
    const signing = this.#sign(tenant).finally(() => this.#signing.delete(tenant));
    this.#signing.set(tenant, signing);
    return signing;
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  async #stored(tenant: string, size: number): Promise<SignedCheckpoint> {
    const row = await readCheckpoint(this.#options, tenant, size);
    if (row === undefined) throw new Error(`the checkpoint of ${tenant} at ${size} is not in the store`);
    const { text, signedAt, publicJwk } = row;
    return { ...verifyCheckpoint(text, publicJwk), text, signedAt, publicJwk };
  }

  async #sign(tenant: string): Promise<SignedCheckpoint> {
    const { host, store, state, token, clock, events } = this.#options;
    const size = state.size(tenant);
    const root = state.tenant(tenant)?.frontier.root();
    try {
      // A checkpoint that power loss made a liar of would read as a forged log.
      await store.flushed();
      const checkpoint: Checkpoint = {
        origin: originOf(host, tenant, state.generation),
        size,
        root: root ?? EMPTY_ROOT,
      };
      const { publicJwk } = token;
      const text = await signCheckpoint(checkpoint, publicJwk, (data) => token.sign(data));
      verifyCheckpoint(text, publicJwk); // a wrong signature must not get into the log
      const signedAt = clock.now();
      if (size > 0) {
        this.#options.keep(tenant, size, { text, signedAt, publicJwk });
        events.checkpointSigned({ tenant, size });
      }
      this.#late = undefined;
      return { text, size, root: checkpoint.root, signedAt, publicJwk };
    } catch (cause) {
      this.#late = `the checkpoint of ${tenant} at ${size} records could not be signed (${(cause as Error).message})`;
      events.checkpointFailed({ tenant, cause });
      throw cause;
    }
  }
}
