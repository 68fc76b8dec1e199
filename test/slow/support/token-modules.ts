// The modules of Debian sid whose tokens offer PKCS #11 3.2: how an operator makes a token of each, as a shell script that
// runs inside the root.

export interface TokenModule {
  readonly name: string;
  readonly package: string;
  /** Makes a token and exports MODULE_LIBRARY, MODULE_LABEL, MODULE_PIN_FILE and what the library needs. */
  readonly setUp: string;
}

const LIBRARIES = '/usr/lib/x86_64-linux-gnu';

export const NSS: TokenModule = {
  name: 'NSS softokn',
  package: 'libnss3',
  setUp: `
umask 077
mkdir /tmp/nssdb
echo nss-test-pin-1 > /tmp/pin
certutil -N -d sql:/tmp/nssdb -f /tmp/pin
export MODULE_LIBRARY=${LIBRARIES}/libsoftokn3.so MODULE_LABEL='NSS Certificate DB' MODULE_PIN_FILE=/tmp/pin
export NSS_LIB_PARAMS="configdir='sql:/tmp/nssdb' certPrefix='' keyPrefix='' secmod='secmod.db' flags= "
`,
};

// The package leaves folders to systemd-tmpfiles and to its own groups, which nobody has run here.
export const OPENCRYPTOKI: TokenModule = {
  name: 'openCryptoki soft token',
  package: 'opencryptoki',
  setUp: `
mkdir -p /run/lock/opencryptoki/swtok /run/opencryptoki /var/lib/opencryptoki/swtok/TOK_OBJ
! id pkcsslotd > /dev/null 2>&1 || chown pkcsslotd:pkcs11 /run/opencryptoki # as root before 3.20
chgrp -R pkcs11 /run/lock/opencryptoki /var/lib/opencryptoki
chmod 710 /run/opencryptoki
chmod -R 770 /run/lock/opencryptoki /var/lib/opencryptoki
pkcsslotd -f > /tmp/pkcsslotd.log 2>&1 &
tries=0
until pkcsconf -t > /dev/null 2>&1; do
  tries=$((tries + 1))
  [ $tries -lt 100 ] || { cat /tmp/pkcsslotd.log; pkcsconf -t; exit 1; }
  sleep 0.1
done
(umask 077; echo ockuser1 > /tmp/pin)
export MODULE_LIBRARY=${LIBRARIES}/opencryptoki/libopencryptoki.so.0 MODULE_LABEL=mortise MODULE_PIN_FILE=/tmp/pin
node_modules/.bin/node test/slow/inside/init-token.ts
`,
};

export const TOKEN_MODULES: readonly TokenModule[] = [NSS, OPENCRYPTOKI];
