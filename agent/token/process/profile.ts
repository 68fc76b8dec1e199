// What is peculiar about each PKCS#11 module, as data. A module that is not named gets the careful defaults.

export interface Profile {
  readonly name: string;
  /** Making or destroying token objects on two sessions at once fails (SoftHSM issue 573): one at a time. */
  readonly serialiseObjects: boolean;
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
  generalErrorMeansInvalid: false,
  rawRsaForOaep: true,
  notes: [],
};

const SOFTHSM: Profile = {
  name: 'softhsm',
  serialiseObjects: true,
  generalErrorMeansInvalid: true,
  rawRsaForOaep: true,
  notes: [
    'a software token: keys are files, protected by the PIN and the file mode only',
    'RSA-OAEP with SHA-256 is decoded in the token process, because SoftHSM 2.6 offers OAEP with SHA-1 only',
    'object creation is serialised, because concurrent creation fails in SoftHSM',
  ],
};

const BY_MANUFACTURER: readonly (readonly [RegExp, Profile])[] = [[/^SoftHSM/i, SOFTHSM]];

/** The profile of a module by CK_INFO manufacturerID. */
export const profileOf = (manufacturer: string): Profile =>
  BY_MANUFACTURER.find(([pattern]) => pattern.test(manufacturer))?.[1] ?? DEFAULT;
