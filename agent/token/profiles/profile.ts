// What is peculiar about each vendor's module, as data: one file a vendor, each rule with where it is known from. What a
// token can do is never read here: self-test proves it. The rules say what to try, what to tell people, and what the
// module of test/hsm/shim imposes on a real token to see whether the agent copes.

/** A rule and where it is known from. `seen here` is what docs/hsm.md's matrix ran; `recalled` is nothing but memory. */
export interface Rule<T> {
  readonly is: T;
  readonly source: string;
  /** Why the module of test/hsm/shim does not impose it; absent where it does. */
  readonly notImposed?: string;
}

/** Who makes the iv of an AES-GCM encryption: the caller; the token, into zeroes that it is given; the token, after the tag. */
export type GcmIv = 'caller' | 'zeroed' | 'appended';

/** `user:password`: of a crypto user; `pass phrase`: of a softcard or card set; `ignored`: any, the login is elsewhere. */
export type PinForm = 'plain' | 'user:password' | 'pass phrase' | 'ignored';

/** A use of a mechanism that the module refuses; without a mechanism, the whole function. */
export interface Refused {
  readonly in: `C_${string}`;
  /** Its number. */
  readonly mechanism?: number;
  readonly ckr: number;
}

/** What of a profile the token process goes by. */
export interface Profile {
  readonly name: string;
  /** Making token objects on two sessions at once fails: the agent asks for one at a time. */
  readonly serialiseObjects: boolean;
  /** What a creation fails with, now and then, when a search runs beside it; it is tried again. */
  readonly creationRace: readonly number[];
  /** CKR_GENERAL_ERROR from C_Decrypt is how it says that a tag or padding is wrong; the session is still good. */
  readonly generalErrorMeansInvalid: boolean;
  /** RSA-OAEP with SHA-256 may go by CKM_RSA_X_509 and our own decoding where the token's own OAEP fails its test. */
  readonly rawRsaForOaep: boolean;
  /** Keys that live for a session can be made, as self-tests want; else they are token objects for a moment. */
  readonly sessionObjects: boolean;
  /** Templates may name only what a key is for: the module refuses an attribute of a use that is false. */
  readonly namesUsesOnly: boolean;
  /** Notes for people, shown by doctor. */
  readonly notes: readonly string[];
  /** Rules of who makes the iv, in the order in which they are tried; of 128 bits, `appended` serves no JOSE algorithm. */
  readonly gcmIv: Rule<readonly GcmIv[]>;
  /** CKM_ names with which C_WrapKey wraps keys, where anything is known of it; others are not tried. */
  readonly wraps: Rule<readonly string[]>;
}

export interface VendorProfile extends Profile {
  readonly title: string;
  /** CK_INFO manufacturerID, and the file name of the library, either of which tells that it is this one. */
  readonly manufacturer: Rule<RegExp>;
  readonly fileName: RegExp;
  readonly libraries: Rule<readonly string[]>;
  /** Of the client: variables that point to its configuration, and files that are to be there. */
  readonly client: Rule<{ readonly variables: readonly string[]; readonly files: readonly string[] }>;
  readonly pin: Rule<PinForm>;
  /** Of the iv that the token makes; 12 where it does not say. */
  readonly ivBytes?: number;
  readonly refuses: Rule<readonly Refused[]>;
  readonly sessions: Rule<{
    readonly readOnly: 'given' | 'refused';
    readonly login: 'once' | 'optional' | 'none on accelerator slots';
  }>;
  readonly failover: Rule<string>;
  /** CKR values that tell of a lost connection, and what brings it back. */
  readonly loss: Rule<{ readonly codes: readonly number[]; readonly recovers: 'new session' | 'initialise' }>;
}

/** Why a rule is not imposed: the shim is a module, and this is of the machine around it, which doctor looks at. */
export const A_PLACE = 'of the machine, not of the module';
/** Half of the objects missing for a while is in the fault campaign instead. */
export const IN_WORDS = 'words for people';
/** There is nobody whose service could come back. */
export const NO_AGENT = 'no agent starts on it';

const NOT_KNOWN = 'nothing is known of it';

/** What a module is taken for that no profile names: careful, and ready to try everything. */
export const GENERIC: VendorProfile = {
  name: 'generic',
  title: 'any PKCS#11 module',
  manufacturer: { is: /(?!)/, source: NOT_KNOWN },
  fileName: /(?!)/,
  libraries: { is: [], source: NOT_KNOWN, notImposed: A_PLACE },
  client: { is: { variables: [], files: [] }, source: NOT_KNOWN, notImposed: A_PLACE },
  pin: { is: 'plain', source: 'PKCS #11 2.40 section 5.6, C_Login' },
  gcmIv: {
    is: ['caller', 'zeroed', 'appended'],
    source: 'PKCS #11 2.40 errata 01, CK_GCM_PARAMS; the others as vendors do',
  },
  wraps: { is: [], source: NOT_KNOWN },
  refuses: { is: [], source: NOT_KNOWN },
  sessions: {
    is: { readOnly: 'given', login: 'once' },
    source: 'PKCS #11 2.40 section 5.6, C_OpenSession and C_Login',
  },
  failover: { is: NOT_KNOWN, source: NOT_KNOWN, notImposed: IN_WORDS },
  loss: {
    is: { codes: [0x30, 0x32, 0xb0, 0xb3, 0xe0, 0x101, 0x190], recovers: 'initialise' },
    source: 'PKCS #11 2.40 section 5.1',
  },
  serialiseObjects: true,
  creationRace: [],
  generalErrorMeansInvalid: false,
  rawRsaForOaep: true,
  sessionObjects: true,
  namesUsesOnly: false,
  notes: [],
};
