// Modules that can be installed here, so that every rule was seen: SoftHSM, NSS softokn, openCryptoki, tpm2-pkcs11.
import { A_PLACE, GENERIC, NO_AGENT, type VendorProfile } from './profile.ts';

const SEEN = 'seen here, docs/hsm.md';

export const SOFTHSM: VendorProfile = {
  ...GENERIC,
  name: 'softhsm',
  title: 'SoftHSM 2',
  manufacturer: { is: /^SoftHSM/i, source: SEEN },
  fileName: /libsofthsm2/i,
  libraries: { is: ['/usr/lib/softhsm/libsofthsm2.so'], source: SEEN, notImposed: A_PLACE },
  client: {
    is: { variables: ['SOFTHSM2_CONF'], files: ['/etc/softhsm/softhsm2.conf'] },
    source: SEEN,
    notImposed: A_PLACE,
  },
  gcmIv: { is: ['caller'], source: SEEN },
  wraps: { is: ['CKM_AES_KEY_WRAP', 'CKM_AES_KEY_WRAP_PAD', 'CKM_RSA_PKCS_OAEP'], source: SEEN },
  loss: { is: { codes: [0xb3, 0xe0], recovers: 'new session' }, source: SEEN },
  creationRace: [0x005, 0x006, 0x0d1], // GENERAL_ERROR, FUNCTION_FAILED, TEMPLATE_INCONSISTENT; at most 4 in 100
  generalErrorMeansInvalid: true,
  notes: [
    'a software token: keys are files, protected by the PIN and the file mode only',
    'RSA-OAEP with SHA-256 is decoded in the token process, because SoftHSM 2.6 offers OAEP with SHA-1 only',
    'objects are made one at a time and a failed creation is tried again, because SoftHSM fails beside others',
  ],
};

export const NSS: VendorProfile = {
  ...GENERIC,
  name: 'nss',
  title: 'NSS softokn',
  manufacturer: { is: /^Mozilla/i, source: SEEN },
  fileName: /libsoftokn3/i,
  libraries: {
    is: ['/usr/lib/x86_64-linux-gnu/libsoftokn3.so', '/usr/lib/x86_64-linux-gnu/nss/libsoftokn3.so'],
    source: SEEN,
    notImposed: A_PLACE,
  },
  client: { is: { variables: ['NSS_LIB_PARAMS'], files: [] }, source: SEEN, notImposed: A_PLACE },
  gcmIv: { is: ['caller'], source: SEEN },
  wraps: {
    is: ['CKM_AES_KEY_WRAP', 'CKM_AES_KEY_WRAP_KWP', 'CKM_AES_CBC_PAD', 'CKM_RSA_PKCS_OAEP'],
    source: `${SEEN}; it wraps keys that are not extractable too`,
  },
  notes: [
    'a software token: keys are in a database, protected by the PIN and the file mode only',
    'its C_WrapKey gives out keys that are not extractable to whoever has the PIN; the agent never calls it',
  ],
};

export const OPENCRYPTOKI: VendorProfile = {
  ...GENERIC,
  name: 'opencryptoki',
  title: 'openCryptoki',
  manufacturer: { is: /^IBM/i, source: SEEN },
  fileName: /libopencryptoki/i,
  libraries: { is: ['/usr/lib/x86_64-linux-gnu/opencryptoki/libopencryptoki.so.0'], source: SEEN, notImposed: A_PLACE },
  client: {
    is: { variables: ['PKCS_APP_STORE_PATH'], files: ['/etc/opencryptoki/opencryptoki.conf'] },
    source: SEEN,
    notImposed: A_PLACE,
  },
  gcmIv: { is: ['caller'], source: `${SEEN}; no AES-GCM before 3.9` },
  wraps: {
    is: ['CKM_AES_KEY_WRAP', 'CKM_AES_KEY_WRAP_KWP', 'CKM_AES_GCM', 'CKM_AES_CBC_PAD'],
    source: `${SEEN}, 3.27`,
  },
  notes: [
    'needs its daemon pkcsslotd, membership of the group pkcs11 by name, and room in /dev/shm',
    'its C_UnwrapKey ignores CKA_SENSITIVE and CKA_EXTRACTABLE; what is made is read back and repaired',
  ],
};

export const TPM2: VendorProfile = {
  ...GENERIC,
  name: 'tpm2',
  title: 'tpm2-pkcs11',
  manufacturer: { is: /tpm2/i, source: SEEN },
  fileName: /tpm2_pkcs11/i,
  libraries: { is: ['/usr/lib/x86_64-linux-gnu/libtpm2_pkcs11.so.1'], source: SEEN, notImposed: A_PLACE },
  client: {
    is: { variables: ['TPM2_PKCS11_STORE', 'TPM2_PKCS11_TCTI'], files: [] },
    source: SEEN,
    notImposed: A_PLACE,
  },
  gcmIv: { is: [], source: `${SEEN}: no AES keys` },
  refuses: {
    is: [
      { in: 'C_GenerateKey', ckr: 0x54 },
      { in: 'C_WrapKey', ckr: 0x54 },
    ],
    source: SEEN,
  },
  loss: { is: { codes: [0x05], recovers: 'initialise' }, source: SEEN, notImposed: NO_AGENT },
  rawRsaForOaep: false, // swtpm 0.7 goes into failure mode
  sessionObjects: false,
  namesUsesOnly: true,
  notes: [
    'three wrong PINs lock the TPM',
    'it makes no AES and no HMAC keys, so it cannot be the token of an agent by itself',
  ],
};
