// The agent's audit keys in the token, for verifying: looked up, never made.
import type { PublicJwk } from '../../proto/documents/key-record.ts';
import { tokenOptions } from '../assembly/token-opening.ts';
import type { Config } from '../config/config.ts';
import { readPin } from '../config/pin-source.ts';
import type { TokenCall } from '../operations/ports/token.ts';
import type { TokenEvents } from '../token/events.ts';
import { openToken, type Token } from '../token/token.ts';

export interface ReachedToken extends AsyncDisposable {
  /** Absent where MAC keys cannot be unwrapped; `why` says why. */
  readonly unwrap?: (wrapped: Buffer, associatedData: Buffer) => Promise<Buffer>;
  readonly checkpointKey?: PublicJwk;
  readonly why?: string;
}

const CALL_MS = 10_000;

const call = (): TokenCall => ({
  tenant: '_platform',
  deadline: Date.now() + CALL_MS,
  signal: AbortSignal.timeout(CALL_MS),
});

const ignore = (): void => undefined;
const SILENT: TokenEvents = {
  tokenStarted: ignore,
  tokenReady: ignore,
  tokenExited: ignore,
  tokenHung: ignore,
  tokenRestarting: ignore,
  tokenStartFailed: ignore,
  tokenLoginRefused: ignore,
  tokenSessionFailed: ignore,
  tokenOutput: ignore,
  tokenCallFinished: ignore,
  tokenBreaker: ignore,
  tokenSessions: ignore,
  tokenQueue: ignore,
};

const keysIn = async (token: Token, hostId: string): Promise<Omit<ReachedToken, typeof Symbol.asyncDispose>> => {
  const wrap = await token.find(`mortise:agent:${hostId}:audit-wrap`, call());
  const checkpoint = await token.find(`mortise:agent:${hostId}:checkpoint`, call());
  if (wrap === undefined) return { why: `the token has no audit key of host ${hostId} (MORTISE_HOST_ID)` };
  return {
    unwrap: (data, aad) => token.unwrap(wrap.tokenId, { aad, data }, call()),
    ...(checkpoint?.publicJwk && { checkpointKey: checkpoint.publicJwk }),
  };
};

/** Reaches the token of the configuration. Never rejects: what cannot be had is absent, with the reason. */
export const openAuditKeys = async (
  config: Config | undefined,
  environment: Readonly<Record<string, string | undefined>>,
): Promise<ReachedToken> => {
  const without = (why: string): ReachedToken => ({ why, [Symbol.asyncDispose]: async () => undefined });
  if (config === undefined) return without('the configuration does not say where the token is (agent --check)');
  try {
    const pin = (): Promise<Buffer> => readPin(config.token.pin, { environment });
    const options = tokenOptions({ entry: config.token, environment, pin });
    const token = await openToken({ ...options, sessions: 1, events: SILENT });
    const keys = await keysIn(token, config.hostId).catch((error: Error) => ({ why: error.message }));
    return { ...keys, [Symbol.asyncDispose]: () => token.close() };
  } catch (error) {
    return without((error as Error).message);
  }
};
