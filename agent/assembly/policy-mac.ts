// HMAC-SHA256 under the agent's own key in the token, for the envelope of stored policies. The key is made at the first
// start; a store whose key is not in the token does not verify.
import type { Clock } from '../clock.ts';
import type { TokenCall, TokenPort } from '../operations/ports/token.ts';

const CALL_MS = 10_000;

export const createPolicyMac = (parts: {
  readonly token: TokenPort;
  readonly hostId: string;
  readonly clock: Clock;
}): ((data: Buffer) => Promise<Buffer>) => {
  const { token, hostId, clock } = parts;
  const call = (): TokenCall => ({
    tenant: '_platform',
    deadline: clock.now() + CALL_MS,
    signal: AbortSignal.timeout(CALL_MS),
  });
  let found: Promise<string> | undefined;
  const find = async (): Promise<string> => {
    const label = `mortise:agent:${hostId}:policy-mac`;
    const key =
      (await token.find(label, call())) ??
      (await token.generate({ algorithm: 'HMAC-SHA256', purpose: 'mac', label }, call()));
    return key.tokenId;
  };
  return async (data) => {
    // One look-up for all; one that failed is made again at the next need.
    found ??= find().catch((error: unknown) => {
      found = undefined;
      throw error;
    });
    return token.mac(await found, 'HS256', data, call());
  };
};
