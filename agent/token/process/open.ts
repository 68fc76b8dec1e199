// From a library path to a logged-in token: load, initialise, find the token, log in once, test what it can do. Every
// failure becomes a reason with words for an operator. Invariant: a PIN is wiped once it was tried, and tried once.
import { createHash } from 'node:crypto';
import { statSync } from 'node:fs';
import type { Ability } from '../abilities.ts';
import { CKR, refusesPin } from '../ckr.ts';
import type { GcmIv, Profile, VendorProfile } from '../profiles/profile.ts';
import { NSS } from '../profiles/software.ts';
import { profileOf } from '../profiles/vendors.ts';
import { TokenStartError } from '../start-error.ts';
import { type Ready, type StartConfig, shortened } from '../start-message.ts';
import type { Handle } from './arguments.ts';
import { logIn } from './login.ts';
import { mechanismName, mechanismNumber } from './mechanisms.ts';
import { Pkcs11Failure, Pkcs11Module, type TokenInfo } from './module.ts';
import { requireOneNode } from './one-node.ts';
import { testAbilities } from './self-test.ts';
import { type RsaResult, testRsa } from './self-test-rsa.ts';

const CACHE_FORMAT = 2; // changes when testRsa asks for more

export interface OpenToken {
  readonly module: Pkcs11Module;
  readonly slot: Handle;
  /** Keeps the login alive: the token forgets it when an application's last session closes. */
  readonly loginSession: Handle;
  readonly profile: Profile;
  readonly oaep: 'native' | 'raw';
  readonly gcmIv: GcmIv;
  readonly kwp: string;
  readonly ready: Ready;
}

const messageOf = (thrown: unknown): string => shortened(thrown instanceof Error ? thrown.message : String(thrown));

export const withheldNumbers = (names: readonly string[]): ReadonlySet<number> =>
  new Set(
    names.map((name) => {
      const number = mechanismNumber(name);
      if (number === undefined) {
        throw new TokenStartError('library-failed', `PKCS11_DISABLED_MECHANISMS: no mechanism is called ${name}`);
      }
      return number;
    }),
  );

const load = (config: StartConfig): Pkcs11Module => {
  if (statSync(config.library, { throwIfNoEntry: false })?.isFile() !== true) {
    throw new TokenStartError('library-missing', `there is no file ${config.library}`);
  }
  const withheld = withheldNumbers(config.disabledMechanisms);
  let module: Pkcs11Module;
  try {
    module = new Pkcs11Module({ path: config.library, withheld });
  } catch (thrown) {
    throw new TokenStartError('library-invalid', `${config.library} cannot be loaded: ${messageOf(thrown)}`);
  }
  requireOneNode(); // all addons are loaded by now
  return module;
};

/** NSS reads NSS_LIB_PARAMS by itself in later versions only; in all of them it takes the same text as an argument. */
const parametersOf = (library: string): string | undefined =>
  profileOf('', library).name === NSS.name ? process.env['NSS_LIB_PARAMS'] : undefined;

const labelled = (module: Pkcs11Module): { slot: Handle; info: TokenInfo }[] =>
  module.slots().flatMap((slot) => {
    try {
      return [{ slot, info: module.tokenInfo(slot) }];
    } catch (thrown) {
      if (thrown instanceof Pkcs11Failure) return []; // a slot without a usable token is none of ours
      throw thrown;
    }
  });

const findToken = (module: Pkcs11Module, config: StartConfig): { slot: Handle; info: TokenInfo } => {
  const tokens = labelled(module);
  const seen = tokens.map(({ info }) => JSON.stringify(info.label)).join(', ') || 'none';
  if (config.tokenLabel === undefined) {
    const token = tokens[config.slotIndex];
    if (token !== undefined) return token;
    throw new TokenStartError('slot-missing', `slot index ${config.slotIndex} does not exist; tokens seen: ${seen}`);
  }
  const found = tokens.filter(({ info }) => info.label === config.tokenLabel);
  if (found.length === 1) return found[0] as { slot: Handle; info: TokenInfo };
  const label = JSON.stringify(config.tokenLabel);
  if (found.length > 1) throw new TokenStartError('token-ambiguous', `${found.length} tokens are labelled ${label}`);
  throw new TokenStartError('token-missing', `no token is labelled ${label}; tokens seen: ${seen}`);
};

const COLON = 0x3a;

/** Some modules lock a user after a few logins that failed: a PIN that cannot be right is not tried. */
const checkForm = (pin: Buffer, { pin: form, title }: VendorProfile): void => {
  if (form.is !== 'user:password' || pin.includes(COLON, 1)) return;
  throw new TokenStartError('pin-form', `${title} wants a PIN of the form user:password`);
};

const isLoggedIn = (module: Pkcs11Module, session: Handle): boolean => {
  try {
    return module.isLoggedIn(session);
  } catch (thrown) {
    if (thrown instanceof Pkcs11Failure) return false; // the session is gone, and the login with it
    throw thrown;
  }
};

