// The token room behaves as the contract says, on a real SoftHSM.
import { tokenContract } from '../../contract/token.ts';
import { makeSoftHsm } from '../../support/softhsm.ts';
import { openSoftHsmToken } from '../../support/token.ts';

tokenContract('SoftHSM', async () => {
  const hsm = await makeSoftHsm();
  const token = await openSoftHsmToken(hsm);
  return {
    token,
    close: async () => {
      await token.close();
      await hsm.dispose();
    },
  };
});
