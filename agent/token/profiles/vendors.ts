// The profiles there are, and which one a module has.
import { CLOUDHSM, GOOGLE_CLOUD } from './clouds.ts';
import { AZURE_CLOUD, AZURE_DEDICATED, LUNA, LUNA_FIPS, LUNA_FIPS_BEFORE_7_9_3 } from './luna.ts';
import { NSHIELD } from './nshield.ts';
import { GENERIC, type VendorProfile } from './profile.ts';
import { NSS, OPENCRYPTOKI, SOFTHSM, TPM2 } from './software.ts';

/** Those that a module is recognised as. */
const RECOGNISED: readonly VendorProfile[] = [
  LUNA,
  NSHIELD,
  CLOUDHSM,
  AZURE_CLOUD,
  GOOGLE_CLOUD,
  SOFTHSM,
  NSS,
  OPENCRYPTOKI,
  TPM2,
];

/** All, with configurations of the same module that differ in what they allow. */
export const PROFILES: readonly VendorProfile[] = [
  ...RECOGNISED,
  LUNA_FIPS,
  LUNA_FIPS_BEFORE_7_9_3,
  AZURE_DEDICATED,
  GENERIC,
];

/** The profile by the file name of the library, which vendors give once, else by CK_INFO's manufacturerID. */
export const profileOf = (manufacturer: string, library: string): VendorProfile => {
  const name = library.slice(library.lastIndexOf('/') + 1);
  return (
    RECOGNISED.find((row) => row.fileName.test(name)) ??
    RECOGNISED.find((row) => row.manufacturer.is.test(manufacturer)) ??
    GENERIC
  );
};
