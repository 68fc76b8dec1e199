// Readers of untrusted JSON values: each checks one value completely, says where it is and what would be accepted, and
// answers with plain frozen data. An object reader knows all members, so an unknown one is always refused.
import { PolicyError } from './policy-error.ts';
import { type JsonObject, type JsonValue, member } from './strict-json.ts';

export type Read<T> = (value: JsonValue, path: string) => T;

/** A reader whose member may be absent. */
export interface OptionalMember<T> {
  readonly optional: Read<T>;
}

/** One reader per member of T; an optional member needs an optional reader, so the shape cannot drift from the type. */
export type Shape<T> = {
  readonly [K in keyof T]-?: undefined extends T[K] ? OptionalMember<Exclude<T[K], undefined>> : Read<T[K]>;
};

const SHOWN_CHARACTERS = 60;

/** A value as it stands in a message: short, on one line, whatever an attacker wrote. */
export const shown = (value: JsonValue): string => {
  const text = Array.isArray(value) ? 'a list' : typeof value === 'object' && value !== null ? 'an object' : undefined;
  if (text !== undefined) return text;
  const json = JSON.stringify(value);
  return json.length <= SHOWN_CHARACTERS ? json : `${json.slice(0, SHOWN_CHARACTERS)}…`;
};

export const invalidValue = (path: string, value: JsonValue, accepted: string): PolicyError =>
  new PolicyError('VALUE_INVALID', path, `${shown(value)} is not accepted; expected ${accepted}`);

export const optional = <T>(read: Read<T>): OptionalMember<T> => ({ optional: read });

/** The value as an object, or VALUE_INVALID. */
export const asObject = (value: JsonValue, path: string): JsonObject => {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw invalidValue(path, value, 'an object');
  return value as JsonObject;
};

export const object =
  <T extends object>(shape: Shape<T>): Read<T> =>
  (value, path) => {
    const given = asObject(value, path);
    for (const name of Object.keys(given)) {
      if (Object.hasOwn(shape, name)) continue;
      const known = Object.keys(shape).join(', ');
      throw new PolicyError('FIELD_UNKNOWN', member(path, name), `unknown field; known here: ${known}`);
    }
    const result: Record<string, unknown> = {};
    for (const [name, entry] of Object.entries(shape) as [string, Read<unknown> | OptionalMember<unknown>][]) {
      const present = given[name];
      const read = typeof entry === 'function' ? entry : entry.optional;
      if (present !== undefined) result[name] = read(present, member(path, name));
      else if (typeof entry === 'function') throw new PolicyError('FIELD_MISSING', member(path, name), 'required');
    }
    return Object.freeze(result) as T;
  };

/** A list with at most `max` entries, no two with the same `identity`. */
export const list =
  <T>(read: Read<T>, bounds: { min?: number; max: number }, identity: (entry: T) => unknown = (entry) => entry) =>
  (value: JsonValue, path: string): readonly T[] => {
    const { min = 0, max } = bounds;
    if (!Array.isArray(value) || value.length < min || value.length > max)
      throw invalidValue(path, value, `a list of ${min} to ${max} entries`);
    const seen = new Set<unknown>();
    const entries = (value as readonly JsonValue[]).map((item, index) => {
      const at = `${path}[${index}]`;
      const entry = read(item, at);
      const key = identity(entry);
      if (seen.has(key)) throw new PolicyError('FIELD_DUPLICATE', at, 'given twice in the list');
      seen.add(key);
      return entry;
    });
    return Object.freeze(entries);
  };

/** An object whose member names are data too. */
export const record =
  <K extends string, V>(name: Read<K>, read: (name: K) => Read<V>, max: number) =>
  (value: JsonValue, path: string): Readonly<Partial<Record<K, V>>> => {
    const members = Object.entries(asObject(value, path));
    if (members.length > max) throw invalidValue(path, value, `an object of at most ${max} members`);
    const entries = members.map(([key, item]) => {
      const at = member(path, key);
      const known = name(key, at);
      return [known, read(known)(item, at)] as const;
    });
    return Object.freeze(Object.fromEntries(entries)) as Readonly<Partial<Record<K, V>>>;
  };

export const integer =
  (min: number, max: number): Read<number> =>
  (value, path) => {
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < min || value > max)
      throw invalidValue(path, value, `a whole number from ${min} to ${max}`);
    return value;
  };

export const oneOf =
  <const T extends string | boolean>(...accepted: readonly T[]): Read<T> =>
  (value, path) => {
    const found = accepted.find((entry) => entry === value);
    if (found === undefined)
      throw invalidValue(path, value, accepted.map((entry) => JSON.stringify(entry)).join(' or '));
    return found;
  };

/** A string that matches; `accepted` says in words what the pattern means. */
export const matching =
  (pattern: RegExp, accepted: string): Read<string> =>
  (value, path) => {
    if (typeof value !== 'string' || !pattern.test(value)) throw invalidValue(path, value, accepted);
    return value;
  };

/** A string of 1 to `max` characters without control characters. */
export const text = (max: number): Read<string> => {
  const accepted = `a string of 1 to ${max} characters without control characters`;
  return (value, path) => {
    if (typeof value !== 'string' || value.length === 0 || value.length > max || /\p{Cc}/u.test(value))
      throw invalidValue(path, value, accepted);
    return value;
  };
};

export const boolean: Read<boolean> = oneOf(true, false);

const UTC = /^(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2})(?:\.\d{1,3})?Z$/;

/** RFC 3339 in UTC with "Z", to the millisecond; the date must exist. */
export const utcTime: Read<string> = (value, path) => {
  const seconds = typeof value === 'string' ? UTC.exec(value)?.[1] : undefined;
  const time = seconds === undefined ? Number.NaN : Date.parse(value as string);
  // Date.parse turns the 30th of February into the 2nd of March.
  if (Number.isNaN(time) || new Date(time).toISOString().slice(0, 19) !== seconds)
    throw invalidValue(path, value, 'an existing time such as "2026-11-24T08:00:00Z"');
  return value as string;
};

/** Canonical base64url without padding (RFC 7515 section 2): one encoding per byte string. */
export const base64url =
  (bounds: { min: number; max: number }): Read<Buffer> =>
  (value, path) => {
    const bytes = typeof value === 'string' ? Buffer.from(value, 'base64url') : undefined;
    if (bytes === undefined || bytes.toString('base64url') !== value)
      throw invalidValue(path, value, 'base64url without padding');
    if (bytes.length < bounds.min || bytes.length > bounds.max)
      throw invalidValue(path, `${bytes.length} bytes`, `${bounds.min} to ${bounds.max} bytes`);
    return bytes;
  };
