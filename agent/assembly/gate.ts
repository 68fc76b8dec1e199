// Holds calls while the agent starts. Invariant: no call is judged before policy and audit log are there; until the
// first attempt has ended calls wait, after a failed one they are told at once what the agent waits for.
import type { AgentError } from '../errors.ts';

export class Gate {
  readonly #settled = Promise.withResolvers<void>();
  #open = false;
  #block: AgentError | undefined;

  get isOpen(): boolean {
    return this.#open;
  }

  /** What calls are told; undefined where they pass or wait. */
  get blockedBy(): AgentError | undefined {
    return this.#block;
  }

  /** Resolves at the first open or block. */
  get settled(): Promise<void> {
    return this.#settled.promise;
  }

  open(): void {
    this.#open = true;
    this.#block = undefined;
    this.#settled.resolve();
  }

  block(reason: AgentError): void {
    if (this.#open) return;
    this.#block = reason;
    this.#settled.resolve();
  }

  /** Resolves where calls may pass; rejects with the reason where they may not. */
  async pass(): Promise<void> {
    if (this.#open) return;
    await this.#settled.promise;
    if (this.#block !== undefined) throw this.#block;
  }
}
