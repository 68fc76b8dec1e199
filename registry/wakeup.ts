// Wakes one waiter, however often it is raised before he looks: what has changed is read from where it stands.

export class Wakeup {
  #raised = false;
  #wake: (() => void) | undefined;

  raise(): void {
    this.#raised = true;
    this.#wake?.();
  }

  /** Resolves once it was raised, at the latest after `ms`, or when the signal aborts. Lowers it. */
  async wait({ signal, ms }: { readonly signal: AbortSignal; readonly ms?: number }): Promise<void> {
    if (!this.#raised && !signal.aborted) {
      const { promise, resolve } = Promise.withResolvers<void>();
      const timer = ms === undefined ? undefined : setTimeout(resolve, ms);
      this.#wake = resolve;
      const abort = (): void => resolve();
      signal.addEventListener('abort', abort, { once: true });
      await promise;
      clearTimeout(timer);
      signal.removeEventListener('abort', abort);
      this.#wake = undefined;
    }
    this.#raised = false;
  }
}
