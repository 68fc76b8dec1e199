// ListKeys: the tenant's keys in order of key id, by pages. A page token holds the last key id and a hash of tenant and
// filters, so that it cannot be taken to another listing; it gives no right, the tenant is always the caller's.
import { createHash } from 'node:crypto';
import type { Purpose } from '../../proto/documents/algorithms.ts';
import { labelsFault } from '../../proto/documents/key-attributes.ts';
import { grantsAllow, KEY_ID_PATTERN, type KeyRecord, type KeyState } from '../../proto/documents/key-record.ts';
import { invalid } from '../errors.ts';
import { type KeyView, shownState, viewKey } from './key-change.ts';
import { type Performed, type Ports, perform, type Run } from './perform.ts';
import type { Call } from './ports/call.ts';

export interface ListKeysInput {
  readonly pageSize: number | undefined;
  readonly pageToken: string;
  readonly purpose: Purpose | undefined;
  /** Empty: all but DESTROYED. */
  readonly states: readonly KeyState[];
  readonly labels: Readonly<Record<string, string>>;
  readonly prefix: string;
}

export interface ListKeysOutput {
  readonly keys: readonly KeyView[];
  readonly nextPageToken: string;
}

const DEFAULT_PAGE = 100;
const MAX_PAGE = 500;
const STATES: Readonly<Record<KeyState, true>> = {
  PRE_ACTIVE: true,
  ACTIVE: true,
  SUSPENDED: true,
  EXPIRED: true,
  REVOKED: true,
  PENDING_DESTRUCTION: true,
  DESTROYED: true,
};
/** Versions of one page: some 100 bytes each, so that a page is below the 4 MiB that gRPC clients accept. */
const MAX_PAGE_VERSIONS = 10_000;
const HASH_BYTES = 16;
const MAX_TOKEN_CHARACTERS = 128; // 16 bytes of hash and a key id of up to 64 take 107
const PREFIX_PATTERN = /^(?:[a-z0-9][a-z0-9._-]{0,63})?$/;

const filterHash = (tenant: string, input: ListKeysInput): Buffer => {
  const filters = [
    tenant,
    input.purpose ?? null,
    input.states.toSorted(),
    Object.entries(input.labels).toSorted(([a], [b]) => (a < b ? -1 : 1)),
    input.prefix,
  ];
  return createHash('sha256').update(JSON.stringify(filters)).digest().subarray(0, HASH_BYTES);
};

const encodePageToken = (hash: Buffer, last: string): string =>
  Buffer.concat([hash, Buffer.from(last)]).toString('base64url');

/** The key id in a page token; any bytes may come in. */
const decodePageToken = (token: string, hash: Buffer): string => {
  const bytes = token.length > MAX_TOKEN_CHARACTERS ? Buffer.alloc(0) : Buffer.from(token, 'base64url');
  const last = bytes.subarray(HASH_BYTES).toString('latin1');
  if (bytes.toString('base64url') !== token || !KEY_ID_PATTERN.test(last)) throw invalid('page_token', 'not of ours');
  if (!bytes.subarray(0, HASH_BYTES).equals(hash)) {
    throw invalid('page_token', 'belongs to a listing with other filters, or of another tenant');
  }
  return last;
};

const checkInput = (input: ListKeysInput): number => {
  const { pageSize = DEFAULT_PAGE, states, labels, prefix } = input;
  if (pageSize < 1 || pageSize > MAX_PAGE) throw invalid('page_size', `from 1 to ${MAX_PAGE}`);
  if (new Set(states).size !== states.length) throw invalid('states', 'a state is named twice');
  if (!states.every((state) => Object.hasOwn(STATES, state))) throw invalid('states', 'not a state of a key');
  const fault = labelsFault(labels);
  if (fault !== undefined) throw invalid('labels', fault);
  if (!PREFIX_PATTERN.test(prefix)) throw invalid('prefix', 'the beginning of a key id');
  return pageSize;
};

/** As many keys from the front as fit, at least one. */
const fitting = (keys: readonly KeyRecord[]): readonly KeyRecord[] => {
  let versions = 0;
  const end = keys.findIndex((key, at) => {
    versions += key.versions.length;
    return at > 0 && versions > MAX_PAGE_VERSIONS;
  });
  return end < 0 ? keys : keys.slice(0, end);
};

const list = (ports: Ports, run: Run, input: ListKeysInput): ListKeysOutput => {
  const pageSize = checkInput(input);
  const hash = filterHash(run.tenant, input);
  const after = input.pageToken === '' ? undefined : decodePageToken(input.pageToken, hash);
  const wanted = Object.entries(input.labels);
  const accept = (key: KeyRecord): boolean => {
    if (input.purpose !== undefined && key.purpose !== input.purpose) return false;
    if (wanted.some(([name, value]) => key.labels[name] !== value)) return false;
    // A key whose record the caller could not read is not shown here either.
    if (!grantsAllow(key.grants, run.call.caller.principal, 'get-key')) return false;
    const state = shownState(ports, key, ports.keys.uses(key.tenant, key.keyId));
    return input.states.length === 0 ? state !== 'DESTROYED' : input.states.includes(state);
  };
  const query = { ...(after !== undefined && { after }), prefix: input.prefix, limit: pageSize + 1, accept };
  const found = ports.keys.list(run.tenant, query);
  const page = fitting(found.slice(0, pageSize));
  const last = page.at(-1);
  run.note({ count: page.length });
  return {
    keys: page.map((key) => viewKey(ports, key)),
    nextPageToken: found.length > page.length && last !== undefined ? encodePageToken(hash, last.keyId) : '',
  };
};

export const listKeys = (ports: Ports, call: Call, input: ListKeysInput): Promise<Performed<ListKeysOutput>> =>
  perform(ports, call, 'list-keys', (run) => list(ports, run, input));
