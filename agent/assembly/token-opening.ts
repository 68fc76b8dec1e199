// How the agent opens its token: the options from the configuration, and what else hears of the token process's life.
import { join } from 'node:path';
import type { Clock } from '../clock.ts';
import type { Config } from '../config/config.ts';
import type { TokenEvents } from '../token/events.ts';
import type { TokenOptions } from '../token/token-options.ts';
import type { PinGuard } from './pin-guard.ts';
import type { Recorder } from './recorder.ts';
import { notePin } from './token-slot.ts';

/** The token's events, with what the agent itself does at some of them: restarts are audited, a refused PIN is kept. */
export const tokenListener = (parts: {
  readonly events: TokenEvents;
  readonly pin: PinGuard;
  readonly recorder: Recorder;
  /** The token came or went. */
  readonly changed: () => void;
}): TokenEvents => {
  const { events, pin, recorder, changed } = parts;
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
        void recorder.record('token-restart', { pid: event.pid, previous: pid, signal, code });
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

export const tokenOptions = (parts: {
  readonly config: Config;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly pin: PinGuard;
  readonly clock: Clock;
  readonly events: TokenEvents;
}): TokenOptions => {
  const { config, environment, pin, clock, events } = parts;
  const { library, label, slotIndex, sessions, sessionTimeoutMs, disabledMechanisms } = config.token;
  return {
    library,
    slotIndex,
    pin: () => pin.take(),
    sessions,
    acquireTimeoutMs: sessionTimeoutMs,
    disabledMechanisms,
    environment,
    selfTestFile: join(config.dataDir, 'token-self-test'),
    clock,
    events,
    ...(label !== undefined && { tokenLabel: label }),
  };
};
