// The start of an epoch: what is stored is verified as far as that is cheap, then every sound head is renewed under a
// new MAC key. Invariant: nothing is ever appended on top of a head that did not verify.
import type { KeyObject } from 'node:crypto';
import { DocumentError } from '../../proto/documents/canonical.ts';
import { verifyCheckpoint } from '../../proto/documents/checkpoint.ts';
import type { Clock } from '../clock.ts';
import { AgentError } from '../errors.ts';
import { HEAD_TAG_BYTES } from './head-list.ts';
import { createMacKey, type MacKeyOf, macKeysOf } from './mac-keys.ts';
import {
  checkpointKey,
  decodeCheckpointRow,
  decodeHead,
  decodeHost,
  HEAD_PREFIX,
  HOST_KEY,
  type HostHead,
  headKey,
  macFits,
  originOf,
  recordKey,
  type Sealed,
  tenantOf,
} from './rows.ts';
import { LogState, type TenantState } from './state.ts';
import type { AuditStore } from './store.ts';
import type { AuditToken } from './types.ts';

export interface Damage {
  readonly index: number;
  readonly message: string;
}

export interface Started {
  /** Absent where the host's head does not verify: then no tenant takes records. */
  readonly state: LogState | undefined;
  readonly generation: number;
  readonly epoch: number;
  readonly created: boolean;
  readonly macKeyOf: MacKeyOf;
  /** By tenant; "*" stands for the whole store. */
  readonly damaged: ReadonlyMap<string, Damage>;
}

export const WHOLE_STORE = '*';

export const startEpoch = async (
  store: AuditStore,
  { host, clock, token }: { host: string; clock: Clock; token: AuditToken },
): Promise<Started> => {
  const stored = store.get(HOST_KEY);
  if (stored === undefined && isEmpty(store)) {
    const generation = Math.floor(clock.now() / 1000); // so that a store after this one never repeats an event id
    const fresh = { generation, epoch: generation, sound: new Map(), kept: new Map(), damaged: new Map() };
    return begin(store, token, host, { ...fresh, created: true });
  }
  const head = readHost(stored, host);
  if (head === undefined) return broken(store, token, host, 'the head of the host is missing or cannot be read');
  const macKeyOf = macKeysOf(store, token, host);
  const key = await macKeyOf(head.epoch).catch((cause: unknown) => {
    if (cause instanceof AgentError && cause.code !== 'INVALID_CIPHERTEXT') throw cause;
    return undefined;
  });
  if (key === undefined)
    return broken(store, token, host, `the token cannot unwrap the MAC key of epoch ${head.epoch}`);
  if (!macFits(key, head.body, head.mac)) return broken(store, token, host, 'the head of the host was edited');

  const { epoch, generation, heads } = head.value;
  const sound = new Map<string, TenantState>();
  const damaged = new Map<string, Damage>();
  const named = new Set([...heads.keys(), ...[...store.keys(HEAD_PREFIX)].map(tenantOf)]);
  for (const tenant of named) {
    const found = readTenant(store, head.value, tenant, key);
    if ('message' in found) damaged.set(tenant, found);
    else sound.set(tenant, found);
  }
  const kept = new Map([...heads].filter(([tenant]) => damaged.has(tenant)));
  return begin(store, token, host, { generation, epoch: epoch + 1, sound, kept, damaged, created: false });
};

const isEmpty = (store: AuditStore): boolean =>
  ['r', 'h', 'c', 'k'].every((tag) => store.keys(Buffer.from(tag), 1).next().done);

const readHost = (bytes: Buffer | undefined, host: string): Sealed<HostHead> | undefined => {
  if (bytes === undefined) return undefined;
  let head: Sealed<HostHead>;
  try {
    head = decodeHost(bytes);
  } catch (cause) {
    if (cause instanceof DocumentError) return undefined;
    throw cause;
  }
  if (head.value.host !== host) {
    throw new AgentError('AUDIT_UNAVAILABLE', {
      message: `the audit store belongs to host ${head.value.host}, this is ${host}; give each host its own folder`,
    });
  }
  return head;
};

/** The state of a tenant, or what is wrong with it. */
const readTenant = (store: AuditStore, host: HostHead, tenant: string, key: KeyObject): TenantState | Damage => {
  const bytes = store.get(headKey(tenant));
  if (bytes === undefined) return { index: 0, message: 'the head of the log is missing' };
  try {
    const { value, body, mac } = decodeHead(bytes);
    const { frontier, checkpointSize } = value;
    const { size } = frontier;
    const at = (message: string): Damage => ({ index: size, message });
    const tag = host.heads.get(tenant);
    if (!macFits(key, body, mac) || value.tenant !== tenant) return at('the head of the log was edited');
    if (!tag?.equals(mac.subarray(0, HEAD_TAG_BYTES))) return at('the log was taken back to an earlier state');
    if (size > 0 && store.get(recordKey(tenant, size - 1)) === undefined) return at('the end of the log was cut off');
    if (store.get(recordKey(tenant, size)) !== undefined) return at('there are records behind the end of the log');
    const message = checkCheckpoint(store, host, tenant, { checkpointSize, root: frontier.root(), size });
    return message === undefined ? { frontier, checkpointSize } : { index: checkpointSize, message };
  } catch (cause) {
    if (cause instanceof DocumentError)
      return { index: 0, message: `the head of the log is not one: ${cause.message}` };
    throw cause;
  }
};

const checkCheckpoint = (
  store: AuditStore,
  { host, generation }: HostHead,
  tenant: string,
  head: { checkpointSize: number; root: Buffer; size: number },
): string | undefined => {
  if (head.checkpointSize === 0) return undefined;
  const bytes = store.get(checkpointKey(tenant, head.checkpointSize));
  if (bytes === undefined) return 'the newest checkpoint is missing';
  try {
    const { text, publicJwk } = decodeCheckpointRow(bytes).value;
    const checkpoint = verifyCheckpoint(text, publicJwk);
    if (checkpoint.origin !== originOf(host, tenant, generation)) return 'the newest checkpoint is of another log';
    if (checkpoint.size !== head.checkpointSize) return 'the newest checkpoint is of another size';
    if (checkpoint.size === head.size && !checkpoint.root.equals(head.root))
      return 'the newest checkpoint is of a fork';
    return undefined;
  } catch (cause) {
    if (cause instanceof DocumentError) return `the newest checkpoint does not verify: ${cause.message}`;
    throw cause;
  }
};

const broken = (store: AuditStore, token: AuditToken, host: string, message: string): Started => ({
  state: undefined,
  generation: 0,
  epoch: 0,
  created: false,
  macKeyOf: macKeysOf(store, token, host),
  damaged: new Map([[WHOLE_STORE, { index: 0, message }]]),
});

const begin = async (
  store: AuditStore,
  token: AuditToken,
  host: string,
  start: {
    generation: number;
    epoch: number;
    sound: ReadonlyMap<string, TenantState>;
    kept: ReadonlyMap<string, Buffer>;
    damaged: ReadonlyMap<string, Damage>;
    created: boolean;
  },
): Promise<Started> => {
  const { generation, epoch, sound, kept, damaged, created } = start;
  const { key, row } = await createMacKey(token, host, epoch);
  const state = new LogState({ host, generation, epoch, key, tenants: sound, kept });
  store.commit([row, ...state.renewHeads()]);
  await store.flushed(); // an epoch that power loss takes back would repeat its event ids
  const macKeyOf = macKeysOf(store, token, host, new Map([[epoch, key]]));
  return { state, generation, epoch, created, macKeyOf, damaged };
};
