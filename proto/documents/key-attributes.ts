// What labels, grants and limits of a key may be. The parser of stored records and the checks of requests both read
// it here, so that what was accepted once can always be loaded again.
import type { Grant, KeyLimits } from './key-record.ts';
import { OPERATIONS, type OperationName, operation } from './operations.ts';

export const MAX_LABELS = 32;
export const MAX_LABEL_VALUE_BYTES = 255;
export const MAX_GRANTS = 64;
export const MAX_PRINCIPAL_BYTES = 255;
/** Bounds the size of a record: a version with an RSA-4096 public key takes about 1 KiB. */
export const MAX_VERSIONS = 1000;
export const MAX_REASON_BYTES = 255;
/** The last moment that a Date can hold (ECMA-262 section 21.4.1.1). */
export const MAX_TIME = 8.64e15;

export const LABEL_NAME_PATTERN = /^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}$/;

/** Text that people type: well-formed, no control characters, bounded in UTF-8. */
export const isText = (value: string, minBytes: number, maxBytes: number): boolean => {
  const bytes = Buffer.byteLength(value);
  return bytes >= minBytes && bytes <= maxBytes && value.isWellFormed() && !/\p{Cc}/u.test(value);
};

/** What is wrong with the labels, or undefined. */
export const labelsFault = (labels: Readonly<Record<string, string>>): string | undefined => {
  const entries = Object.entries(labels);
  if (entries.length > MAX_LABELS) return `more than ${MAX_LABELS} labels`;
  for (const [name, value] of entries) {
    if (!LABEL_NAME_PATTERN.test(name)) return 'a label name is [A-Za-z0-9] and then up to 62 of [A-Za-z0-9._/-]';
    if (!isText(value, 0, MAX_LABEL_VALUE_BYTES)) {
      return `the value of "${name}" is longer than ${MAX_LABEL_VALUE_BYTES} bytes or has control characters`;
    }
  }
  return undefined;
};

const NOT_OF_ONE_KEY: ReadonlySet<string> = new Set([
  'create-key',
  'list-keys',
  'rotate-tenant-kek',
  'get-import-key',
  'import-key',
]);

/** Operations that a grant can name: those that touch one key of the catalogue. */
export const isGrantable = (name: string): name is OperationName => {
  if (!Object.hasOwn(OPERATIONS, name) || NOT_OF_ONE_KEY.has(name)) return false;
  const { scope, purpose } = operation(name as OperationName);
  return purpose !== undefined || scope?.startsWith('keys.') === true;
};

const isManaging = (name: string): boolean =>
  Object.hasOwn(OPERATIONS, name) && operation(name as OperationName).kind === 'manage';

/** What is wrong with the grants, or undefined. */
export const grantsFault = (
  grants: readonly { readonly principal: string; readonly operations: readonly string[] }[],
): string | undefined => {
  if (grants.length > MAX_GRANTS) return `more than ${MAX_GRANTS} grants`;
  if (new Set(grants.map((grant) => grant.principal)).size !== grants.length) return 'a principal is named twice';
  for (const { principal, operations } of grants) {
    if (!isText(principal, 1, MAX_PRINCIPAL_BYTES)) {
      return `a principal is 1 to ${MAX_PRINCIPAL_BYTES} bytes without control characters`;
    }
    if (operations.length === 0) return 'a grant names no operation';
    if (new Set(operations).size !== operations.length) return 'a grant names an operation twice';
    const unknown = operations.find((name) => !isGrantable(name));
    if (unknown !== undefined) return `"${unknown.slice(0, 64)}" is not an operation on a key`;
  }
  const managing = grants.flatMap((grant) => grant.operations).filter(isManaging);
  if (managing.length > 0 && !managing.includes('update-key')) {
    return 'grants that narrow managing must leave "update-key" to somebody, or nobody could change the key again';
  }
  return undefined;
};

/** Copies grants that `grantsFault` has passed. */
export const copyGrants = (
  grants: readonly { readonly principal: string; readonly operations: readonly string[] }[],
): readonly Grant[] =>
  grants.map(({ principal, operations }) => ({ principal, operations: operations.filter(isGrantable) }));

const isCount = (value: number | undefined): boolean =>
  value === undefined || (Number.isSafeInteger(value) && value >= 1);
export const isTime = (value: number): boolean => Number.isSafeInteger(value) && value >= 0 && value <= MAX_TIME;

/** The limit that is not a count from 1 or a time, or undefined. */
export const limitsFault = (limits: KeyLimits): keyof KeyLimits | undefined => {
  if (!isCount(limits.softUses)) return 'softUses';
  if (!isCount(limits.hardUses)) return 'hardUses';
  if (limits.softExpiry !== undefined && !isTime(limits.softExpiry)) return 'softExpiry';
  if (limits.hardExpiry !== undefined && !isTime(limits.hardExpiry)) return 'hardExpiry';
  return undefined;
};
