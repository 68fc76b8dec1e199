// Tells listeners of this process what has changed. Invariant: a listener is called in a later turn than the change, and
// one that throws harms no other.

export type Topic = 'host' | 'admin' | 'presence' | 'policy' | 'catalog' | 'rebuild';

/** A presence is told with its replica, so that the one that wrote it need not look. Names of hosts have no spaces. */
export const presenceName = ({ host, replica = '' }: { readonly host: string; readonly replica?: string }): string =>
  `${host} ${replica}`;

export const presenceOf = (name: string): { readonly host: string; readonly replica: string | undefined } => {
  const [host = '', ...replica] = name.split(' ');
  return { host, replica: replica.join(' ') || undefined };
};

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
