// Tells listeners of this process what has changed. Invariant: a listener is called in a later turn than the change, and
// one that throws harms no other.

export type Topic = 'host' | 'admin' | 'presence' | 'policy' | 'catalog' | 'rebuild';

export class Notices {
  readonly #listeners = new Map<Topic, Set<(name: string) => void>>();

  on(topic: Topic, listener: (name: string) => void): () => void {
    const listeners = this.#listeners.get(topic) ?? new Set();
    this.#listeners.set(topic, listeners);
    listeners.add(listener);
    return () => void listeners.delete(listener);
  }

  tell(topic: Topic, name: string): void {
    for (const listener of this.#listeners.get(topic) ?? []) setImmediate(listener, name);
  }
}
