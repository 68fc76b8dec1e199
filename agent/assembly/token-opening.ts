// How the agent opens its tokens: the options from the configuration, and what else hears of a token process's life.
import { join } from 'node:path';
import type { Clock } from '../clock.ts';
import type { Config } from '../config/config.ts';
import { type CommandEnded, readPin } from '../config/pin-source.ts';
import type { TokenEntry } from '../config/tokens-file.ts';
import type { Events } from '../telemetry/events.ts';
import type { TokenEvents } from '../token/events.ts';
import { openToken } from '../token/token.ts';
import type { TokenOptions } from '../token/token-options.ts';
import { PinGuard } from './pin-guard.ts';
import type { Recorder } from './recorder.ts';
import { shareFile } from './remembered-share.ts';
import { SessionShare } from './session-share.ts';
import { TokenRouter } from './token-router.ts';
import { notePin, TokenSlot } from './token-slot.ts';

const COMMAND_QUIET_MS = 30_000; // between two runs that only look whether the PIN was replaced
const GENERATE_FACTOR = 12; // RSA-4096 in a smart card

/** The token's events, with what the agent itself does at some of them: restarts are audited, a refused PIN is kept. */
export const tokenListener = (parts: {
  readonly name: string;
  readonly events: TokenEvents;
  readonly pin: PinGuard;
  readonly recorder: Recorder;
  /** The token came or went. */
  readonly changed: () => void;
}): TokenEvents => {
  const { name, events, pin, recorder, changed } = parts;
  let ready = false;
  let lost: { readonly pid: number; readonly signal: string | null; readonly code: number | null } | undefined;
  return {
    ...events,
    tokenExited: (event) => {
      // A process that did not come up was ended by us; why is told by who waits for it.
      events.tokenExited(ready ? event : { ...event, expected: true });
      if (ready && !event.expected) lost = event;
      ready = false;
      changed();
    },
    tokenReady: (event) => {
      events.tokenReady(event);
      if (lost !== undefined) {
        const { pid, signal, code } = lost;
        void recorder.record('token-restart', { token: name, pid: event.pid, previous: pid, signal, code });
      }
      lost = undefined;
      ready = true;
      changed();
    },
    tokenLoginRefused: (event) => {
      notePin(pin, event.reason);
      events.tokenLoginRefused(event);
      changed();
    },
  };
};

/** What the token room is told of a token of the configuration; who opens it adds events and what it keeps. */
export const tokenOptions = (parts: {
  readonly entry: TokenEntry;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly pin: () => Promise<Buffer>;
}): Omit<TokenOptions, 'events'> => {
  const { entry, environment, pin } = parts;
  const { library, label, slotIndex, sessions, disabledMechanisms, callMs, startMs, recoveryMs } = entry;
  return {
    library,
    slotIndex,
    pin,
    sessions,
    acquireTimeoutMs: entry.sessionTimeoutMs,
    disabledMechanisms,
    environment: { ...environment, ...entry.environment },
    limits: { operationMs: callMs, generateMs: GENERATE_FACTOR * callMs, startMs, recoveryMs },
    ...(label !== undefined && { tokenLabel: label }),
  };
};

/** The first of the agent's own tokens keeps the name that the file had when there was one token. */
const selfTestFile = ({ dataDir, token }: Config, { name }: TokenEntry): string =>
  join(dataDir, name === token.name ? 'token-self-test' : `token-self-test-${name}`);

/** Undefined where the agent stands alone. */
const shareOf = (
  { dataDir, registry, fallbackSessions: fallback }: Config,
  { name, sessions: pool }: TokenEntry,
  parts: Pick<ConstructorParameters<typeof SessionShare>[0], 'clock' | 'events' | 'token'>,
): SessionShare | undefined =>
  registry && new SessionShare({ ...parts, name, pool, fallback, file: shareFile(dataDir, name) });

/** Makes the slot of each token, and the one token that the rest of the agent sees. Nothing is started. */
export const routeTokens = (parts: {
  readonly config: Config;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly clock: Clock;
  readonly events: Pick<Events, 'agent' | 'token'>;
  readonly recorder: Recorder;
  /** A token came or went. */
  readonly changed: () => void;
}): TokenRouter => {
  const { config, environment, clock, events, recorder, changed } = parts;
  const ended = (event: CommandEnded): void => events.agent.pinCommandEnded(event);
  const slots = config.tokens.map((entry) => {
    const read = () => readPin(entry.pin, { environment, ended });
    const pin = new PinGuard({ read, quietMs: entry.pin.kind === 'command' ? COMMAND_QUIET_MS : 0 });
    const ofToken = events.token(entry.name); // once: its gauges are read of the last
    const told = tokenListener({ name: entry.name, events: ofToken, pin, recorder, changed });
    const options = { ...tokenOptions({ entry, environment, pin: () => pin.take() }), clock, events: told };
    const share = shareOf(config, entry, { clock, events: ofToken, token: () => slot.token });
    const open = () => {
      const limit = share?.limit;
      const limited = limit === undefined ? {} : { sessionLimit: limit };
      return openToken({ ...options, ...limited, selfTestFile: selfTestFile(config, entry) });
    };
    const { name } = entry;
    const slot: TokenSlot = new TokenSlot({
      name,
      open,
      pin,
      share,
      events: events.agent,
      maxWaitMs: entry.recoveryMs,
    });
    return { name: entry.name, tenants: entry.tenants, certificate: entry.certificate, slot };
  });
  return new TokenRouter({ slots, agent: config.token.name });
};
