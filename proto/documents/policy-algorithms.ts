// Readers of the parts of a policy that name algorithms. Forbidden algorithms are refused by name wherever they would
// be allowed; a name that no row of the table knows is refused, since it would silently mean nothing.
import { ALGORITHMS, algorithm, forbiddenAlgorithm, JOSE_NAMES, type Purpose } from './algorithms.ts';
import { invalidValue, list, object, oneOf, optional, type Read, record, utcTime } from './fields.ts';
import { OPERATION_NAMES, type OperationName, operation } from './operations.ts';
import { PolicyError } from './policy-error.ts';
import type { Sunset } from './policy-types.ts';

/** Operations for which a caller's public key can stand in place of a key of the catalogue. */
const WITH_CALLERS_KEY: Readonly<Partial<Record<OperationName, Purpose>>> = {
  'encrypt-to': 'encrypt',
  'encrypt-general': 'encrypt',
  'verify-with': 'sign',
};

/** The purpose whose algorithms an operation uses; undefined where it may be any, or none. */
export const purposeOf = (name: OperationName): Purpose | undefined =>
  WITH_CALLERS_KEY[name] ?? operation(name).purpose;

/** Operations whose algorithms a policy may list. An empty list refuses the operation. */
export const GOVERNED_OPERATIONS: readonly OperationName[] = OPERATION_NAMES.filter(
  (name) =>
    ['apply', 'process'].includes(operation(name).kind) ||
    ['create-key', 'rotate-key', 'get-import-key', 'import-key'].includes(name),
);

/** An algorithm id or a JOSE name. A deny list may name forbidden algorithms: it repeats what holds anyway. */
const algorithmName =
  (mayBeForbidden: boolean): Read<string> =>
  (value, path) => {
    if (typeof value !== 'string') throw invalidValue(path, value, 'an algorithm id or a JOSE algorithm name');
    const refused = forbiddenAlgorithm(value);
    if (refused !== undefined && !mayBeForbidden)
      throw new PolicyError('ALGORITHM_FORBIDDEN', path, `${refused.id} is forbidden: ${refused.reason}`);
    if (refused?.id === value || JOSE_NAMES.has(value) || algorithm(value) !== undefined) return value;
    throw new PolicyError('ALGORITHM_UNKNOWN', path, `${JSON.stringify(value.slice(0, 60))} is no known algorithm`);
  };

const MAX_ALGORITHMS = 256;
const usable = algorithmName(false);
export const algorithmList = list(usable, { max: MAX_ALGORITHMS });

const sunset: Read<Sunset> = (value, path) => {
  const dates = object<Sunset>({ warnAfter: utcTime, refuseAfter: utcTime })(value, path);
  if (Date.parse(dates.warnAfter) > Date.parse(dates.refuseAfter))
    throw invalidValue(`${path}.warnAfter`, dates.warnAfter, 'a time not after refuseAfter');
  return dates;
};

export const denyAndSunset = {
  deny: optional(list(algorithmName(true), { max: MAX_ALGORITHMS })),
  sunset: optional(record(usable, () => sunset, MAX_ALGORITHMS) as Read<Readonly<Record<string, Sunset>>>),
};

const governed: Read<OperationName> = (value, path) => oneOf(...GOVERNED_OPERATIONS)(value, path);

/** Algorithms that an operation can use at all; one that cannot would silently mean nothing. */
const operationAlgorithms = (name: OperationName): Read<readonly string[]> => {
  const purpose = purposeOf(name);
  if (name === 'generate-random') return list(usable, { max: 0 });
  const serves = (entry: string): boolean =>
    ALGORITHMS.some((row) => {
      const served = Object.entries(row.jose).filter(([key]) => purpose === undefined || key === purpose);
      return served.some(([, names]) => row.id === entry || names.includes(entry));
    });
  const entry: Read<string> = (value, path) => {
    const known = usable(value, path);
    if (!serves(known)) throw invalidValue(path, known, `an algorithm that ${name} can use`);
    return known;
  };
  return list(entry, { max: MAX_ALGORITHMS });
};

export const operationLists = record(governed, operationAlgorithms, GOVERNED_OPERATIONS.length);

const defaultFor =
  (purpose: Purpose): Read<string> =>
  (value, path) => {
    const fitting = ALGORITHMS.filter((row) => row.jose[purpose] !== undefined).map((row) => row.id);
    const id = usable(value, path);
    if (!fitting.includes(id)) throw invalidValue(path, id, `an algorithm id for "${purpose}": ${fitting.join(', ')}`);
    return id;
  };

export const defaultAlgorithms = object<Partial<Record<Purpose, string>>>({
  encrypt: optional(defaultFor('encrypt')),
  sign: optional(defaultFor('sign')),
  mac: optional(defaultFor('mac')),
});
