// Over a module of PKCS #11 3.2 inside a Debian root: its attributes lied about by the module of test/hsm/shim, which has
// been compiled into /mnt.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { openToken } from '../../../agent/token/token.ts';
import { lyingContract } from '../../contract/token-lies.ts';
import { Pkcs11Shim } from '../../support/pkcs11-shim.ts';
import { ignoredTokenEvents } from '../../support/token.ts';

const { MODULE_LIBRARY = '', MODULE_LABEL = '', MODULE_PIN_FILE = '', SHIM_NAME = '' } = process.env;

lyingContract(MODULE_LIBRARY, async () => {
  const shim = new Pkcs11Shim({ folder: '/mnt', real: MODULE_LIBRARY, name: SHIM_NAME });
  const token = await openToken({
    library: shim.library,
    tokenLabel: MODULE_LABEL,
    pin: async () => Buffer.from((await readFile(MODULE_PIN_FILE, 'utf8')).trim()),
    sessions: 4,
    acquireTimeoutMs: 30_000,
    environment: process.env,
    events: ignoredTokenEvents,
  });
  assert.ok(token.canHold('ML-KEM-768', 'encrypt').ok && token.canHold('ML-DSA-65', 'sign').ok);
  return {
    token,
    shim,
    close: async () => {
      await token.close();
      shim.close();
    },
  };
});
