// The header of a JWE or JWS, from bytes that an attacker controls. Invariant: one JSON object of at
// most 8 KiB, no member twice, every critical parameter understood and present (RFC 7515 section 4.1.11).
import { isAscii } from 'node:buffer';
import { invalid } from '../errors.ts';
import { decodeBase64url, encodeBase64url } from './base64url.ts';
import { type JsonObject, parseJsonObject } from './strict-json.ts';

const MAX_HEADER_BYTES = 8 * 1024; // ten times what an RSA or EC header with kid and typ needs
const MAX_NAME_BYTES = 64; // `alg`, `enc`
const MAX_KID_BYTES = 512;

export interface JoseHeader {
  readonly alg: string;
  readonly kid: string | undefined;
  readonly critical: ReadonlySet<string>;
  readonly members: JsonObject;
}

const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }); // a BOM is kept, and so refused as JSON

export const decodeHeader = (segment: string, field: string): JsonObject => {
  if (segment.length > Math.ceil((MAX_HEADER_BYTES * 4) / 3)) throw invalid(field, 'the header is over 8 KiB');
  const bytes = decodeBase64url(segment);
  if (bytes === undefined) throw invalid(field, 'the header is not canonical base64url');
  let text: string;
  try {
    text = isAscii(bytes) ? bytes.toString('latin1') : UTF8.decode(bytes);
  } catch {
    throw invalid(field, 'the header is not UTF-8');
  }
  const members = parseJsonObject(text);
  if (members === undefined) throw invalid(field, 'the header is not a JSON object without repeated members');
  return members;
};

/** A string member of the header, or undefined where it is absent; any other type is refused. */
export const headerText = (members: JsonObject, name: string, field: string, maxBytes: number): string | undefined => {
  const value = members[name];
  if (value === undefined) return undefined;
  if (typeof value !== 'string' || Buffer.byteLength(value) > maxBytes) {
    throw invalid(field, `header "${name}" is not a string of at most ${maxBytes} bytes`);
  }
  return value;
};

/** `understood` holds extensions only, so the names of the standards themselves are refused as section 4.1.11 wants. */
const criticalOf = (members: JsonObject, field: string, understood: ReadonlySet<string>): ReadonlySet<string> => {
  const crit = members['crit'];
  if (crit === undefined) return new Set();
  if (!Array.isArray(crit) || crit.length === 0) throw invalid(field, 'header "crit" is not a list of names');
  const names = new Set<string>();
  for (const name of crit as unknown[]) {
    if (typeof name !== 'string' || names.has(name) || !(name in members)) {
      throw invalid(field, 'header "crit" names something twice or absent');
    }
    if (!understood.has(name)) throw invalid(field, 'header "crit" names a parameter that is not understood');
    names.add(name);
  }
  return names;
};

/** Reads a JOSE header that is spread over several objects; `crit` and what it names must be among the protected. */
export const readJoseHeader = (
  members: JsonObject,
  guarded: JsonObject,
  field: string,
  understood: ReadonlySet<string>,
): JoseHeader => {
  const alg = headerText(members, 'alg', field, MAX_NAME_BYTES);
  if (alg === undefined || alg === '') throw invalid(field, 'the header has no "alg"');
  const kid = headerText(members, 'kid', field, MAX_KID_BYTES);
  return { alg, kid, critical: criticalOf(guarded, field, understood), members };
};

export const parseJoseHeader = (segment: string, field: string, understood: ReadonlySet<string>): JoseHeader => {
  const members = decodeHeader(segment, field);
  return readJoseHeader(members, members, field, understood);
};

export const buildJoseHeader = (members: JsonObject): string => encodeBase64url(Buffer.from(JSON.stringify(members)));
