// Asks the registry for this host's shares of its tokens' sessions, again and again while the session lives. Invariant: of a
// token one question is under way at a time, and an answer is acted by only as of when it was asked for.
import { setTimeout as sleep } from 'node:timers/promises';
import type { Client } from '@grpc/grpc-js';
import { SessionsServiceService } from '../../proto/gen/mortise/registry/v1/sessions.ts';
import { type Method, unary } from './calls.ts';
import type { SessionQuestion, SharedToken } from './ports.ts';
import { asRefusal } from './refusal.ts';
import type { Feed } from './session.ts';

const UNKNOWN_MS = 1_000; // until a token that is away says who it is
const NO_BUDGETS_MS = 300_000; // a registry of an older version

const requestOf = ({ label, serial, grant, ...rest }: SessionQuestion, leaving: boolean) => ({
  ...rest,
  token: { label, serial },
  grant: BigInt(grant),
  leaving,
});

/** Milliseconds until it is to be asked again. */
const ask = async (client: Client, token: SharedToken, signal: AbortSignal): Promise<number> => {
  const question = token.question();
  if (question === undefined) return UNKNOWN_MS;
  const asked = token.now();
  try {
    const answer = await unary(client, SessionsServiceService.leaseSessions, requestOf(question, false), { signal });
    const { limited, share, leaseSeconds, total, hosts } = answer;
    token.answered(limited ? { share, grant: Number(answer.grant), leaseSeconds, total, hosts } : undefined, asked);
    return answer.renewSeconds * 1000;
  } catch (thrown) {
    if (asRefusal(thrown).code !== 'UNIMPLEMENTED') throw thrown;
    token.answered(undefined, asked);
    return NO_BUDGETS_MS;
  }
};

const follow = async (client: Client, token: SharedToken, signal: AbortSignal): Promise<void> => {
  while (!signal.aborted) {
    const waitMs = await ask(client, token, signal);
    await sleep(waitMs, undefined, { signal }).catch(() => undefined); // aborted: the loop looks at the signal
  }
};

/** One of each token: where the registry refuses one, the others go on. */
export const shareFeeds = (tokens: readonly SharedToken[]): readonly Feed[] =>
  tokens.map((token) => ({ name: 'sessions', run: (client, signal) => follow(client, token, signal) }));

/** The host stops: what it holds is free once it is gone. */
export const leaveShares = async (
  registry: { call<Req, Res>(method: Method<Req, Res>, request: Req): Promise<Res> },
  tokens: readonly SharedToken[],
): Promise<void> => {
  const questions = tokens.filter(({ isLimited }) => isLimited).flatMap((token) => token.leave() ?? []);
  await Promise.all(
    questions.map((question) => registry.call(SessionsServiceService.leaseSessions, requestOf(question, true))),
  );
};
