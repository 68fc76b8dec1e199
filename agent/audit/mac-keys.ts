// The MAC keys of the log: one for each start (epoch), random, wrapped by the token and stored. Invariant: key bytes
// live only as KeyObjects; the buffers they came in are wiped.
import { createSecretKey, type KeyObject, randomFillSync } from 'node:crypto';
import { epochKey, macKeyContext } from './rows.ts';
import type { AuditToken } from './types.ts';

const KEY_BYTES = 32;

/** Answers the MAC key of an epoch, or throws where there is none or it cannot be unwrapped. */
export type MacKeyOf = (epoch: number) => Promise<KeyObject>;

export interface WrappedKeys {
  get(key: Buffer): Buffer | undefined;
}

/** A new MAC key: in memory, and as the row to store. */
export const createMacKey = async (
  token: AuditToken,
  host: string,
  epoch: number,
): Promise<{ readonly key: KeyObject; readonly row: { readonly key: Buffer; readonly value: Buffer } }> => {
  const bytes = randomFillSync(Buffer.allocUnsafe(KEY_BYTES)); // of Node's pool: V8 moves small buffers of their own
  try {
    const value = await token.wrap(bytes, macKeyContext(host, epoch));
    return { key: createSecretKey(bytes), row: { key: epochKey(epoch), value } };
  } finally {
    bytes.fill(0);
  }
};

/** Unwraps by the token, once for each epoch. */
export const macKeysOf = (
  store: WrappedKeys,
  token: Pick<AuditToken, 'unwrap'>,
  host: string,
  known: ReadonlyMap<number, KeyObject> = new Map(),
): MacKeyOf => {
  const keys = new Map(known);
  return async (epoch) => {
    const held = keys.get(epoch);
    if (held !== undefined) return held;
    const wrapped = store.get(epochKey(epoch));
    if (wrapped === undefined) throw new Error(`the MAC key of epoch ${epoch} is not in the store`);
    const bytes = await token.unwrap(Buffer.from(wrapped), macKeyContext(host, epoch));
    try {
      if (bytes.length !== KEY_BYTES) throw new Error(`the MAC key of epoch ${epoch} is not ${KEY_BYTES} bytes`);
      const key = createSecretKey(bytes);
      keys.set(epoch, key);
      return key;
    } finally {
      bytes.fill(0);
    }
  };
};
