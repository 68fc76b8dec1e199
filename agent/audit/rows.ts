// Keys and values of the audit store (docs/spec/audit.md section 5). Values that the agent believes at the next start
// (heads, checkpoint rows) end in a MAC under the key of their epoch. Decoders throw DocumentError.
import { createHmac, type KeyObject, timingSafeEqual } from 'node:crypto';
import { MAC_BYTES } from '../../proto/documents/audit-record.ts';
import {
  canonicalBytes,
  DocumentError,
  decodeCanonicalPrefix,
  encodeCanonical,
  writeCanonical,
} from '../../proto/documents/canonical.ts';
import { MAX_NOTE_BYTES } from '../../proto/documents/checkpoint.ts';
import type { PublicJwk } from '../../proto/documents/key-record.ts';
import { Frontier } from '../../proto/documents/merkle.ts';
import { HEAD_TAG_BYTES, type HeadList } from './head-list.ts';

const HEAD_LABEL = 'mortise/audit-head/v1';
const HOST_LABEL = 'mortise/audit-host/v1';
const CHECKPOINT_LABEL = 'mortise/audit-checkpoint/v1';
const MAC_KEY_LABEL = 'mortise/audit-mac-key/v1';
const MAX_HOST_FIELD = 64 * 2 ** 20;

const tagged = (tag: string, tenant: string, position: number): Buffer => {
  const key = Buffer.allocUnsafe(2 + tenant.length + 8);
  key.write(`${tag}${tenant}\0`, 0, 'latin1');
  key.writeBigUInt64BE(BigInt(position), 2 + tenant.length);
  return key;
};

export const recordKey = (tenant: string, index: number): Buffer => tagged('r', tenant, index);
export const recordPrefix = (tenant: string): Buffer => Buffer.from(`r${tenant}\0`, 'latin1');
export const checkpointKey = (tenant: string, size: number): Buffer => tagged('c', tenant, size);
export const checkpointPrefix = (tenant: string): Buffer => Buffer.from(`c${tenant}\0`, 'latin1');
/** The position in a record or checkpoint key. */
export const positionOf = (key: Buffer): number => Number(key.readBigUInt64BE(key.length - 8));
export const HEAD_PREFIX: Buffer = Buffer.from('h');
export const headKey = (tenant: string): Buffer => Buffer.from(`h${tenant}`, 'latin1');
export const tenantOf = (key: Buffer): string => key.toString('latin1', 1);
export const HOST_KEY: Buffer = Buffer.from('m');
export const epochKey = (epoch: number): Buffer => {
  const key = Buffer.from('k0000', 'latin1');
  key.writeUInt32BE(epoch, 1);
  return key;
};
/** What a wrapped MAC key is bound to. */
export const macKeyContext = (host: string, epoch: number): Buffer =>
  encodeCanonical(MAC_KEY_LABEL, [host, String(epoch)]);

export const macOf = (key: KeyObject, data: Uint8Array): Buffer => createHmac('sha256', key).update(data).digest();
/** Writes the MAC of `data` at `at` and answers the offset behind it. */
export const writeMac = (into: Buffer, at: number, key: KeyObject, data: Uint8Array): number =>
  at + into.write(createHmac('sha256', key).update(data).digest('binary'), at, 'binary');
export const macFits = (key: KeyObject, data: Uint8Array, mac: Uint8Array): boolean =>
  mac.length === MAC_BYTES && timingSafeEqual(macOf(key, data), mac);

/** A value and the MAC behind it, for rows that the agent believes. */
export interface Sealed<T> {
  readonly value: T;
  readonly epoch: number;
  readonly body: Buffer;
  readonly mac: Buffer;
}

export const sealed = <T extends { epoch: number }>(bytes: Buffer, decode: (body: Buffer) => T): Sealed<T> => {
  if (bytes.length < MAC_BYTES) throw new DocumentError('cut off before the MAC');
  const body = bytes.subarray(0, -MAC_BYTES);
  const value = decode(body);
  return { value, epoch: value.epoch, body, mac: bytes.subarray(-MAC_BYTES) };
};

/** The canonical form of `fields`, then `tail`, then the MAC of both. */
export const seal = (
  key: KeyObject,
  label: string,
  fields: readonly string[],
  tail: readonly Uint8Array[] = [],
): Buffer => {
  const tailBytes = tail.reduce((sum, part) => sum + part.length, MAC_BYTES);
  const row = Buffer.allocUnsafe(canonicalBytes(label, fields) + tailBytes);
  let at = writeCanonical(row, 0, label, fields);
  for (const part of tail) {
    row.set(part, at);
    at += part.length;
  }
  writeMac(row, at, key, row.subarray(0, at));
  return row;
};

