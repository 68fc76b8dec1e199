// Opens a token, says what it is and can do, and closes it: what `mortise doctor` shows. It logs in once.
import type { Ability } from './abilities.ts';
import type { TokenEvents } from './events.ts';
import { type StartReason, TokenStartError } from './start-error.ts';
import { openToken, type TokenInfo } from './token.ts';
import type { TokenOptions } from './token-options.ts';

export type Inspection =
  | {
      readonly ok: true;
      readonly info: TokenInfo;
      readonly abilities: readonly Ability[];
      readonly startMs: number;
      /** What the library wrote meanwhile. */
      readonly output: readonly string[];
    }
  | {
      readonly ok: false;
      readonly reason: StartReason;
      /** What is wrong and what to do, in one line. */
      readonly message: string;
      readonly advice: string;
      readonly output: readonly string[];
    };

export const inspectToken = async (options: Omit<TokenOptions, 'events'>): Promise<Inspection> => {
  const output: string[] = [];
  let startMs = 0;
  const ignore = (): void => {};
  const events: TokenEvents = {
    tokenStarted: ignore,
    tokenReady: ({ durationMs }) => {
      startMs = durationMs;
    },
    tokenExited: ignore,
    tokenHung: ignore,
    tokenRestarting: ignore,
    tokenStartFailed: ignore,
    tokenLoginRefused: ignore,
    tokenSessionFailed: ignore,
    tokenOutput: ({ line }) => output.push(line),
    tokenCallFinished: ignore,
    tokenBreaker: ignore,
    tokenSessions: ignore,
    tokenQueue: ignore,
  };
  try {
    await using token = await openToken({ ...options, events });
    return { ok: true, info: token.info(), abilities: token.abilityReport(), startMs, output };
  } catch (thrown) {
    if (!(thrown instanceof TokenStartError)) throw thrown;
    const { reason, message, advice } = thrown;
    return { ok: false, reason, message, advice, output };
  }
};
