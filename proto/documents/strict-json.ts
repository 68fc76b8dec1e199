// JSON (RFC 8259) from untrusted bytes: UTF-8 without BOM, bounded size and depth, duplicate members refused, strings
// without lone surrogates. JSON.parse keeps the last of two equal members, so two readers could see two documents.
import { PolicyError } from './policy-error.ts';

export type JsonValue = null | boolean | number | string | readonly JsonValue[] | JsonObject;
/** Has no prototype, so that "__proto__" is a member like any other. */
export interface JsonObject {
  readonly [name: string]: JsonValue;
}

const MAX_DEPTH = 16; // a policy needs 6

const SPACE = /[ \t\r\n]*/y;
// RFC 8259 section 7: unescaped = %x20-21 / %x23-5B / %x5D-10FFFF
const STRING = /"[ !#-[\]-\u{10FFFF}]*(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[ !#-[\]-\u{10FFFF}]*)*"/uy;
const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const LITERAL = /true|false|null/y;

class Reader {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  document(): JsonValue {
    const value = this.#value('', 0);
    if (this.#at !== this.#text.length) throw this.#malformed('text after the end of the document');
    return value;
  }

  #malformed(what: string): PolicyError {
    return new PolicyError('MALFORMED', '', `not JSON: ${what} at character ${this.#at}`);
  }

  #take(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text)?.[0];
    if (found !== undefined) this.#at += found.length;
    return found;
  }

  /** One character of punctuation, with the white space around it. */
  #mark(character: string): boolean {
    this.#take(SPACE);
    if (this.#text[this.#at] !== character) return false;
    this.#at += 1;
    this.#take(SPACE);
    return true;
  }

  #string(): string | undefined {
    const token = this.#take(STRING);
    if (token === undefined) return undefined;
    const text: string = JSON.parse(token);
    if (!text.isWellFormed()) throw this.#malformed('a lone surrogate');
    return text;
  }

  #value(path: string, depth: number): JsonValue {
    if (depth > MAX_DEPTH) throw this.#malformed(`nested deeper than ${MAX_DEPTH}`);
    this.#take(SPACE);
    const value = this.#composite(path, depth) ?? this.#scalar();
    this.#take(SPACE);
    return value;
  }

  #composite(path: string, depth: number): JsonValue | undefined {
    if (this.#mark('{')) return this.#object(path, depth);
    if (this.#mark('[')) return this.#array(path, depth);
    return this.#string();
  }

  #scalar(): JsonValue {
    const literal = this.#take(LITERAL);
    if (literal !== undefined) return literal === 'null' ? null : literal === 'true';
    const token = this.#take(NUMBER);
    if (token === undefined) throw this.#malformed('no value');
    const number = Number(token);
    if (!Number.isFinite(number)) throw this.#malformed('a number beyond the range of a double');
    return number;
  }

  #object(path: string, depth: number): JsonObject {
    const members: Record<string, JsonValue> = Object.create(null);
    if (this.#mark('}')) return members;
    do {
      const name = this.#string();
      if (name === undefined) throw this.#malformed('no member name');
      const at = member(path, name);
      if (Object.hasOwn(members, name)) throw new PolicyError('FIELD_DUPLICATE', at, 'given twice');
      if (!this.#mark(':')) throw this.#malformed('no ":" after a member name');
      members[name] = this.#value(at, depth + 1);
    } while (this.#mark(','));
    if (!this.#mark('}')) throw this.#malformed('no "," or "}"');
    return members;
  }

  #array(path: string, depth: number): readonly JsonValue[] {
    const items: JsonValue[] = [];
    if (this.#mark(']')) return items;
    do items.push(this.#value(`${path}[${items.length}]`, depth + 1));
    while (this.#mark(','));
    if (!this.#mark(']')) throw this.#malformed('no "," or "]"');
    return items;
  }
}

const PLAIN_NAME = /^[A-Za-z_][\w-]{0,63}$/;
const SHOWN_NAME_CHARACTERS = 64;

/** The path of a member; a name that is not plain is quoted and cut, since an attacker may have chosen it. */
export const member = (path: string, name: string): string => {
  const shown = PLAIN_NAME.test(name) ? name : JSON.stringify(name.slice(0, SHOWN_NAME_CHARACTERS));
  return path === '' ? shown : `${path}.${shown}`;
};

/** Parses at most `limitBytes` of JSON, or throws PolicyError TOO_LARGE, MALFORMED or FIELD_DUPLICATE. */
export const parseJson = (bytes: Uint8Array, limitBytes: number): JsonValue => {
  if (bytes.length > limitBytes) throw new PolicyError('TOO_LARGE', '', `larger than ${limitBytes} bytes`);
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new PolicyError('MALFORMED', '', 'not UTF-8', cause);
  }
  return new Reader(text).document();
};
