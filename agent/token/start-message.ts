// The JSON of the control channel: what the process is told at its start, and what it answers. Each side validates
// what the other sent into plain data; the PIN is a field of its own and never part of this.
import { ABILITY_NAMES, type Ability } from './abilities.ts';
import { ProtocolError } from './protocol.ts';
import { isStartReason, type StartReason } from './start-error.ts';

export interface StartConfig {
  readonly library: string;
  readonly tokenLabel?: string;
  readonly slotIndex: number;
  /** CKM_ names that the module shall be without. */
  readonly disabledMechanisms: readonly string[];
  /** What an earlier start learned about RSA, as `Ready.rsaCache`. */
  readonly rsaCache?: string;
}

export interface TokenIdentity {
  readonly label: string;
  readonly manufacturer: string;
  readonly model: string;
  readonly serial: string;
  readonly firmware: string;
  readonly library: string;
  readonly libraryDescription: string;
  readonly libraryVersion: string;
}

export interface Ready {
  readonly identity: TokenIdentity;
  readonly profile: { readonly name: string; readonly serialiseObjects: boolean; readonly notes: readonly string[] };
  readonly abilities: readonly Ability[];
  /** To be kept beside the key records and given back at the next start. */
  readonly rsaCache: string;
  /** Mechanisms that the token lists, by CKM_ name. */
  readonly mechanisms: readonly string[];
}

export interface StartFailure {
  readonly reason: StartReason;
  readonly detail: string;
}

type Unknown = Readonly<Record<string, unknown>>;
const MAX_TEXT = 2048;

const object = (value: unknown): Unknown => {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new ProtocolError('not an object');
  return value as Unknown;
};
const text = (value: unknown, limit = MAX_TEXT): string => {
  if (typeof value !== 'string' || value.length > limit) throw new ProtocolError('not a string within its limit');
  return value;
};
const list = <T>(value: unknown, limit: number, item: (value: unknown) => T): readonly T[] => {
  if (!Array.isArray(value) || value.length > limit) throw new ProtocolError('not a list within its limit');
  return value.map(item);
};
const parsed = (bytes: Buffer): Unknown => {
  try {
    return object(JSON.parse(bytes.toString('utf8')));
  } catch (cause) {
    throw new ProtocolError('not JSON', { cause });
  }
};

const ability = (value: unknown): Ability => {
  const row = object(value);
  const name = text(row['name'], 64);
  if (!ABILITY_NAMES.includes(name)) throw new ProtocolError(`no ability is called ${JSON.stringify(name)}`);
  const why = row['why'] === undefined ? {} : { why: text(row['why']) };
  return { name, ok: row['ok'] === true, ...why };
};

export const parseReady = (bytes: Buffer): Ready => {
  const row = parsed(bytes);
  const identity = object(row['identity']);
  const profile = object(row['profile']);
  const of = (name: string): string => text(identity[name]);
  return {
    identity: {
      label: of('label'),
      manufacturer: of('manufacturer'),
      model: of('model'),
      serial: of('serial'),
      firmware: of('firmware'),
      library: of('library'),
      libraryDescription: of('libraryDescription'),
      libraryVersion: of('libraryVersion'),
    },
    profile: {
      name: text(profile['name'], 64),
      serialiseObjects: profile['serialiseObjects'] !== false,
      notes: list(profile['notes'], 16, (note) => text(note)),
    },
    abilities: list(row['abilities'], 128, ability),
    rsaCache: text(row['rsaCache'], 16 * 1024),
    mechanisms: list(row['mechanisms'], 4096, (name) => text(name, 64)),
  };
};

export const parseFailure = (bytes: Buffer): StartFailure => {
  const row = parsed(bytes);
  const reason = row['reason'];
  if (!isStartReason(reason)) throw new ProtocolError('no such reason');
  return { reason, detail: text(row['detail']) };
};

export const parseStartConfig = (bytes: Buffer): StartConfig => {
  const row = parsed(bytes);
  const slotIndex = row['slotIndex'];
  if (typeof slotIndex !== 'number' || !Number.isSafeInteger(slotIndex) || slotIndex < 0) {
    throw new ProtocolError('the slot index is not a number from 0');
  }
  return {
    library: text(row['library'], 4096),
    slotIndex,
    disabledMechanisms: list(row['disabledMechanisms'], 1024, (name) => text(name, 64)),
    ...(row['tokenLabel'] !== undefined && { tokenLabel: text(row['tokenLabel'], 64) }),
    ...(row['rsaCache'] !== undefined && { rsaCache: text(row['rsaCache'], 16 * 1024) }),
  };
};

/** A cut-down text for a field or a detail. */
export const shortened = (value: string, limit = 1000): string =>
  value.length <= limit ? value : `${value.slice(0, limit)}…`;
