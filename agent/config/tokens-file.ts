// MORTISE_TOKENS_FILE: the tokens of a host that has several, and which tenant is on which. Invariant: it is complete and
// without contradiction or refused with every problem at once; no field is passed over, and no secret is in it.
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { TENANT_PATTERN } from '../../proto/documents/key-record.ts';
import { CERTIFICATE_STATUSES, type CertificateStatement } from './certificate.ts';
import type { PinSource } from './pin-source.ts';

export interface TokenEntry {
  readonly name: string;
  readonly library: string;
  readonly label: string | undefined;
  readonly slotIndex: number;
  readonly pin: PinSource;
  readonly sessions: number;
  readonly sessionTimeoutMs: number;
  readonly callMs: number;
  readonly startMs: number;
  readonly recoveryMs: number;
  readonly disabledMechanisms: readonly string[];
  /** Variables of the vendor's library, in place of the agent's. */
  readonly environment: Readonly<Record<string, string>>;
  /** The tenants of this token, or all that no other token names. */
  readonly tenants: readonly string[] | 'others';
  readonly certificate: CertificateStatement | undefined;
}

export interface TokensFile {
  /** Name of the token that holds the agent's own keys. */
  readonly agent: string;
  readonly tokens: readonly TokenEntry[];
}

export class TokensFileError extends Error {
  readonly problems: readonly string[];
  constructor(problems: readonly string[]) {
    super(problems.join('; '));
    this.name = 'TokensFileError';
    this.problems = problems;
  }
}

export const TOKENS_SCHEMA = 'mortise.tokens/v1';
const MAX_FILE_BYTES = 256 * 1024;
const MAX_TOKENS = 64;
const OTHERS_WRITE = 0o022;
const NAME = /^[a-z0-9][a-z0-9-]{0,31}$/;
const DATE = /^\d{4}-\d{2}-\d{2}$/;
/** Defaults are those of the variables for a single token. */
const SECONDS = { sessionTimeoutSeconds: 30, callSeconds: 10, startSeconds: 30, recoverySeconds: 2 } as const;

type Unknown = Readonly<Record<string, unknown>>;

/** Takes a JSON document apart and keeps what is wrong with it. */
class Reader {
  readonly problems: string[] = [];

  wrong(where: string, what: string): void {
    this.problems.push(`${where} ${what}`);
  }
  object(value: unknown, where: string, known: readonly string[]): Unknown {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      this.wrong(where, 'must be an object');
      return {};
    }
    for (const name of Object.keys(value)) {
      if (!known.includes(name))
        this.wrong(where, `has a field ${JSON.stringify(name.slice(0, 64))} that is not known`);
    }
    return value as Unknown;
  }
  text(value: unknown, where: string, pattern: RegExp, rule: string): string {
    if (typeof value === 'string' && pattern.test(value)) return value;
    this.wrong(where, `must be ${rule}`);
    return '';
  }
  integer(value: unknown, where: string, { min, max, absent }: { min: number; max: number; absent?: number }): number {
    if (value === undefined && absent !== undefined) return absent;
    if (typeof value === 'number' && Number.isSafeInteger(value) && value >= min && value <= max) return value;
    this.wrong(where, `must be a whole number from ${min} to ${max}`);
    return min;
  }
  list(value: unknown, where: string, { min, max }: { min: number; max: number }): readonly unknown[] {
    if (Array.isArray(value) && value.length >= min && value.length <= max) return value;
    this.wrong(where, `must be a list of ${min} to ${max}`);
    return [];
  }
}

const ABSOLUTE = /^\/[^\0]{0,4095}$/;

