// The value language of clients/conformance/README.md: what a case file means to a runner, and whether an answer fits.
import assert from 'node:assert/strict';

export type Saved = Map<string, unknown>;

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const bytesIn = (value: Record<string, unknown>): Buffer | undefined => {
  if (typeof value['utf8'] === 'string') return Buffer.from(value['utf8']);
  if (typeof value['base64'] === 'string') return Buffer.from(value['base64'], 'base64');
  if (typeof value['repeat'] === 'string') return Buffer.alloc(Number(value['bytes']), value['repeat']);
  return undefined;
};

const savedAs = (name: string, saved: Saved): unknown => {
  assert.ok(saved.has(name), `the case uses ${name} before it is saved`);
  return saved.get(name);
};

/** A value of a case as a runner gets it. */
export const resolved = (value: unknown, saved: Saved): unknown => {
  if (typeof value === 'string')
    return value.replace(/\$\{(\w+)\}/g, (_, name: string) => String(savedAs(name, saved)));
  if (Array.isArray(value)) return value.map((row) => resolved(row, saved));
  if (!isObject(value)) return value;
  if (typeof value['$ref'] === 'string') {
    const found = savedAs(value['$ref'], saved);
    if (value['$cut'] === undefined) return found;
    const bytes = bytesIn(found as Record<string, unknown>) as Buffer;
    return { base64: bytes.subarray(0, bytes.length - Number(value['$cut'])).toString('base64') };
  }
  const bytes = bytesIn(value);
  if (bytes !== undefined) return { base64: bytes.toString('base64') };
  return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, resolved(inner, saved)]));
};

const MATCHERS = ['$save', '$match', '$length', '$time'];

const checkMatchers = (actual: unknown, wanted: Record<string, unknown>, saved: Saved, where: string): void => {
  if (wanted['$match'] !== undefined) assert.match(String(actual), new RegExp(String(wanted['$match'])), where);
  if (wanted['$length'] !== undefined) {
    const bytes = isObject(actual) ? bytesIn(actual) : undefined;
    assert.equal(bytes?.length, wanted['$length'], `${where}: length in bytes`);
  }
  if (wanted['$time'] === true) {
    assert.ok(typeof actual === 'string' && !Number.isNaN(Date.parse(actual)), `${where}: a time, not ${actual}`);
  }
  if (typeof wanted['$save'] === 'string') {
    assert.ok(actual !== undefined && actual !== null, `${where}: nothing to save`);
    saved.set(wanted['$save'], actual);
  }
};

/** Throws where the answer of a runner does not have what the case expects of it. */
export const check = (actual: unknown, expected: unknown, saved: Saved, where: string): void => {
  if (isObject(expected) && MATCHERS.some((name) => name in expected)) {
    checkMatchers(actual, expected, saved, where);
    return;
  }
  const wanted =
    isObject(expected) && !bytesIn(expected) && !('$ref' in expected) ? expected : resolved(expected, saved);
  if (Array.isArray(wanted)) {
    assert.ok(Array.isArray(actual), `${where}: a list, not ${JSON.stringify(actual)}`);
    assert.equal(actual.length, wanted.length, `${where}: number of items`);
    for (const [index, inner] of wanted.entries()) check(actual[index], inner, saved, `${where}[${index}]`);
  } else if (isObject(wanted) && bytesIn(wanted) === undefined) {
    assert.ok(isObject(actual), `${where}: an object, not ${JSON.stringify(actual)}`);
    for (const [name, inner] of Object.entries(wanted)) check(actual[name], inner, saved, `${where}.${name}`);
  } else {
    assert.deepEqual(actual ?? null, wanted, where);
  }
};
