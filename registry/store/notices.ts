// Tells listeners of this process what has changed. Invariant: a listener is called in a later turn than the change, and
// one that throws harms no other.

export type Topic = 'host' | 'admin' | 'presence' | 'policy' | 'catalog' | 'rebuild';

/** What PostgreSQL takes as one notification, less its topic. */
const MAX_NAME_BYTES = 7_000;

interface Presence {
  readonly host: string;
  readonly replica?: string | undefined;
}

/**
 * Presences as notices: of each replica, so that the one that wrote them need not look, and many hosts in one, since every
 * replica hears all of them. Names of replicas and hosts are ASCII without spaces.
 */
export const presenceNames = (rows: readonly Presence[]): string[] => {
  const names: string[] = [];
  for (const [replica, of] of Map.groupBy(rows, ({ replica: name = '' }) => name)) {
    let name = replica;
    for (const { host } of of) {
      if (name.length + host.length >= MAX_NAME_BYTES) {
        names.push(name);
        name = replica;
      }
      name += ` ${host}`;
    }
    names.push(name);
  }
  return names;
};

export const presencesOf = (name: string): { readonly host: string; readonly replica: string | undefined }[] => {
  const [replica = '', ...hosts] = name.split(' ');
  return hosts.map((host) => ({ host, replica: replica || undefined }));
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