const readPinSource = (reader: Reader, value: unknown, where: string, credentials: string | undefined): PinSource => {
  const pin = reader.object(value, where, ['file', 'credential', 'command', 'timeoutSeconds']);
  const given = ['file', 'credential', 'command'].filter((name) => pin[name] !== undefined);
  if (given.length !== 1) reader.wrong(where, 'must have one of file, credential, command');
  if (pin['timeoutSeconds'] !== undefined && pin['command'] === undefined) {
    reader.wrong(`${where}.timeoutSeconds`, 'is for a command');
  }
  if (pin['command'] !== undefined) {
    const argv = reader
      .list(pin['command'], `${where}.command`, { min: 1, max: 64 })
      .map((word, at) =>
        at === 0
          ? reader.text(word, `${where}.command[0]`, ABSOLUTE, 'the absolute path of a program')
          : reader.text(word, `${where}.command[${at}]`, /^[^\0]{0,4096}$/, 'text of at most 4096 characters'),
      );
    const seconds = reader.integer(pin['timeoutSeconds'], `${where}.timeoutSeconds`, { min: 1, max: 120, absent: 10 });
    return { kind: 'command', argv, timeoutMs: seconds * 1000 };
  }
  if (pin['credential'] !== undefined) {
    const name = reader.text(pin['credential'], `${where}.credential`, /^[A-Za-z0-9][A-Za-z0-9._-]{0,254}$/, 'a name');
    if (credentials === undefined)
      reader.wrong(`${where}.credential`, 'needs CREDENTIALS_DIRECTORY, which systemd sets');
    return { kind: 'file', path: join(credentials ?? '/', name) };
  }
  return { kind: 'file', path: reader.text(pin['file'], `${where}.file`, ABSOLUTE, 'an absolute path') };
};

const readCertificate = (reader: Reader, value: unknown, where: string): CertificateStatement | undefined => {
  if (value === undefined) return undefined;
  const row = reader.object(value, where, ['identifier', 'standard', 'level', 'expires', 'status']);
  const printable = /^[\x20-\x7e]{1,64}$/;
  const day = reader.text(row['expires'], `${where}.expires`, DATE, 'a date such as 2029-05-31');
  const expires = Date.parse(`${day}T00:00:00Z`);
  if (day !== '' && Number.isNaN(expires)) reader.wrong(`${where}.expires`, 'is not a day of the calendar');
  const status = CERTIFICATE_STATUSES.find((known) => known === row['status']);
  if (status === undefined) reader.wrong(`${where}.status`, `must be one of ${CERTIFICATE_STATUSES.join(', ')}`);
  return {
    identifier: reader.text(row['identifier'], `${where}.identifier`, printable, '1 to 64 printable characters'),
    standard: reader.text(row['standard'], `${where}.standard`, printable, '1 to 64 printable characters'),
    level: reader.integer(row['level'], `${where}.level`, { min: 1, max: 4 }),
    expires: Number.isNaN(expires) ? 0 : expires,
    status: status ?? 'revoked',
  };
};

const readTenants = (reader: Reader, value: unknown, where: string): readonly string[] | 'others' => {
  if (value === 'others') return 'others';
  return reader
    .list(value ?? [], where, { min: 0, max: 10_000 })
    .map((tenant, at) => reader.text(tenant, `${where}[${at}]`, TENANT_PATTERN, 'a tenant, or "others" for the list'));
};

const TOKEN_FIELDS = [
  ...['name', 'library', 'label', 'slotIndex', 'pin', 'sessions', 'disabledMechanisms', 'environment', 'tenants'],
  ...['certificate', ...Object.keys(SECONDS)],
];

const readToken = (
  reader: Reader,
  value: unknown,
  at: number,
  options: { readonly credentials: string | undefined; readonly allowed: (variable: string) => boolean },
): TokenEntry => {
  const where = `tokens[${at}]`;
  const row = reader.object(value, where, TOKEN_FIELDS);
  const seconds = (name: keyof typeof SECONDS): number =>
    reader.integer(row[name], `${where}.${name}`, { min: 1, max: 600, absent: SECONDS[name] }) * 1000;
  if (row['label'] !== undefined && row['slotIndex'] !== undefined) {
    reader.wrong(where, 'has a label and a slotIndex; the label is enough');
  }
  const environment = row['environment'] ?? {};
  const names = Object.keys(environment as object);
  const variables = reader.object(environment, `${where}.environment`, names.filter(options.allowed));
  return {
    name: reader.text(row['name'], `${where}.name`, NAME, '1 to 32 of a-z 0-9 -'),
    library: reader.text(row['library'], `${where}.library`, ABSOLUTE, 'an absolute path'),
    label:
      row['label'] === undefined
        ? undefined
        : reader.text(row['label'], `${where}.label`, /^[\x20-\x7e]{1,32}$/, '1 to 32 printable ASCII characters'),
    slotIndex: reader.integer(row['slotIndex'], `${where}.slotIndex`, { min: 0, max: 10_000, absent: 0 }),
    pin: readPinSource(reader, row['pin'], `${where}.pin`, options.credentials),
    sessions: reader.integer(row['sessions'], `${where}.sessions`, { min: 1, max: 256, absent: 10 }),
    sessionTimeoutMs: seconds('sessionTimeoutSeconds'),
    callMs: seconds('callSeconds'),
    startMs: seconds('startSeconds'),
    recoveryMs: seconds('recoverySeconds'),
    disabledMechanisms: reader
      .list(row['disabledMechanisms'] ?? [], `${where}.disabledMechanisms`, { min: 0, max: 1024 })
      .map((name) => reader.text(name, `${where}.disabledMechanisms`, /^CKM_[A-Z0-9_]{1,60}$/, 'CKM_ names')),
    environment: Object.fromEntries(
      Object.entries(variables).map(([name, text]) => [
        name,
        reader.text(text, `${where}.environment.${name.slice(0, 64)}`, /^[^\0]{0,4096}$/, 'text'),
      ]),
    ),
    tenants: readTenants(reader, row['tenants'], `${where}.tenants`),
    certificate: readCertificate(reader, row['certificate'], `${where}.certificate`),
  };
};

