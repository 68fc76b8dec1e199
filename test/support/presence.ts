// Waiting for what a host has last said of itself to stand in the registry's store.
import type { HostsStore } from '../../registry/hosts/store.ts';

const WAIT_MS = 30_000;

/** Resolves when the presence of the host fits; asked anew at every change of it. */
export const presenceOf = async (
  store: HostsStore,
  host: string,
  fits: (row: NonNullable<Awaited<ReturnType<HostsStore['presence']>>>) => boolean,
): Promise<void> => {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const late = setTimeout(() => reject(new Error(`the presence of ${host} never came to fit`)), WAIT_MS);
  const look = async (): Promise<void> => {
    const row = await store.presence(host);
    if (row !== undefined && fits(row)) resolve();
  };
  const stop = store.watchPresences(() => void look().catch(reject));
  await look();
  await promise.finally(() => {
    stop();
    clearTimeout(late);
  });
};
