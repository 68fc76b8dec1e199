// Parses untrusted JSON objects: bounded depth, no member twice (RFC 7515 section 4 lets a parser refuse duplicates;
// keeping the last one would let two libraries read two headers out of one text).
const MAX_DEPTH = 8; // a JWK inside a header is depth 2; nothing of ours goes deeper

export type JsonObject = Readonly<Record<string, unknown>>;

const TOKEN = /"[^"\\]*(?:\\.[^"\\]*)*"|[{}[\]:,]/g; // unrolled: one step for a run of plain characters

/** Walks the tokens of a text that JSON.parse has accepted; true where depth is bounded and no member comes twice. */
const isStrict = (text: string): boolean => {
  const open: (Set<string> | undefined)[] = [];
  let expectsName = false;
  for (const [token] of text.matchAll(TOKEN)) {
    if (token === '{' || token === '[') {
      open.push(token === '{' ? new Set() : undefined);
      if (open.length > MAX_DEPTH) return false;
      expectsName = token === '{';
    } else if (token === '}' || token === ']') {
      open.pop();
      expectsName = false;
    } else if (token === ',') {
      expectsName = open.at(-1) !== undefined;
    } else if (token !== ':' && expectsName) {
      const names = open.at(-1);
      const name = JSON.parse(token) as string; // "\u0061" and "a" are the same name
      if (names?.has(name)) return false;
      names?.add(name);
      expectsName = false;
    }
  }
  return true;
};

/** A flat object whose text is what JSON.stringify makes of it: no member comes twice, since it would have been lost. */
const isPlain = (value: object, text: string): boolean =>
  Object.values(value).every((member) => typeof member !== 'object') && JSON.stringify(value) === text;

/** The object in the text, without a prototype; undefined where it is not strict JSON or not an object. */
export const parseJsonObject = (text: string): JsonObject | undefined => {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined; // the caller names the field; the parser's words could quote its content
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined;
  if (!isPlain(value, text) && !isStrict(text)) return undefined;
  return Object.assign(Object.create(null) as JsonObject, value);
};