const twice = (values: readonly string[]): string[] => [...new Set(values.filter((v, at) => values.indexOf(v) !== at))];

const checkWhole = (reader: Reader, agent: string, tokens: readonly TokenEntry[]): void => {
  const names = tokens.map(({ name }) => name);
  for (const name of twice(names)) reader.wrong('tokens', `has two tokens called ${name}`);
  if (!names.includes(agent))
    reader.wrong('agent', 'must be the name of a token: it holds the keys of the agent itself');
  const bound = tokens.flatMap(({ tenants }) => (tenants === 'others' ? [] : tenants));
  for (const tenant of twice(bound)) reader.wrong('tokens', `bind the tenant ${tenant} twice`);
  if (tokens.filter(({ tenants }) => tenants === 'others').length > 1) {
    reader.wrong('tokens', 'have "others" twice; one token can take the tenants that no other names');
  }
};

/** Parses the text of the file. Throws TokensFileError. */
export const parseTokensFile = (
  text: string,
  options: {
    readonly credentials: string | undefined;
    /** Is this a variable that a vendor's library may be given? */
    readonly allowed: (variable: string) => boolean;
  },
): TokensFile => {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw new TokensFileError(['it is not JSON']); // the parser's own words would repeat the text
  }
  const reader = new Reader();
  const root = reader.object(json, 'the document', ['schema', 'agent', 'tokens']);
  if (root['schema'] !== TOKENS_SCHEMA) reader.wrong('schema', `must be ${TOKENS_SCHEMA}`);
  const rows = reader.list(root['tokens'], 'tokens', { min: 1, max: MAX_TOKENS });
  const tokens = rows.map((row, at) => readToken(reader, row, at, options));
  const agent = reader.text(root['agent'], 'agent', NAME, '1 to 32 of a-z 0-9 -');
  if (reader.problems.length === 0) checkWhole(reader, agent, tokens);
  if (reader.problems.length > 0) throw new TokensFileError(reader.problems);
  return { agent, tokens };
};

/** Reads the file; it names libraries to load and programs to run, so nobody else may write it. Throws TokensFileError. */
export const readTokensFile = (path: string, options: Parameters<typeof parseTokensFile>[1]): TokensFile => {
  let descriptor: number;
  try {
    descriptor = openSync(path, 'r');
  } catch (cause) {
    throw new TokensFileError([`it cannot be read (${(cause as NodeJS.ErrnoException).code})`]);
  }
  try {
    const { uid, mode, size } = fstatSync(descriptor);
    if (size > MAX_FILE_BYTES) throw new TokensFileError([`it is longer than ${MAX_FILE_BYTES} bytes`]);
    if ((uid !== 0 && uid !== process.getuid?.()) || (mode & OTHERS_WRITE) !== 0) {
      throw new TokensFileError([`it can be written by others than root and the agent's user`]);
    }
    const bytes = Buffer.alloc(MAX_FILE_BYTES);
    const length = readSync(descriptor, bytes, 0, bytes.length, 0);
    return parseTokensFile(bytes.toString('utf8', 0, length), options);
  } finally {
    closeSync(descriptor);
  }
};
