// How settings are read from environment variables: kinds of value, and one pass that finds all that is wrong.
// Invariant: a complaint never repeats a value, which may be a secret in the wrong place.
import { hostname } from 'node:os';
import { type CleanedEnv, customCleanEnv, makeValidator, type ValidatorSpec } from 'envalid';

interface Bounds {
  readonly min: number;
  readonly max: number;
}

/** A whole number of plain digits. */
export const integer = ({ min, max }: Bounds) =>
  makeValidator<number>((input) => {
    const value = /^\d{1,15}$/.test(input) ? Number(input) : Number.NaN;
    if (!(value >= min && value <= max)) throw new TypeError(`must be a whole number from ${min} to ${max}`);
    return value;
  });

/** Like envalid's bool, but its complaint does not repeat the value, which may be anything put in the wrong place. */
export const flag = makeValidator<boolean>((input) => {
  const word = input.toLowerCase();
  if (['true', 'yes', 'on', '1'].includes(word)) return true;
  if (['false', 'no', 'off', '0'].includes(word)) return false;
  throw new TypeError('must be yes or no');
});

export const matching = (pattern: RegExp, rule: string) =>
  makeValidator<string>((input) => {
    if (!pattern.test(input)) throw new TypeError(rule);
    return input;
  });

export const ABSOLUTE_PATH = matching(/^\/[^\0]{0,4095}$/, 'must be an absolute path');

/** What systemd sets for every service. */
export const SYSTEMD = {
  CREDENTIALS_DIRECTORY: ABSOLUTE_PATH({
    default: undefined,
    example: 'set by systemd',
    desc: 'Folder of systemd credentials (LoadCredential=). Set by systemd.',
  }),
  WATCHDOG_USEC: integer({ min: 1, max: 1e12 })({
    default: undefined,
    example: 'set by systemd',
    desc: 'After how many microseconds of silence systemd starts the service anew (WatchdogSec=). Set by systemd.',
  }),
  WATCHDOG_PID: integer({ min: 1, max: 2 ** 31 })({
    default: undefined,
    example: 'set by systemd',
    desc: 'Process that WATCHDOG_USEC is for. Set by systemd.',
  }),
  NOTIFY_SOCKET: matching(
    /^[/@][^\0]{1,106}$/,
    'must be a path, or @ and a name',
  )({ default: undefined, example: 'set by systemd', desc: 'Where readiness is told (Type=notify). Set by systemd.' }),
};

export type Specs = Readonly<Record<string, ValidatorSpec<unknown>>>;
export type Settings<Table> = Omit<CleanedEnv<Table>, `is${string}`>;

export interface Variable<Name extends string = string> {
  readonly name: Name;
  /** As text; undefined where the variable has none. */
  readonly default: string | undefined;
  readonly example: string | undefined;
  readonly choices: readonly string[] | undefined;
  readonly description: string;
}

/** A table as data, for --help, --check and the document's test. */
export const variablesOf = <Table extends Specs>(specs: Table): readonly Variable<keyof Table & string>[] =>
  Object.entries(specs).map(([name, spec]) => ({
    name,
    default: spec.default === undefined ? undefined : String(spec.default),
    example: spec.example,
    choices: spec.choices?.map(String),
    description: spec.desc ?? '',
  }));

export interface Problem {
  readonly variable: string;
  readonly problem: string;
  readonly remedy: string;
}

/** All problems come back at once. `ours`: names that should be known, since nobody else sets them. */
export const readSettings = <Table extends Specs>(
  specs: Table,
  raw: Readonly<Record<string, string | undefined>>,
  ours: RegExp,
): {
  readonly environment: Settings<Table>;
  readonly problems: readonly Problem[];
  readonly unknown: readonly string[];
} => {
  // An empty variable means "not set": systemd, Compose and Helm cannot unset what a file sets.
  const given = Object.fromEntries(Object.entries(raw).filter(([, value]) => value !== undefined && value !== ''));
  const problems: Problem[] = [];
  const environment = customCleanEnv(given, specs, (cleaned) => cleaned as Settings<Table>, {
    reporter: ({ errors }) => {
      for (const [variable, error] of Object.entries(errors) as [keyof Table & string, Error][]) {
        const { example, choices, default: fallback } = specs[variable] as ValidatorSpec<unknown>;
        const problem = choices === undefined ? error.message : `must be one of ${choices.join(', ')}`;
        problems.push({ variable, problem, remedy: `set ${variable} to, for example, ${fallback ?? example}` });
      }
    },
  });
  const unknown = Object.keys(given).filter((name) => ours.test(name) && !(name in specs));
  return { environment, problems, unknown };
};

/** The machine's name as an id of at most 63 of A-Z a-z 0-9 . _ -: what is not allowed becomes "-". */
export const machineName = (otherwise: string): string =>
  hostname()
    .replace(/[^A-Za-z0-9._-]/g, '-')
    .replace(/^[^A-Za-z0-9]+/, '')
    .slice(0, 63) || otherwise;
