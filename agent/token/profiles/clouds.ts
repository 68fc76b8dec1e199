// HSMs that are rented: AWS CloudHSM and Google Cloud HSM. Nothing here was tried on the services.
import { A_PLACE, GENERIC, IN_WORDS, NO_AGENT, type VendorProfile } from './profile.ts';

const AWS = 'docs.aws.amazon.com/cloudhsm/latest/userguide';
const GOOGLE = 'github.com/GoogleCloudPlatform/kms-integrations kmsp11/docs/user_guide.md';
const NOT_SUPPORTED = 0x54;
const TEMPLATE_INCOMPLETE = 0xd0;
const NOT_IMPLEMENTED = [
  'C_WrapKey',
  'C_UnwrapKey',
  'C_DeriveKey',
  'C_CreateObject',
  'C_CopyObject',
  'C_SetAttributeValue',
  'C_InitToken',
] as const;

export const CLOUDHSM: VendorProfile = {
  ...GENERIC,
  name: 'cloudhsm',
  title: 'AWS CloudHSM (Client SDK 5)',
  manufacturer: { is: /^(Amazon|AWS|Marvell|Cavium)/i, source: 'recalled' },
  fileName: /libcloudhsm_pkcs11/i,
  libraries: {
    is: ['/opt/cloudhsm/lib/libcloudhsm_pkcs11.so'],
    source:
      'configurations in public repositories, none of them by AWS; SDK 3 had libcloudhsm_pkcs11_standard.so there',
    notImposed: A_PLACE,
  },
  client: {
    is: {
      variables: ['CLOUDHSM_PKCS11_'],
      files: ['/opt/cloudhsm/etc/cloudhsm-pkcs11.cfg', '/opt/cloudhsm/etc/customerCA.crt'],
    },
    source: `${AWS}/cluster-connect.html`,
    notImposed: A_PLACE,
  },
  pin: {
    is: 'user:password',
    source: `${AWS}/pkcs11-pin.html; github.com/aws-samples/aws-cloudhsm-pkcs11-examples issue 59`,
  },
  gcmIv: {
    is: ['zeroed'],
    source: `${AWS}/pkcs11-mechanisms.html: pIv must be zeroes of 12 bytes, the HSM writes the iv into it`,
  },
  wraps: {
    is: ['CKM_RSA_AES_KEY_WRAP', 'CKM_AES_GCM', 'CKM_RSA_PKCS_OAEP', 'CKM_CLOUDHSM_AES_KEY_WRAP_NO_PAD'],
    source: `${AWS}/pkcs11-mechanisms.html`,
  },
  refuses: {
    // Only the KDF of X9.63 is offered, so no raw ECDH secret and no key agreement of JOSE.
    is: [{ in: 'C_DeriveKey', mechanism: 0x1050, ckr: 0x71 }],
    source: `${AWS}/pkcs11-mechanisms.html`,
  },
  sessions: {
    is: { readOnly: 'refused', login: 'once' },
    source: `${AWS}/ki-pkcs11-sdk.html: a session without CKF_RW_SESSION is CKR_FUNCTION_FAILED`,
  },
  failover: {
    is: 'token keys must be on two HSMs before they are used; session keys are on one and are lost with it',
    source: `${AWS}/concepts-key-sync.html`,
    notImposed: IN_WORDS,
  },
  loss: {
    is: { codes: [0x30, 0x05], recovers: 'new session' },
    source: `${AWS}/troubleshoot-throttling.html: throttled calls may be CKR_DEVICE_ERROR`,
  },
  notes: [
    'the PIN is user:password of a crypto user; five wrong ones lock the user',
    'key agreement (ECDH-ES) is not offered: the library gives no raw secret',
  ],
};

export const GOOGLE_CLOUD: VendorProfile = {
  ...GENERIC,
  name: 'google',
  title: 'Google Cloud HSM (libkmsp11)',
  manufacturer: {
    is: /^Google/i,
    source: 'github.com/GoogleCloudPlatform/kms-integrations kmsp11/provider.cc: "Google"',
  },
  fileName: /libkmsp11/i,
  libraries: {
    is: ['/usr/lib/libkmsp11.so'],
    source: `${GOOGLE}; it has no installer, so the folder is the operator's`,
    notImposed: A_PLACE,
  },
  client: {
    is: { variables: ['KMS_PKCS11_CONFIG', 'GOOGLE_APPLICATION_CREDENTIALS'], files: [] },
    source: `${GOOGLE}, configuration: a YAML file that its owner alone may write`,
    notImposed: A_PLACE,
  },
  pin: { is: 'ignored', source: `${GOOGLE}, functions: C_Login` },
  gcmIv: { is: ['zeroed'], source: `${GOOGLE}: CKM_CLOUDKMS_AES_GCM, pIv of 12 zeroes` },
  wraps: { is: [], source: `${GOOGLE}, functions: C_WrapKey is not implemented` },
  refuses: {
    is: [
      ...NOT_IMPLEMENTED.map((name) => ({ in: name, ckr: NOT_SUPPORTED })),
      { in: 'C_GenerateKey', ckr: TEMPLATE_INCOMPLETE },
      { in: 'C_GenerateKeyPair', ckr: TEMPLATE_INCOMPLETE },
    ],
    source: `${GOOGLE}, functions; key generation wants CKA_KMS_ALGORITHM`,
  },
  sessions: { is: { readOnly: 'given', login: 'optional' }, source: `${GOOGLE}, functions: C_Login` },
  failover: { is: 'the service has no sessions on a device', source: GOOGLE, notImposed: IN_WORDS },
  loss: {
    is: { codes: [0x30, 0x06], recovers: 'new session' },
    source: `${GOOGLE}, error codes`,
    notImposed: NO_AGENT,
  },
  rawRsaForOaep: false,
  notes: [
    'keys are CryptoKeys that C_GenerateKey makes with attributes of Google, never session objects: no ability can be proved',
    'it has no HMAC, AES or key objects of the usual kind, so it cannot be the token of an agent',
  ],
};