const tryPin = (module: Pkcs11Module, config: StartConfig, session: Handle, pin: Buffer): void => {
  try {
    if (logIn(module, config.library, session, pin) === 'already' && !isLoggedIn(module, session)) {
      throw new TokenStartError('token-failed', 'C_Login says that the user is logged in already, which is not so');
    }
  } catch (thrown) {
    if (!(thrown instanceof Pkcs11Failure) || !refusesPin(thrown.ckr)) throw thrown;
    const reason = thrown.ckr === CKR.PIN_LOCKED ? 'pin-locked' : 'pin-refused';
    throw new TokenStartError(reason, `the token refused the login (${thrown.message})`);
  }
};

/** The cache holds for one build of one library with one set of mechanisms on one kind of token. */
const fingerprint = (config: StartConfig, parts: readonly unknown[]): string => {
  const { size, mtimeMs } = statSync(config.library);
  const all = [CACHE_FORMAT, process.version, config.library, size, mtimeMs, config.disabledMechanisms, ...parts];
  return createHash('sha256').update(JSON.stringify(all)).digest('hex');
};

const cachedRsa = (cache: string | undefined, print: string): RsaResult | undefined => {
  if (cache === undefined) return undefined;
  try {
    const value = JSON.parse(cache) as { fingerprint?: unknown; oaep?: unknown; abilities?: unknown };
    const { oaep, abilities } = value;
    if (value.fingerprint !== print || (oaep !== 'native' && oaep !== 'raw') || !Array.isArray(abilities))
      return undefined;
    return { oaep, abilities: abilities as Ability[] };
  } catch {
    return undefined; // a damaged cache is no cache
  }
};

/** Whatever happens becomes a TokenStartError. */
const translated = <T>(run: () => T): T => {
  try {
    return run();
  } catch (thrown) {
    if (thrown instanceof TokenStartError) throw thrown;
    throw new TokenStartError('token-failed', messageOf(thrown), thrown);
  }
};

/** A token with an open session on which nobody is logged in. */
export interface FoundToken {
  readonly module: Pkcs11Module;
  readonly config: StartConfig;
  readonly library: ReturnType<Pkcs11Module['libraryVersion']>;
  readonly slot: Handle;
  readonly info: TokenInfo;
  readonly known: VendorProfile;
  readonly session: Handle;
}

/** The library of this process, which is loaded once and initialised anew for each look. */
export class TokenFinder {
  #module: Pkcs11Module | undefined;

  /** Throws TokenStartError; then it may be asked again, for the token may be back. */
  find(config: StartConfig): FoundToken {
    return translated(() => {
      if (this.#module !== undefined) this.#finalize(this.#module);
      this.#module ??= load(config);
      const module = this.#module;
      try {
        module.initialize(parametersOf(config.library));
      } catch (thrown) {
        throw new TokenStartError('library-failed', `the library does not initialise (${messageOf(thrown)})`);
      }
      const library = module.libraryVersion();
      const token = findToken(module, config);
      const known = profileOf(library.manufacturer, config.library);
      return { module, config, library, known, ...token, session: module.openSession(token.slot) };
    });
  }

  /** Libraries see what came back only when they are initialised anew. */
  #finalize(module: Pkcs11Module): void {
    try {
      module.finalize();
    } catch (thrown) {
      if (!(thrown instanceof Pkcs11Failure)) throw thrown; // C_Initialize will tell whether it matters
    }
  }
}

/** Takes and wipes the PIN. Throws TokenStartError, after which the process has to go. */
export const openToken = (found: FoundToken, pin: Buffer): OpenToken => {
  const { module, config, library, slot, info, known, session } = found;
  try {
    return translated(() => {
      checkForm(pin, known);
      tryPin(module, config, session, pin);
      const test = { session: { module, handle: session }, slot, profile: known };
      const print = fingerprint(config, [library, info.model, info.manufacturer, info.firmware]);
      const wasLoggedIn = isLoggedIn(module, session);
      const rsa = cachedRsa(config.rsaCache, print) ?? testRsa(test);
      const tested = testAbilities(test);
      // What failed because the token went away is not what it cannot do, and must not be remembered as that.
      if (wasLoggedIn && !isLoggedIn(module, session)) {
        throw new TokenStartError('token-failed', 'the token was lost in its self-test');
      }
      const generalErrorMeansInvalid = known.generalErrorMeansInvalid || tested.generalErrorMeansInvalid;
      const profile = { ...known, generalErrorMeansInvalid };
      const abilities = [...tested.abilities, ...rsa.abilities];
      const { description: libraryDescription, version: libraryVersion } = library;
      return {
        module,
        slot,
        loginSession: session,
        profile,
        oaep: rsa.oaep,
        gcmIv: tested.gcmIv,
        kwp: tested.kwp,
        ready: {
          identity: { ...info, library: config.library, libraryDescription, libraryVersion },
          profile: { name: profile.name, serialiseObjects: profile.serialiseObjects, notes: profile.notes },
          abilities: abilities.map((row) => (row.why === undefined ? row : { ...row, why: shortened(row.why, 500) })),
          rsaCache: JSON.stringify({ fingerprint: print, ...rsa }),
          mechanisms: module.mechanisms(slot).map(mechanismName),
        },
      };
    });
  } finally {
    pin.fill(0);
  }
};
