// The token: can it be reached and logged in to, what can it do, and what not. One login, and only with a PIN file that
// the agent itself would take.

import { tokenOptions } from '../assembly/token-opening.ts';
import type { Config } from '../config/config.ts';
import { checkPin, describePin, type PinSource, readPin } from '../config/pin-source.ts';
import { SecretError } from '../config/secret-file.ts';
import { inspectToken } from '../token/inspect.ts';
import { profileOf } from '../token/profiles/vendors.ts';
import { type Check, fail, ok, warn } from './check.ts';
import { vendorChecks } from './vendor-checks.ts';

const checkPinSource = async (source: PinSource): Promise<Check> => {
  try {
    await checkPin(source);
    const { kind } = source;
    return ok(
      'pin',
      `${describePin(source)} can be ${kind === 'file' ? 'read, by nobody else' : 'run, and changed by nobody else'}`,
    );
  } catch (error) {
    if (!(error instanceof SecretError)) throw error;
    return fail('pin', error.message, error.remedy);
  }
};

/** What the agent cannot do without, beside a way to wrap keys and one to sign checkpoints. */
const NEEDED = ['hmac-sha256', 'generate-hmac-sha256', 'random'];

const ANOTHER_TOKEN = 'the agent needs it for its own keys; use another token';

/** What most tokens lack, and keys do without: the token wraps them. */
const OF_PQC = /^(generate-)?ml-(dsa|kem)-/;

interface AbilityRow {
  readonly name: string;
  readonly ok: boolean;
  readonly why?: string;
}

/** One line for each reason. */
const wrapChecks = (rows: readonly AbilityRow[]): Check[] =>
  [...Map.groupBy(rows, ({ why }) => why ?? 'not offered')].map(([why, alike]) => {
    const names = alike.map(({ name }) => name).filter((name) => !name.startsWith('generate-'));
    return ok('wraps', `${names.join(', ')}: keys are wrapped by the token and not held in it, for ${why}`);
  });

const reasonOf = ({ name, why }: AbilityRow): string => `${name}: ${why ?? 'not offered'}`;

/** By which scheme, and why not by a better one. */
const wrappingCheck = (wrapping: string): Check =>
  wrapping.startsWith('none: ')
    ? fail('wrapping', `the token can wrap no keys, for want of each of these: ${wrapping.slice(6)}`, ANOTHER_TOKEN)
    : ok('wrapping', `the token wraps keys by ${wrapping}`);

/** Any of them signs the checkpoints of the audit log. */
const SIGNS = ['eddsa', 'ecdsa-p256', 'rsa-pss'];
const checkpointChecks = (lacking: readonly AbilityRow[]): Check[] => {
  const why = SIGNS.map((name) => lacking.find((row) => row.name === name)).map((row) => row && reasonOf(row));
  if (why.includes(undefined)) return [];
  return [fail('checkpoints', `the token signs no checkpoints of the audit log: ${why.join('; ')}`, ANOTHER_TOKEN)];
};

const abilityChecks = (abilities: readonly AbilityRow[], wrapping: string): Check[] => {
  const can = abilities.filter((row) => row.ok).map((row) => row.name);
  const lacking = abilities.filter((row) => !row.ok);
  const cannot = lacking.filter(({ name }) => !OF_PQC.test(name) && !name.startsWith('wrap-'));
  const wrapped = lacking.filter(({ name }) => OF_PQC.test(name));
  return [
    ok('can', can.length === 0 ? 'nothing' : can.join(', ')),
    wrappingCheck(wrapping),
    ...checkpointChecks(lacking),
    ...cannot.map((row) =>
      NEEDED.includes(row.name)
        ? fail('cannot', reasonOf(row), ANOTHER_TOKEN)
        : warn('cannot', reasonOf(row), 'keys of this kind cannot be held in this token'),
    ),
    ...wrapChecks(wrapped),
  ];
};

export const checkToken = async (
  config: Config,
  environment: Readonly<Record<string, string | undefined>>,
): Promise<readonly Check[]> => {
  const { token: entry } = config;
  const { library, pin: source } = entry;
  const pin = await checkPinSource(source);
  if (pin.level === 'fail') return [pin, warn('token', 'not tried without a PIN', 'see above')];
  const options = tokenOptions({ entry, environment, pin: () => readPin(source, { environment }) });
  const found = await inspectToken({ ...options, sessions: 1 });
  const wrote = found.output.map((line) =>
    warn('library', `it wrote: ${line}`, 'see the documentation of the library'),
  );
  if (!found.ok) {
    const { reason, message, advice } = found;
    const around = await vendorChecks({ profile: profileOf('', library), library, reason, environment });
    return [pin, fail('token', message, advice), ...around, ...wrote];
  }
  const { info, abilities, startMs } = found;
  const { manufacturer, model, serial, firmware, libraryDescription, libraryVersion, profile, notes } = info;
  return [
    pin,
    ok('token', `"${info.label}", ${manufacturer} ${model}, serial ${serial}, firmware ${firmware}`),
    ok(
      'library',
      `${library}: ${libraryDescription} ${libraryVersion}, profile ${profile}, ready in ${Math.round(startMs)} ms`,
    ),
    ...notes.map((note) => ok('profile', note)),
    ...abilityChecks(abilities, info.wrapping),
    ...wrote,
  ];
};
