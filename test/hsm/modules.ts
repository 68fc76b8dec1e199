// The modules of the matrix: which Debian they are from, how an operator makes a token of each (a shell script that runs
// inside the root), and whether an agent can start on it.
import { BOOKWORM, type DebianRoot, SID } from '../slow/support/debian-root.ts';
import { NSS, OPENCRYPTOKI, type TokenModule } from '../slow/support/token-modules.ts';

export interface MatrixModule extends TokenModule {
  /** Column of the table. */
  readonly column: string;
  readonly root: DebianRoot;
  /** What an agent cannot do without and this module does not have; undefined where an agent starts on it. */
  readonly lacks?: RegExp;
}

// With tpm2-abrmd in between, as /dev/tpmrm0 is for a TPM of hardware: a TPM by itself has room for three objects.
const TPM2: TokenModule = {
  name: 'tpm2-pkcs11 over swtpm',
  package: 'libtpm2-pkcs11-1',
  setUp: `
mkdir -p /tmp/tpm /tmp/store /run/dbus
port=$(shuf -i 20000-29998 -n 1)
swtpm socket --tpm2 --server type=tcp,port=$port,bindaddr=127.0.0.1 \\
  --ctrl type=tcp,port=$((port + 1)),bindaddr=127.0.0.1 --flags not-need-init,startup-clear --tpmstate dir=/tmp/tpm &
dbus-uuidgen --ensure
dbus-daemon --system --fork
tpm2-abrmd --allow-root --tcti=swtpm:host=127.0.0.1,port=$port > /tmp/abrmd.log 2>&1 &
export TPM2_PKCS11_STORE=/tmp/store TPM2_PKCS11_TCTI=tabrmd TPM2TOOLS_TCTI=tabrmd
tries=0
until tpm2_getrandom 1 > /dev/null 2>&1; do
  tries=$((tries + 1))
  [ $tries -lt 100 ] || { cat /tmp/abrmd.log; echo 'the TPM does not answer'; exit 1; }
  sleep 0.1
done
tpm2_ptool init --path=/tmp/store
tpm2_ptool addtoken --pid=1 --sopin=officer1 --userpin=userpin1 --label=mortise --path=/tmp/store
(umask 077; echo userpin1 > /tmp/pin)
export MODULE_LIBRARY=/usr/lib/x86_64-linux-gnu/libtpm2_pkcs11.so.1 MODULE_LABEL=mortise MODULE_PIN_FILE=/tmp/pin
export MODULE_DISABLED=CKM_RSA_PKCS_OAEP,CKM_RSA_X_509 # a wrong padding puts swtpm 0.7 into failure mode
`,
};

export const MATRIX: readonly MatrixModule[] = [
  { ...NSS, column: 'NSS 3.87', root: BOOKWORM },
  { ...OPENCRYPTOKI, column: 'openCryptoki 3.8', root: BOOKWORM },
  { ...TPM2, column: 'tpm2-pkcs11 1.9', root: BOOKWORM, lacks: /generate-/ },
  { ...NSS, column: 'NSS 3.132', root: SID },
  { ...OPENCRYPTOKI, column: 'openCryptoki 3.27', root: SID },
];
