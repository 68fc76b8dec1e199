// Prints the tables of proto/documents/key-states.ts as Markdown, for docs/architecture.md, which a test compares.
import type { KeyState, VersionState } from '../../proto/documents/key-record.ts';
import { stateAllows, versionAllows } from '../../proto/documents/key-states.ts';
import { OPERATION_NAMES, type OperationName, operation } from '../../proto/documents/operations.ts';

export const KEY_STATES = [
  'PRE_ACTIVE',
  'ACTIVE',
  'SUSPENDED',
  'EXPIRED',
  'REVOKED',
  'PENDING_DESTRUCTION',
  'DESTROYED',
] as const satisfies readonly KeyState[];
export const VERSION_STATES = ['PRIMARY', 'RETIRED', 'REVOKED', 'DESTROYED'] as const satisfies readonly VersionState[];

const OF_NO_KEY: ReadonlySet<OperationName> = new Set([
  'create-key',
  'list-keys',
  'rotate-tenant-kek',
  'get-import-key',
  'import-key',
]);

/** Operations that touch one key, in the order of the operation table. */
export const KEY_OPERATIONS: readonly OperationName[] = OPERATION_NAMES.filter((name) => {
  const { scope, purpose } = operation(name);
  return !OF_NO_KEY.has(name) && (purpose !== undefined || scope?.startsWith('keys.') === true);
});

const row = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
const mark = (allowed: boolean): string => (allowed ? 'yes' : '–');
const table = (head: readonly string[], rows: readonly (readonly string[])[]): string =>
  [row(head), row(head.map(() => '---')), ...rows.map(row)].join('\n');

/** State of the key × operation. */
export const keyStateTable = (): string =>
  table(
    ['operation', ...KEY_STATES.map((state) => `\`${state}\``)],
    KEY_OPERATIONS.map((name) => [name, ...KEY_STATES.map((state) => mark(stateAllows(state, name)))]),
  );

/** State of the version × kind of operation. */
export const versionStateTable = (): string =>
  table(
    ['kind', ...VERSION_STATES.map((state) => `\`${state}\``)],
    (['apply', 'process'] as const).map((kind) => [kind, ...VERSION_STATES.map((s) => mark(versionAllows(s, kind)))]),
  );

/** Both tables, as they stand between the markers of docs/architecture.md. */
export const stateTable = (): string => `${keyStateTable()}\n\n${versionStateTable()}\n`;
