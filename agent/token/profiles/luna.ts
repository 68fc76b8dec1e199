// Thales Luna 7 and, being the same appliance, Azure Dedicated HSM. Nothing here was tried on the hardware.
import { A_PLACE, GENERIC, IN_WORDS, type VendorProfile } from './profile.ts';

const DOCS = 'thalesdocs.com/gphsm/luna/7/docs/network/Content';
const RSA_PKCS = 0x0001;

export const LUNA: VendorProfile = {
  ...GENERIC,
  name: 'luna',
  title: 'Thales Luna 7',
  manufacturer: { is: /^(SafeNet|Thales|Chrysalis|Gemalto)/i, source: 'recalled' },
  fileName: /Cryptoki2/i,
  libraries: {
    is: ['/usr/safenet/lunaclient/lib/libCryptoki2_64.so'],
    source: 'github.com/ThalesGroup/luna-samples: the example of P11_LIB in its C programs',
    notImposed: A_PLACE,
  },
  client: {
    is: { variables: ['ChrystokiConfigurationPath'], files: ['/etc/Chrystoki.conf'] },
    source: `${DOCS}/admin_partition/config_file_summary.htm`,
    notImposed: A_PLACE,
  },
  pin: { is: 'plain', source: 'the password or challenge of the Crypto Officer or Crypto User of the partition' },
  gcmIv: {
    is: ['caller', 'appended'],
    source: `${DOCS}/sdk/mechanisms/CKM_AES_GCM.htm: caller's outside FIPS configuration, else made and appended by the HSM`,
  },
  ivBytes: 12, // from firmware 7.9.3 with ulIvLen 0 and ulIvBits 96; 16 before
  wraps: {
    is: ['CKM_AES_KW', 'CKM_AES_KWP', 'CKM_AES_CBC_PAD', 'CKM_AES_GCM'],
    source: `${DOCS}/sdk/mechanisms/CKM_AES_KW.htm and beside it`,
  },
  refuses: {
    // In FIPS configuration; what the agent could run into, since it never asks for DES or SHA-1.
    is: [
      { in: 'C_EncryptInit', mechanism: RSA_PKCS, ckr: 0x70 },
      { in: 'C_DecryptInit', mechanism: RSA_PKCS, ckr: 0x70 },
      { in: 'C_WrapKey', mechanism: RSA_PKCS, ckr: 0x70 },
      { in: 'C_UnwrapKey', mechanism: RSA_PKCS, ckr: 0x70 },
    ],
    source: `${DOCS}/sdk/mechanisms/CKM_RSA_PKCS.htm`,
  },
  failover: {
    is: 'an HA group is one virtual slot; members that come back are taken in again by the client, within its calls',
    source: `${DOCS}/admin_partition/ha/ha.htm`,
    notImposed: IN_WORDS,
  },
  loss: {
    is: { codes: [0x30, 0xe0, 0x190], recovers: 'initialise' },
    source: 'field reports: NLnet Labs Krill and privacyIDEA finalise and initialise anew to recover',
  },
  notes: [
    'in FIPS configuration the HSM makes the iv of AES-GCM: of 96 bits, as JOSE needs it, from firmware 7.9.3 only',
    'use the virtual slot of the HA group, by its label, never a member',
  ],
};

/** Luna in FIPS configuration with firmware before 7.9.3, whose ivs no JOSE algorithm can carry. */
export const LUNA_FIPS_BEFORE_7_9_3: VendorProfile = {
  ...LUNA,
  name: 'luna-fips-before-7.9.3',
  title: 'Thales Luna 7 in FIPS configuration, firmware before 7.9.3',
  gcmIv: { is: ['appended'], source: LUNA.gcmIv.source },
  ivBytes: 16,
};

/** Luna in FIPS configuration with firmware 7.9.3. */
export const LUNA_FIPS: VendorProfile = {
  ...LUNA,
  name: 'luna-fips',
  title: 'Thales Luna 7 in FIPS configuration, firmware 7.9.3',
  gcmIv: { is: ['appended'], source: LUNA.gcmIv.source },
};

export const AZURE_DEDICATED: VendorProfile = {
  ...LUNA,
  name: 'azure-dedicated',
  title: 'Azure Dedicated HSM',
  failover: {
    is: 'none by Azure: make an HA group of two',
    source: 'learn.microsoft.com/azure/dedicated-hsm/high-availability',
    notImposed: IN_WORDS,
  },
};

/** Another service than Azure Dedicated HSM, with its own library. */
export const AZURE_CLOUD: VendorProfile = {
  ...GENERIC,
  name: 'azure-cloud',
  title: 'Azure Cloud HSM',
  manufacturer: { is: /^Microsoft/i, source: 'recalled' },
  fileName: /azcloudhsm/i,
  libraries: {
    is: ['/opt/azurecloudhsm/lib64/libazcloudhsm_pkcs11.so'],
    source: 'learn.microsoft.com/azure/cloud-hsm; the folder by configurations in public repositories',
    notImposed: A_PLACE,
  },
  client: {
    is: { variables: [], files: ['/opt/azurecloudhsm/bin/azcloudhsm_application.cfg'] },
    source: 'github.com/microsoft/MicrosoftAzureCloudHSM; the path is recalled',
    notImposed: A_PLACE,
  },
  pin: {
    is: 'user:password',
    source: 'learn.microsoft.com/azure/cloud-hsm/authentication: "cu1:user1234", once for a slot',
  },
  gcmIv: { is: ['caller', 'zeroed'], source: 'learn.microsoft.com/azure/cloud-hsm, supported mechanisms' },
  notes: ['the PIN is user:password of a crypto user'],
};
