// The second table of errors: every CKR value of PKCS#11 2.40 to 3.2 → what the caller is told and what becomes of the
// session. A value that is not here is a vendor's: the caller hears HSM_UNAVAILABLE and the session is closed.
import type { Code } from '../errors.ts';

/**
 * keep: the session goes on. close: it is thrown away and a new one opened. login: the login is lost; only a new
 * process logs in again. restart: the library recovers only through C_Finalize, which is the whole process.
 */
export type SessionFate = 'keep' | 'close' | 'login' | 'restart';

export interface CkrRow {
  readonly name: string;
  readonly code: Code;
  readonly session: SessionFate;
}

const ROWS: Readonly<Record<number, readonly [name: string, code: Code, session: SessionFate]>> = {
  1: ['CKR_CANCEL', 'HSM_UNAVAILABLE', 'close'],
  2: ['CKR_HOST_MEMORY', 'HSM_UNAVAILABLE', 'restart'],
  3: ['CKR_SLOT_ID_INVALID', 'HSM_UNAVAILABLE', 'restart'],
  5: ['CKR_GENERAL_ERROR', 'HSM_UNAVAILABLE', 'close'],
  6: ['CKR_FUNCTION_FAILED', 'HSM_UNAVAILABLE', 'close'],
  7: ['CKR_ARGUMENTS_BAD', 'HSM_UNSUPPORTED', 'close'],
  8: ['CKR_NO_EVENT', 'HSM_UNAVAILABLE', 'keep'],
  9: ['CKR_NEED_TO_CREATE_THREADS', 'HSM_UNSUPPORTED', 'restart'],
  10: ['CKR_CANT_LOCK', 'HSM_UNSUPPORTED', 'restart'],
  16: ['CKR_ATTRIBUTE_READ_ONLY', 'HSM_UNSUPPORTED', 'keep'],
  17: ['CKR_ATTRIBUTE_SENSITIVE', 'HSM_UNSUPPORTED', 'keep'],
  18: ['CKR_ATTRIBUTE_TYPE_INVALID', 'HSM_UNSUPPORTED', 'keep'],
  19: ['CKR_ATTRIBUTE_VALUE_INVALID', 'HSM_UNSUPPORTED', 'keep'],
  27: ['CKR_ACTION_PROHIBITED', 'HSM_UNSUPPORTED', 'keep'],
  32: ['CKR_DATA_INVALID', 'INVALID_REQUEST', 'keep'],
  33: ['CKR_DATA_LEN_RANGE', 'INVALID_REQUEST', 'keep'],
  48: ['CKR_DEVICE_ERROR', 'HSM_UNAVAILABLE', 'restart'],
  49: ['CKR_DEVICE_MEMORY', 'HSM_UNAVAILABLE', 'close'],
  50: ['CKR_DEVICE_REMOVED', 'HSM_UNAVAILABLE', 'restart'],
  64: ['CKR_ENCRYPTED_DATA_INVALID', 'INVALID_CIPHERTEXT', 'keep'],
  65: ['CKR_ENCRYPTED_DATA_LEN_RANGE', 'INVALID_CIPHERTEXT', 'keep'],
  66: ['CKR_AEAD_DECRYPT_FAILED', 'INVALID_CIPHERTEXT', 'keep'],
  80: ['CKR_FUNCTION_CANCELED', 'HSM_UNAVAILABLE', 'close'],
  81: ['CKR_FUNCTION_NOT_PARALLEL', 'HSM_UNAVAILABLE', 'close'],
  84: ['CKR_FUNCTION_NOT_SUPPORTED', 'HSM_UNSUPPORTED', 'keep'],
  96: ['CKR_KEY_HANDLE_INVALID', 'HSM_UNAVAILABLE', 'keep'],
  98: ['CKR_KEY_SIZE_RANGE', 'HSM_UNSUPPORTED', 'keep'],
  99: ['CKR_KEY_TYPE_INCONSISTENT', 'HSM_UNSUPPORTED', 'keep'],
  100: ['CKR_KEY_NOT_NEEDED', 'HSM_UNAVAILABLE', 'keep'],
  101: ['CKR_KEY_CHANGED', 'HSM_UNAVAILABLE', 'close'],
  102: ['CKR_KEY_NEEDED', 'HSM_UNAVAILABLE', 'close'],
  103: ['CKR_KEY_INDIGESTIBLE', 'HSM_UNSUPPORTED', 'keep'],
  104: ['CKR_KEY_FUNCTION_NOT_PERMITTED', 'HSM_UNSUPPORTED', 'keep'],
  105: ['CKR_KEY_NOT_WRAPPABLE', 'HSM_UNSUPPORTED', 'keep'],
  106: ['CKR_KEY_UNEXTRACTABLE', 'HSM_UNSUPPORTED', 'keep'],
  112: ['CKR_MECHANISM_INVALID', 'HSM_UNSUPPORTED', 'keep'],
  113: ['CKR_MECHANISM_PARAM_INVALID', 'HSM_UNSUPPORTED', 'keep'],
  130: ['CKR_OBJECT_HANDLE_INVALID', 'HSM_UNAVAILABLE', 'keep'],
  144: ['CKR_OPERATION_ACTIVE', 'HSM_UNAVAILABLE', 'close'],
  145: ['CKR_OPERATION_NOT_INITIALIZED', 'HSM_UNAVAILABLE', 'close'],
  160: ['CKR_PIN_INCORRECT', 'HSM_UNAVAILABLE', 'close'],
  161: ['CKR_PIN_INVALID', 'HSM_UNAVAILABLE', 'close'],
  162: ['CKR_PIN_LEN_RANGE', 'HSM_UNAVAILABLE', 'close'],
  163: ['CKR_PIN_EXPIRED', 'HSM_UNAVAILABLE', 'close'],
  164: ['CKR_PIN_LOCKED', 'HSM_UNAVAILABLE', 'close'],
  176: ['CKR_SESSION_CLOSED', 'HSM_UNAVAILABLE', 'close'],
  177: ['CKR_SESSION_COUNT', 'HSM_BUSY', 'close'],
  179: ['CKR_SESSION_HANDLE_INVALID', 'HSM_UNAVAILABLE', 'close'],
  180: ['CKR_SESSION_PARALLEL_NOT_SUPPORTED', 'HSM_UNSUPPORTED', 'close'],
  181: ['CKR_SESSION_READ_ONLY', 'HSM_UNSUPPORTED', 'close'],
  182: ['CKR_SESSION_EXISTS', 'HSM_UNAVAILABLE', 'close'],
  183: ['CKR_SESSION_READ_ONLY_EXISTS', 'HSM_UNAVAILABLE', 'close'],
  184: ['CKR_SESSION_READ_WRITE_SO_EXISTS', 'HSM_UNAVAILABLE', 'close'],
  192: ['CKR_SIGNATURE_INVALID', 'INVALID_REQUEST', 'keep'],
  193: ['CKR_SIGNATURE_LEN_RANGE', 'INVALID_REQUEST', 'keep'],
  208: ['CKR_TEMPLATE_INCOMPLETE', 'HSM_UNSUPPORTED', 'keep'],
  209: ['CKR_TEMPLATE_INCONSISTENT', 'HSM_UNSUPPORTED', 'keep'],
  224: ['CKR_TOKEN_NOT_PRESENT', 'HSM_UNAVAILABLE', 'restart'],
  225: ['CKR_TOKEN_NOT_RECOGNIZED', 'HSM_UNAVAILABLE', 'restart'],
  226: ['CKR_TOKEN_WRITE_PROTECTED', 'HSM_UNSUPPORTED', 'keep'],
  240: ['CKR_UNWRAPPING_KEY_HANDLE_INVALID', 'HSM_UNAVAILABLE', 'keep'],
  241: ['CKR_UNWRAPPING_KEY_SIZE_RANGE', 'HSM_UNSUPPORTED', 'keep'],
  242: ['CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT', 'HSM_UNSUPPORTED', 'keep'],
  256: ['CKR_USER_ALREADY_LOGGED_IN', 'HSM_UNAVAILABLE', 'keep'],
  257: ['CKR_USER_NOT_LOGGED_IN', 'HSM_UNAVAILABLE', 'login'],
  258: ['CKR_USER_PIN_NOT_INITIALIZED', 'HSM_UNAVAILABLE', 'close'],
  259: ['CKR_USER_TYPE_INVALID', 'HSM_UNAVAILABLE', 'close'],
  260: ['CKR_USER_ANOTHER_ALREADY_LOGGED_IN', 'HSM_UNAVAILABLE', 'login'],
  261: ['CKR_USER_TOO_MANY_TYPES', 'HSM_UNAVAILABLE', 'login'],
  272: ['CKR_WRAPPED_KEY_INVALID', 'INVALID_CIPHERTEXT', 'keep'],
  274: ['CKR_WRAPPED_KEY_LEN_RANGE', 'INVALID_CIPHERTEXT', 'keep'],
  275: ['CKR_WRAPPING_KEY_HANDLE_INVALID', 'HSM_UNAVAILABLE', 'keep'],
  276: ['CKR_WRAPPING_KEY_SIZE_RANGE', 'HSM_UNSUPPORTED', 'keep'],
  277: ['CKR_WRAPPING_KEY_TYPE_INCONSISTENT', 'HSM_UNSUPPORTED', 'keep'],
  288: ['CKR_RANDOM_SEED_NOT_SUPPORTED', 'HSM_UNSUPPORTED', 'keep'],
  289: ['CKR_RANDOM_NO_RNG', 'HSM_UNSUPPORTED', 'keep'],
  304: ['CKR_DOMAIN_PARAMS_INVALID', 'HSM_UNSUPPORTED', 'keep'],
  320: ['CKR_CURVE_NOT_SUPPORTED', 'HSM_UNSUPPORTED', 'keep'],
  336: ['CKR_BUFFER_TOO_SMALL', 'HSM_UNAVAILABLE', 'close'], // SoftHSM leaves the operation active
  352: ['CKR_SAVED_STATE_INVALID', 'HSM_UNAVAILABLE', 'close'],
  368: ['CKR_INFORMATION_SENSITIVE', 'HSM_UNSUPPORTED', 'keep'],
  384: ['CKR_STATE_UNSAVEABLE', 'HSM_UNAVAILABLE', 'close'],
  400: ['CKR_CRYPTOKI_NOT_INITIALIZED', 'HSM_UNAVAILABLE', 'restart'],
  401: ['CKR_CRYPTOKI_ALREADY_INITIALIZED', 'HSM_UNAVAILABLE', 'keep'],
  416: ['CKR_MUTEX_BAD', 'HSM_UNAVAILABLE', 'restart'],
  417: ['CKR_MUTEX_NOT_LOCKED', 'HSM_UNAVAILABLE', 'restart'],
  432: ['CKR_NEW_PIN_MODE', 'HSM_UNAVAILABLE', 'close'],
  433: ['CKR_NEXT_OTP', 'HSM_UNAVAILABLE', 'close'],
  437: ['CKR_EXCEEDED_MAX_ITERATIONS', 'HSM_UNAVAILABLE', 'keep'],
  438: ['CKR_FIPS_SELF_TEST_FAILED', 'HSM_UNAVAILABLE', 'restart'],
  439: ['CKR_LIBRARY_LOAD_FAILED', 'HSM_UNAVAILABLE', 'restart'],
  440: ['CKR_PIN_TOO_WEAK', 'HSM_UNAVAILABLE', 'close'],
  441: ['CKR_PUBLIC_KEY_INVALID', 'INVALID_CIPHERTEXT', 'keep'],
  512: ['CKR_FUNCTION_REJECTED', 'HSM_UNSUPPORTED', 'keep'],
  513: ['CKR_TOKEN_RESOURCE_EXCEEDED', 'HSM_BUSY', 'close'],
  514: ['CKR_OPERATION_CANCEL_FAILED', 'HSM_UNAVAILABLE', 'close'],
  515: ['CKR_KEY_EXHAUSTED', 'HSM_UNSUPPORTED', 'keep'],
  516: ['CKR_PENDING', 'HSM_UNAVAILABLE', 'close'],
  517: ['CKR_SESSION_ASYNC_NOT_SUPPORTED', 'HSM_UNAVAILABLE', 'close'],
  518: ['CKR_SEED_RANDOM_REQUIRED', 'HSM_UNAVAILABLE', 'close'],
  519: ['CKR_OPERATION_NOT_VALIDATED', 'HSM_UNSUPPORTED', 'keep'],
  520: ['CKR_TOKEN_NOT_INITIALIZED', 'HSM_UNAVAILABLE', 'restart'],
  521: ['CKR_PARAMETER_SET_NOT_SUPPORTED', 'HSM_UNSUPPORTED', 'keep'],
};

