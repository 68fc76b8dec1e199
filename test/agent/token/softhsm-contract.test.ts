// The token room behaves as the contract says, on a real SoftHSM.
import { POST_QUANTUM, tokenContract } from '../../contract/token.ts';
import { makeSoftHsm } from '../../support/softhsm.ts';
import { openSoftHsmToken } from '../../support/token.ts';

const open = async () => {
  const hsm = await makeSoftHsm();
  const token = await openSoftHsmToken(hsm);
  return {
    token,
    close: async () => {
      await token.close();
      await hsm.dispose();
    },
  };
};

tokenContract('SoftHSM', open, { lacks: POST_QUANTUM });
