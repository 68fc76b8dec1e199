// What a file holds: a JWE, a JWS or a container, and under which keys. Invariant: any bytes may come in; no more than one
// JOSE text or one header is held, and nothing here decides whether it is authentic.
import { open } from 'node:fs/promises';
import { MAX_JOSE_BYTES } from '../files.ts';

/** `list`: one JOSE text a line. */
export type Form = 'jwe' | 'jwe-json' | 'jws' | 'container' | 'list';

export interface Named {
  readonly kid: string | undefined;
  readonly alg: string;
}

export interface Ciphertext {
  readonly form: Form;
  /** Who can open it; of a JWS, who signed it. */
  readonly keys: readonly Named[];
  /** The JOSE text, or the header of a container. */
  readonly text: string;
  /** White space around the text in its file. */
  readonly around: readonly [before: string, after: string];
  /** A JWS without its payload. */
  readonly detached: boolean;
  /** Bytes in front of the salt of a container. */
  readonly headBytes: number;
}

/** The first bytes of a container, and what stands in front of its header (docs/spec/chunked.md). */
export const CONTAINER_MAGIC = Buffer.from('4d434501', 'hex');
export const LEAD_BYTES = 8;
export const MAX_HEADER_BYTES = 64 * 1024;
const MAX_RECIPIENTS = 32;
const BASE64URL = /^[A-Za-z0-9_-]*$/;

type JsonObject = Readonly<Record<string, unknown>>;

const parseObject = (text: string): JsonObject | undefined => {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as JsonObject) : undefined;
  } catch {
    return undefined; // the answer, not a failure: any text may be asked about
  }
};

const decoded = (part: unknown): JsonObject | undefined =>
  typeof part === 'string' && part !== '' && BASE64URL.test(part)
    ? parseObject(Buffer.from(part, 'base64url').toString('utf8'))
    : undefined;

const named = (...headers: readonly (JsonObject | undefined)[]): Named | undefined => {
  const { alg, kid } = Object.assign({}, ...headers) as JsonObject;
  if (typeof alg !== 'string' || (kid !== undefined && typeof kid !== 'string')) return undefined;
  return { alg, kid };
};

type Read = Pick<Ciphertext, 'form' | 'keys' | 'detached'>;

const compact = (text: string): Read | undefined => {
  const parts = text.split('.', 6);
  // The payload of an unencoded JWS is any text without a dot; ours are detached, so that it is empty.
  if ((parts.length !== 3 && parts.length !== 5) || !parts.every((part) => BASE64URL.test(part))) return undefined;
  const header = decoded(parts[0]);
  const key = header && named(header);
  if (header === undefined || key === undefined) return undefined;
  if (parts.length === 3) return { form: 'jws', keys: [key], detached: parts[1] === '' };
  return typeof header['enc'] === 'string' ? { form: 'jwe', keys: [key], detached: false } : undefined;
};

const isObject = (value: unknown): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** General or flattened JWE (RFC 7516 section 7.2). */
const json = (text: string): Read | undefined => {
  const jwe = parseObject(text);
  if (jwe === undefined || typeof jwe['ciphertext'] !== 'string') return undefined;
  const { recipients = [jwe] } = jwe;
  if (!Array.isArray(recipients) || recipients.length === 0 || recipients.length > MAX_RECIPIENTS) return undefined;
  const shared = [decoded(jwe['protected']), isObject(jwe['unprotected']) ? jwe['unprotected'] : undefined];
  const keys = recipients.map((row: unknown) =>
    isObject(row) ? named(...shared, isObject(row['header']) ? row['header'] : undefined) : undefined,
  );
  return keys.every((key) => key !== undefined) ? { form: 'jwe-json', keys, detached: false } : undefined;
};

/** A JOSE text with white space around it. */
export const parseJose = (whole: string): Ciphertext | undefined => {
  const text = whole.trim();
  const read = text.startsWith('{') ? json(text) : compact(text);
  if (read === undefined) return undefined;
  const at = whole.indexOf(text);
  return { ...read, text, around: [whole.slice(0, at), whole.slice(at + text.length)], headBytes: 0 };
};

/** White space, then the base64url of a JSON object or an object itself. */
const BEGINNING = /^\s*(?:e|\{|$)/;

const LIST: Ciphertext = { form: 'list', keys: [], text: '', around: ['', ''], detached: false, headBytes: 0 };

/** Several lines, the first of which is a JOSE text by itself. */
const parseList = (beginning: string): Ciphertext | undefined => {
  const text = beginning.trimStart();
  const end = text.indexOf('\n');
  const isList = end >= 0 && text.slice(end).trim() !== '' && parseJose(text.slice(0, end)) !== undefined;
  return isList ? LIST : undefined;
};

/** The header of a container, without its magic and length. */
export const parseContainerHeader = (header: Buffer): Ciphertext | undefined => {
  const text = header.toString('utf8').trim();
  const read = json(text);
  if (read === undefined) return undefined;
  return { ...read, form: 'container', text, around: ['', ''], headBytes: LEAD_BYTES + header.length };
};

/** Reads what a file is; `undefined` where it is none of these. */
export const readCiphertext = async (path: string): Promise<Ciphertext | undefined> => {
  const file = await open(path, 'r');
  try {
    const lead = Buffer.alloc(LEAD_BYTES);
    const { bytesRead } = await file.read(lead, 0, LEAD_BYTES, 0);
    if (bytesRead === LEAD_BYTES && lead.subarray(0, CONTAINER_MAGIC.length).equals(CONTAINER_MAGIC)) {
      const length = lead.readUInt32BE(CONTAINER_MAGIC.length);
      if (length === 0 || length > MAX_HEADER_BYTES) return undefined;
      const header = Buffer.alloc(length);
      const read = await file.read(header, 0, length, LEAD_BYTES);
      return read.bytesRead === length ? parseContainerHeader(header) : undefined;
    }
    // What begins otherwise is not read further, however large.
    if (bytesRead === 0 || !BEGINNING.test(lead.toString('latin1'))) return undefined;
    const beginning = Buffer.alloc(Math.min((await file.stat()).size, MAX_JOSE_BYTES + 1));
    const read = await file.read(beginning, 0, beginning.length, 0);
    const text = beginning.subarray(0, read.bytesRead).toString('utf8');
    return (read.bytesRead <= MAX_JOSE_BYTES ? parseJose(text) : undefined) ?? parseList(text);
  } finally {
    await file.close();
  }
};