export const CKR_VALUES: readonly number[] = Object.keys(ROWS).map(Number);

/** The row of a CKR value; defined for every number. */
export const ckrRow = (value: number): CkrRow => {
  const row = ROWS[value];
  if (row === undefined) return { name: `CKR 0x${value.toString(16)}`, code: 'HSM_UNAVAILABLE', session: 'close' };
  return { name: row[0], code: row[1], session: row[2] };
};

/** The functions that judge what a caller gave; of another, such a value tells of a token that is not well. */
const JUDGES: Readonly<Partial<Record<Code, RegExp>>> = {
  INVALID_CIPHERTEXT: /^C_(Decrypt|UnwrapKey|DeriveKey|DecapsulateKey)$/,
  INVALID_REQUEST: /^C_(Sign|Encrypt|Decrypt)$/,
};

/** What the caller is told of a value that this function returned. */
export const codeOf = (value: number, method: string): Code => {
  const { code } = ckrRow(value);
  return JUDGES[code]?.test(method) === false ? 'HSM_UNAVAILABLE' : code;
};

export const CKR = {
  GENERAL_ERROR: 0x005,
  FUNCTION_NOT_SUPPORTED: 0x054,
  KEY_HANDLE_INVALID: 0x060,
  OBJECT_HANDLE_INVALID: 0x082,
  MECHANISM_INVALID: 0x070,
  SESSION_CLOSED: 0x0b0,
  SESSION_HANDLE_INVALID: 0x0b3,
  PIN_LOCKED: 0x0a4,
  USER_ALREADY_LOGGED_IN: 0x100,
  USER_NOT_LOGGED_IN: 0x101,
} as const;

/**
 * C_Login failures that say nothing about the PIN. After any other, known or a vendor's, the PIN counts as refused:
 * a token that counts attempts must never see it twice (three bad PINs lock a TPM).
 */
const LOGIN_NOT_JUDGED: ReadonlySet<number> = new Set([
  0x002, 0x003, 0x005, 0x006, 0x030, 0x031, 0x032, 0x0b0, 0x0b1, 0x0b3, 0x0e0, 0x0e1, 0x190,
]);

export const refusesPin = (ckr: number): boolean => !LOGIN_NOT_JUDGED.has(ckr);
