// The key that authenticates the key store: 32 random bytes, wrapped by a key of the token that never leaves
// it. Invariant: a store that has rows is opened by its own key or not at all; the bytes of the key live only until they
// are a KeyObject.
import { createSecretKey, type KeyObject, randomFillSync } from 'node:crypto';
import { AgentError } from '../errors.ts';
import type { KeysToken, TokenCall } from './token.ts';

export interface SealingKey {
  readonly key: KeyObject;
  /** As the store keeps it: iv, what is wrapped, tag. */
  readonly wrapped: Buffer;
}

/** What of the token is needed. */
export interface TokenForSealing extends Pick<KeysToken, 'generateWrappingKey' | 'wrap' | 'unwrap'> {
  find(label: string, call: TokenCall): Promise<{ readonly tokenId: string } | undefined>;
}

export interface SealingEvents {
  /** The store is empty although this host had one: its folder was emptied, replaced or moved. */
  storeBegunAnew(event: { label: string }): void;
}

const KEY_BYTES = 32;
const CALL_MS = 10_000;

const refused = (problem: string, cause?: unknown): AgentError =>
  new AgentError('STORE_UNAVAILABLE', {
    message: `the key store cannot be authenticated: ${problem}`,
    ...(cause !== undefined && { cause }),
  });

/** Opens the key of a store, or makes it for a store that has no row yet. Rejects where neither can be. */
export const openSealingKey = async (options: {
  readonly token: TokenForSealing;
  readonly host: string;
  readonly now: () => number;
  readonly events: SealingEvents;
  readonly store: { readonly wrappedKey: Buffer | undefined; readonly isEmpty: boolean };
}): Promise<SealingKey> => {
  const { token, host, now, events, store } = options;
  const label = `mortise:agent:${host}:keys-wrap`;
  const aad = Buffer.from(`mortise/key-store/sealing-key/v1\0${host}`);
  const call = (): TokenCall => ({
    tenant: '_platform',
    deadline: now() + CALL_MS,
    signal: AbortSignal.timeout(CALL_MS),
  });
  const found = await token.find(label, call());
  if (store.wrappedKey === undefined) {
    if (!store.isEmpty) throw refused('it has rows but no key; restore the data folder from a backup');
    if (found !== undefined) events.storeBegunAnew({ label });
    const { tokenId } = found ?? (await token.generateWrappingKey({ label }, call()));
    return make((data) => token.wrap(tokenId, { aad, data }, call()));
  }
  if (found === undefined) throw refused(`the token has no key ${label}: is it the token of this host?`);
  const { tokenId } = found;
  const data = store.wrappedKey;
  const key = await unwrap(() => token.unwrap(tokenId, { aad, data }, call()));
  return { key, wrapped: store.wrappedKey };
};

const make = async (wrap: (bytes: Buffer) => Promise<Buffer>): Promise<SealingKey> => {
  const bytes = randomFillSync(Buffer.allocUnsafe(KEY_BYTES)); // of Node's pool: V8 moves small buffers of their own
  try {
    return { wrapped: await wrap(bytes), key: createSecretKey(bytes) };
  } finally {
    bytes.fill(0);
  }
};

const unwrap = async (open: () => Promise<Buffer>): Promise<KeyObject> => {
  let bytes: Buffer;
  try {
    bytes = await open();
  } catch (cause) {
    const damaged = cause instanceof AgentError && ['INVALID_CIPHERTEXT', 'INVALID_REQUEST'].includes(cause.code);
    throw damaged ? refused('its key does not open; restore the data folder from a backup', cause) : cause;
  }
  try {
    if (bytes.length !== KEY_BYTES) throw refused(`its key is not ${KEY_BYTES} bytes`);
    return createSecretKey(bytes);
  } finally {
    bytes.fill(0);
  }
};