export const count = (text: string | undefined): number => {
  const value = Number(text);
  if (text === undefined || !/^(0|[1-9]\d{0,15})$/.test(text) || !Number.isSafeInteger(value)) {
    throw new DocumentError('not a number');
  }
  return value;
};

/** Where a tenant's log stands. */
export interface TenantHead {
  readonly tenant: string;
  readonly epoch: number;
  /** Size of the newest checkpoint, 0 where there is none. */
  readonly checkpointSize: number;
  readonly frontier: Frontier;
}

export const encodeHead = (key: KeyObject, head: TenantHead): Buffer => {
  const fields = [head.tenant, String(head.epoch), String(head.frontier.size), String(head.checkpointSize)];
  return seal(key, HEAD_LABEL, fields, [head.frontier.bytes]);
};

export const decodeHead = (bytes: Buffer): Sealed<TenantHead> =>
  sealed(bytes, (body) => {
    const { fields, end } = decodeCanonicalPrefix(HEAD_LABEL, body, { fields: 4, maxFieldBytes: 64 });
    const frontier = Frontier.of(count(fields[2]), body.subarray(end));
    return { tenant: fields[0] as string, epoch: count(fields[1]), checkpointSize: count(fields[3]), frontier };
  });

/** Where the host's log stands: the MAC of every tenant's head, so that no tenant can be taken back alone. */
export interface HostHead {
  readonly host: string;
  /** First epoch of this store. */
  readonly generation: number;
  readonly epoch: number;
  /** Next sequence of the epoch. */
  readonly sequence: number;
  /** Tenant → first bytes of the MAC of its head, in order of first record. */
  readonly heads: ReadonlyMap<string, Buffer>;
}

export const encodeHost = (key: KeyObject, head: Omit<HostHead, 'heads'>, heads: HeadList): Buffer => {
  const fields = [head.host, String(head.generation), String(head.epoch), String(head.sequence)];
  return seal(key, HOST_LABEL, fields, [heads.bytes]);
};

export const decodeHost = (bytes: Buffer): Sealed<HostHead> =>
  sealed(bytes, (body) => {
    const { fields, end } = decodeCanonicalPrefix(HOST_LABEL, body, { fields: 4, maxFieldBytes: 256 });
    const heads = new Map<string, Buffer>();
    for (let at = end; at < body.length; ) {
      const gap = body.indexOf(0, at);
      if (gap < 0 || gap + 1 + HEAD_TAG_BYTES > body.length || body.length > MAX_HOST_FIELD) {
        throw new DocumentError('the list of heads is cut off');
      }
      heads.set(body.toString('latin1', at, gap), Buffer.from(body.subarray(gap + 1, gap + 1 + HEAD_TAG_BYTES)));
      at = gap + 1 + HEAD_TAG_BYTES;
    }
    const [host, generation, epoch, sequence] = fields as [string, string, string, string];
    return { host, generation: count(generation), epoch: count(epoch), sequence: count(sequence), heads };
  });

export interface CheckpointRow {
  /** C2SP signed note. */
  readonly text: string;
  readonly signedAt: number;
  readonly publicJwk: PublicJwk;
  /** Size of the checkpoint before, 0 where this is the first: a missing one leaves a gap. */
  readonly previousSize: number;
  readonly epoch: number;
}

export const encodeCheckpointRow = (key: KeyObject, row: CheckpointRow): Buffer => {
  const numbers = [String(row.signedAt), String(row.previousSize), String(row.epoch)];
  return seal(key, CHECKPOINT_LABEL, [row.text, JSON.stringify(row.publicJwk), ...numbers]);
};

export const decodeCheckpointRow = (bytes: Buffer): Sealed<CheckpointRow> =>
  sealed(bytes, (body) => {
    const limits = { fields: 5, maxFieldBytes: MAX_NOTE_BYTES };
    const { fields, end } = decodeCanonicalPrefix(CHECKPOINT_LABEL, body, limits);
    if (end !== body.length) throw new DocumentError('bytes after the last field');
    const [text, jwk, signedAt, previousSize, epoch] = fields as [string, string, string, string, string];
    return {
      text,
      publicJwk: parseJwk(jwk),
      signedAt: count(signedAt),
      previousSize: count(previousSize),
      epoch: count(epoch),
    };
  });

const parseJwk = (json: string): PublicJwk => {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch {
    throw new DocumentError('the key is not JSON');
  }
  const members = typeof value === 'object' && value !== null ? Object.entries(value) : [];
  if (members.length === 0 || members.some(([, member]) => typeof member !== 'string')) {
    throw new DocumentError('the key is not a JWK of strings');
  }
  return Object.fromEntries(members) as Record<string, string>;
};

export const originOf = (host: string, tenant: string, generation: number): string => `${host}/${tenant}/${generation}`;
