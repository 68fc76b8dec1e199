// The token room over a SoftHSM whose attributes are lied about.
import { join } from 'node:path';
import { openToken } from '../../../agent/token/token.ts';
import { lyingContract } from '../../contract/token-lies.ts';
import { makePkcs11Shim } from '../../support/pkcs11-shim.ts';
import { makeSoftHsm } from '../../support/softhsm.ts';
import { recordTokenEvents, softHsmOptions } from '../../support/token.ts';

lyingContract('SoftHSM', async () => {
  const hsm = await makeSoftHsm();
  const shim = await makePkcs11Shim({ folder: join(hsm.folder, 'shim'), real: hsm.library });
  const token = await openToken({ ...softHsmOptions(hsm, recordTokenEvents().events), library: shim.library });
  return {
    token,
    shim,
    close: async () => {
      await token.close();
      shim.close();
      await hsm.dispose();
    },
  };
});
