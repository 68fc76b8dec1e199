// A vendor's profile as rules for the module of test/hsm/shim: what the profile says, a real token below is made to do.
import assert from 'node:assert/strict';
import type { VendorProfile } from '../../agent/token/profiles/profile.ts';
import type { ShimRules } from './pkcs11-shim.ts';

const FUNCTION_FAILED = 0x06;
/** What a module of the profile calls itself: something that the profile recognises. */
const NAMES: Readonly<Record<string, string>> = {
  luna: 'SafeNet, Inc.',
  'luna-fips': 'SafeNet, Inc.',
  'luna-fips-before-7.9.3': 'SafeNet, Inc.',
  'azure-dedicated': 'SafeNet, Inc.',
  'azure-cloud': 'Microsoft',
  nshield: 'nCipher Corp. Ltd',
  cloudhsm: 'Amazon',
  google: 'Google',
  softhsm: 'SoftHSM',
  nss: 'Mozilla Foundation',
  opencryptoki: 'IBM',
  tpm2: 'tpm2-software.github.io',
  generic: 'Nobody',
};

const FORMS = { plain: 'plain', 'pass phrase': 'plain', 'user:password': 'colon', ignored: 'ignored' } as const;

export const rulesOf = (profile: VendorProfile): ShimRules => {
  const manufacturer = NAMES[profile.name];
  assert.ok(manufacturer !== undefined, `${profile.name} has no name in the table`);
  assert.ok(profile.name === 'generic' || profile.manufacturer.is.test(manufacturer));
  const by = profile.gcmIv.is[0];
  return {
    manufacturer,
    refuse: profile.refuses.is,
    login: { form: FORMS[profile.pin.is] },
    ...(by === undefined ? { hide: [0x1087] } : { iv: { by, bytes: profile.ivBytes ?? 12 } }),
    ...(profile.sessions.is.readOnly === 'refused' && { readOnly: FUNCTION_FAILED }),
  };
};

/** The PIN as the profile wants it, for a token whose own is `pin`. */
export const pinFor = (profile: VendorProfile, pin: string): string => {
  if (profile.pin.is === 'user:password') return `crypto-user:${pin}`;
  return profile.pin.is === 'ignored' ? 'anything' : pin;
};
