// Opens the token room on a throw-away SoftHSM, with its events recorded.
import { readFile } from 'node:fs/promises';
import type { Duplex } from 'node:stream';
import type { TestContext } from 'node:test';
import { Child } from '../../agent/token/child.ts';
import type { TokenEvents } from '../../agent/token/events.ts';
import { openToken, type Token } from '../../agent/token/token.ts';
import type { TokenOptions } from '../../agent/token/token-options.ts';
import type { SoftHsm } from './softhsm.ts';

export interface RecordedEvent {
  readonly name: keyof TokenEvents;
  readonly event: unknown;
}

/** Events as they come; `next` resolves with the first of a name from now on. */
export const recordTokenEvents = (): {
  readonly events: TokenEvents;
  readonly seen: RecordedEvent[];
  next<Name extends keyof TokenEvents>(name: Name): Promise<Parameters<TokenEvents[Name]>[0]>;
} => {
  const seen: RecordedEvent[] = [];
  const waiting: { name: string; resolve: (event: never) => void }[] = [];
  const events = new Proxy({} as TokenEvents, {
    get: (_, name) => (event: unknown) => {
      seen.push({ name: name as keyof TokenEvents, event });
      for (const row of waiting.filter((one) => one.name === name)) {
        waiting.splice(waiting.indexOf(row), 1);
        row.resolve(event as never);
      }
    },
  });
  return {
    events,
    seen,
    next: (name) => new Promise((resolve) => waiting.push({ name, resolve })),
  };
};

const ignore = (): void => {};
/** For measuring: nothing is recorded. */
export const ignoredTokenEvents: TokenEvents = {
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

/** The PIN file as the agent reads it. */
export const pinOf = (hsm: SoftHsm) => async (): Promise<Buffer> => {
  const file = await readFile(hsm.pinFile);
  const pin = Buffer.from(file.subarray(0, file.indexOf(10)));
  file.fill(0);
  return pin;
};

export const softHsmOptions = (hsm: SoftHsm, events: TokenEvents): TokenOptions => ({
  library: hsm.library,
  tokenLabel: hsm.label,
  pin: pinOf(hsm),
  sessions: 4,
  acquireTimeoutMs: 30_000,
  environment: { PATH: '/usr/bin:/bin', ...hsm.env },
  events,
});

export const openSoftHsmToken = (
  hsm: SoftHsm,
  change: Partial<TokenOptions> = {},
  events: TokenEvents = recordTokenEvents().events,
): Promise<Token> => openToken({ ...softHsmOptions(hsm, events), ...change });

/** The sockets of the sessions' channels, by index. */
export const captureChannels = (t: TestContext): Map<number, Duplex> => {
  const sockets = new Map<number, Duplex>();
  const original = Child.prototype.channel;
  t.mock.method(Child.prototype, 'channel', function capture(this: Child, index: number): Duplex {
    const socket = original.call(this, index);
    sockets.set(index, socket);
    return socket;
  });
  return sockets;
};
