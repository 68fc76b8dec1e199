// The variables of the agent's environment that reach the token process: those by which PKCS#11 libraries find their
// configuration, and where Node keeps compiled code. No variable of ours is among them.

const NAMES: ReadonlySet<string> = new Set([
  'PATH',
  'HOME',
  'TZ',
  'LANG',
  'LC_ALL',
  'LD_LIBRARY_PATH',
  'NODE_COMPILE_CACHE', // in the data folder: agent/main.ts
  'SOFTHSM2_CONF', // SoftHSM
  'ChrystokiConfigurationPath', // Thales Luna
  'CS_PKCS11_R2_CFG', // Utimaco
  'CS_PKCS11_R3_CFG',
  'YUBIHSM_PKCS11_CONF', // YubiHSM
  'KMS_PKCS11_CONFIG', // Google Cloud KMS
  'GOOGLE_APPLICATION_CREDENTIALS',
  'NSS_LIB_PARAMS', // NSS softokn
  'PKCS_APP_STORE_PATH', // openCryptoki
]);
const GENERAL: ReadonlySet<string> = new Set(['PATH', 'HOME', 'LD_LIBRARY_PATH', 'NODE_COMPILE_CACHE']);
const PREFIXES: readonly string[] = [
  'CKNFAST_', // Entrust nShield
  'NFAST_',
  'CLOUDHSM_', // AWS CloudHSM
  'TPM2_PKCS11_', // tpm2-pkcs11
  'P11_KIT_', // p11-kit
  'FORTANIX_',
  'FHSM_', // FreeHSM
  'OPENCRYPTOKI_',
];

/** Is it one that a library is configured by? The general ones (PATH, HOME, …) come from the agent alone. */
export const isVendorVariable = (name: string): boolean =>
  (NAMES.has(name) && !GENERAL.has(name)) || PREFIXES.some((prefix) => name.startsWith(prefix));

export const vendorEnvironment = (
  environment: Readonly<Record<string, string | undefined>>,
): Readonly<Record<string, string>> =>
  Object.fromEntries(
    Object.entries(environment).filter(
      (entry): entry is [string, string] =>
        entry[1] !== undefined && (NAMES.has(entry[0]) || PREFIXES.some((prefix) => entry[0].startsWith(prefix))),
    ),
  );
