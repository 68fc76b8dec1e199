// A vendor's profile as rules for the module of test/hsm/shim: what the profile says, a real token below is made to do.
import assert from 'node:assert/strict';
import { mechanismNumber } from '../../agent/token/process/mechanisms.ts';
import type { VendorProfile } from '../../agent/token/profiles/profile.ts';
import type { Pkcs11Shim, ShimRules } from './pkcs11-shim.ts';

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

/** What wraps keys on one module or another; a profile's list says which of them its own does. */
const WRAP_MECHANISMS = [
  'CKM_AES_KEY_WRAP',
  'CKM_AES_KEY_WRAP_PAD',
  'CKM_AES_KEY_WRAP_KWP',
  'CKM_AES_CBC_PAD',
  'CKM_AES_GCM',
  'CKM_RSA_PKCS',
  'CKM_RSA_PKCS_OAEP',
] as const;
const MECHANISM_INVALID = 0x70;

const wrapRefusals = ({ wraps }: VendorProfile): NonNullable<ShimRules['refuse']> =>
  wraps.is.length === 0
    ? []
    : WRAP_MECHANISMS.filter((name) => !wraps.is.includes(name)).flatMap((name) =>
        (['C_WrapKey', 'C_UnwrapKey'] as const).map((of) => {
          return { in: of, mechanism: mechanismNumber(name) ?? assert.fail(name), ckr: MECHANISM_INVALID };
        }),
      );

/** The rules of a profile that the shim imposes; the others say in the profile why not. */
export const IMPOSED: ReadonlySet<string> = new Set([
  'manufacturer',
  'pin',
  'gcmIv',
  'wraps',
  'refuses',
  'sessions',
  'loss',
]);

/** The connection is lost as the profile says, and comes back by what the profile says alone. */
export const loseAs = ({ loss }: VendorProfile, ckr: number, shim: Pkcs11Shim): void => {
  if (loss.is.recovers === 'initialise') shim.forgetClient(ckr);
  else shim.loseSessions(ckr);
};

export const rulesOf = (profile: VendorProfile): ShimRules => {
  const manufacturer = NAMES[profile.name];
  assert.ok(manufacturer !== undefined, `${profile.name} has no name in the table`);
  assert.ok(profile.name === 'generic' || profile.manufacturer.is.test(manufacturer));
  const by = profile.gcmIv.is[0];
  return {
    manufacturer,
    refuse: [...profile.refuses.is, ...wrapRefusals(profile)],
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
