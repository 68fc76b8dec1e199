// Why a token process did not come up, and what an operator has to do about it. The words carry no secret.

export const START_REASONS = {
  'library-missing': 'check PKCS11_LIBRARY_PATH and install the PKCS#11 library of the token',
  'library-invalid': 'PKCS11_LIBRARY_PATH must name a PKCS#11 library for this machine',
  'library-failed': "check the library's own configuration (for SoftHSM the file that SOFTHSM2_CONF names)",
  'second-node':
    'run "npm run setup", which takes Debian\'s libnode out of the addons, or build them with the node-gyp of npm',
  'token-missing': 'check PKCS11_TOKEN_LABEL, and that the token is initialised and visible to this user',
  'token-ambiguous': 'several tokens bear this label; give one of them another or select it by PKCS11_SLOT_INDEX',
  'slot-missing': 'check PKCS11_SLOT_INDEX, or set PKCS11_TOKEN_LABEL, which survives re-ordering of slots',
  'pin-unavailable':
    'check PKCS11_PIN_FILE (or the command): it must exist, be readable by this user only, and hold the user PIN',
  'pin-form': 'put the PIN into PKCS11_PIN_FILE in the form that the module wants; it has not been tried',
  'pin-refused': 'put the right user PIN into PKCS11_PIN_FILE; it is not tried again until then',
  'pin-locked': 'the token has locked the user PIN; its security officer has to set it anew',
  'token-failed': 'the token failed while it was opened; see the cause, and try its own tool',
  'timed-out': 'the library did not answer; check the connection to the token',
  exited: 'the token process ended before it was ready; see the lines it wrote',
  stopped: 'the agent is stopping',
} as const;

export type StartReason = keyof typeof START_REASONS;

export const isStartReason = (value: unknown): value is StartReason =>
  typeof value === 'string' && Object.hasOwn(START_REASONS, value);

const FOR_A_PERSON: readonly StartReason[] = [
  'library-missing',
  'library-invalid',
  'second-node',
  'token-ambiguous',
  'pin-unavailable',
  'pin-form',
  'pin-refused',
  'pin-locked',
];

/** Nothing changes until somebody does something: there is no hurry to try again. */
export const needsPerson = (reason: StartReason): boolean => FOR_A_PERSON.includes(reason);

/** The library is well, the token is not there: the same process may look again, which costs no more than a call. */
export const isAbsence = (reason: StartReason): boolean =>
  reason === 'token-missing' || reason === 'slot-missing' || reason === 'token-failed';

/** These need a person; trying again by itself would lock the token. */
export const locksOut = (reason: StartReason): boolean => reason === 'pin-refused' || reason === 'pin-locked';

export class TokenStartError extends Error {
  override readonly name = 'TokenStartError';
  readonly reason: StartReason;
  /** What to do. */
  readonly advice: string;
  constructor(reason: StartReason, detail: string, cause?: unknown) {
    super(`${detail}; ${START_REASONS[reason]}`, cause === undefined ? undefined : { cause });
    this.reason = reason;
    this.advice = START_REASONS[reason];
  }
}
