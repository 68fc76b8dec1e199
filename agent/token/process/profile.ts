// What is peculiar about each PKCS#11 module, as data. A module that is not named gets the careful defaults.

export interface Profile {
  readonly name: string;
  /** Making token objects on two sessions at once fails (SoftHSMv2 issue 573): the agent asks for one at a time. */
  readonly serialiseObjects: boolean;
  /** What a creation fails with, now and then, when a search runs beside it; it is tried again. */
  readonly creationRace: readonly number[];
  /** CKR_GENERAL_ERROR from C_Decrypt is how it says that a tag or padding is wrong; the session is still good. */
  readonly generalErrorMeansInvalid: boolean;
  /** RSA-OAEP with SHA-256 may go by CKM_RSA_X_509 and our own decoding where the token's own OAEP fails its test. */
  readonly rawRsaForOaep: boolean;
  /** Notes for people, shown by doctor. */
  readonly notes: readonly string[];
}

const DEFAULT: Profile = {
  name: 'generic',
  serialiseObjects: true,
  creationRace: [],
  generalErrorMeansInvalid: false,
  rawRsaForOaep: true,
  notes: [],
};

const SOFTHSM: Profile = {
  name: 'softhsm',
  serialiseObjects: true,
  creationRace: [0x005, 0x006, 0x0d1], // GENERAL_ERROR, FUNCTION_FAILED, TEMPLATE_INCONSISTENT; at most 4 in 100
  generalErrorMeansInvalid: true,
  rawRsaForOaep: true,
  notes: [
    'a software token: keys are files, protected by the PIN and the file mode only',
    'RSA-OAEP with SHA-256 is decoded in the token process, because SoftHSM 2.6 offers OAEP with SHA-1 only',
    'objects are made one at a time and a failed creation is tried again, because SoftHSM fails beside others',
  ],
};

const BY_MANUFACTURER: readonly (readonly [RegExp, Profile])[] = [[/^SoftHSM/i, SOFTHSM]];

/** The profile of a module by CK_INFO manufacturerID. */
export const profileOf = (manufacturer: string): Profile =>
  BY_MANUFACTURER.find(([pattern]) => pattern.test(manufacturer))?.[1] ?? DEFAULT;
