// Entrust nShield: Connect, Solo, Edge and 5. Nothing here was tried on the hardware.
import { A_PLACE, GENERIC, IN_WORDS, type VendorProfile } from './profile.ts';

const DOCS = 'nshielddocs.entrust.com/security-world-docs';
const AES_KEY_WRAP = 0x2109;

export const NSHIELD: VendorProfile = {
  ...GENERIC,
  name: 'nshield',
  title: 'Entrust nShield',
  manufacturer: {
    is: /^(nCipher|Entrust|Thales e-Security)/i,
    source: 'github.com/openssl-projects/pkcs11-provider issue 768: "nCipher Corp. Ltd", firmware 13.8',
  },
  fileName: /cknfast/i,
  libraries: {
    is: ['/opt/nfast/toolkits/pkcs11/libcknfast.so'],
    source: 'github.com/PeculiarVentures/graphene capabilities/nShield.md',
    notImposed: A_PLACE,
  },
  client: {
    is: { variables: ['CKNFAST_LOADSHARING', 'CKNFAST_OVERRIDE_SECURITY_ASSURANCES'], files: ['/opt/nfast/cknfastrc'] },
    source: `${DOCS}, PKCS #11 library settings`,
    notImposed: A_PLACE,
  },
  pin: { is: 'pass phrase', source: `${DOCS}: of the softcard or of the operator card set that the slot stands for` },
  gcmIv: { is: ['caller', 'appended', 'zeroed'], source: 'not found; self-test finds out' },
  wraps: {
    is: ['CKM_AES_KEY_WRAP', 'CKM_AES_KEY_WRAP_KWP', 'CKM_AES_GCM', 'CKM_AES_CBC_PAD'],
    source: `${DOCS}, mechanisms of v13.6.3`,
  },
  refuses: {
    is: [
      { in: 'C_EncryptInit', mechanism: AES_KEY_WRAP, ckr: 0x70 },
      { in: 'C_DecryptInit', mechanism: AES_KEY_WRAP, ckr: 0x70 },
      { in: 'C_InitToken', ckr: 0x54 },
    ],
    source: `${DOCS}: AES_KEY_WRAP wraps and unwraps only; no C_InitToken in FIPS 140 level 3 worlds without load-sharing`,
  },
  sessions: { is: { readOnly: 'given', login: 'none on accelerator slots' }, source: `${DOCS}, load-sharing mode` },
  failover: {
    is: 'load-sharing goes on while one module is left, without a restart; taking the last card of a card set out closes the sessions',
    source: `${DOCS}, load-sharing and pool mode`,
    notImposed: IN_WORDS,
  },
  notes: [
    'softcards are shown with CKNFAST_LOADSHARING=1 only; name the softcard as the token',
    'the accelerator slot takes no login and keeps no private objects: it is not used',
  ],
};
