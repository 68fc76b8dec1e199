// Lets each opening of a stream in once: fresh by its time, and its nonce not seen before. Invariant: what was let in is
// remembered on disk for as long as its time counts as now, so that neither a repeat nor a restart lets it in again.
import type { Clock } from '../clock.ts';
import { AgentError } from '../errors.ts';
import type { ReplayMemory } from './replay.ts';

/** Program and agent share a host and its clock; a minute is for virtual machines that were paused. */
const FRESH_MS = 60_000;
const KIND = 'stream-opening'; // no issuer of tokens has this name: theirs are URLs

export interface Opening {
  readonly tenant: string;
  readonly principal: string;
  readonly nonce: Buffer;
  /** Milliseconds since 1970, as the client says. */
  readonly timestamp: number;
}

export interface Openings {
  take(opening: Opening): Promise<void>;
}

export const createOpenings = (parts: { readonly replay: ReplayMemory; readonly clock: Clock }): Openings => ({
  take: async ({ tenant, principal, nonce, timestamp }) => {
    if (!(Math.abs(parts.clock.now() - timestamp) <= FRESH_MS)) {
      throw new AgentError('OPENING_REFUSED', { message: 'the opening of the stream is not of this minute' });
    }
    const id = JSON.stringify([tenant, principal, nonce.toString('base64url')]);
    const isFirst = await parts.replay.take({ issuer: KIND, id, expiresAt: timestamp + FRESH_MS + 1 });
    if (!isFirst) throw new AgentError('OPENING_REFUSED', { message: 'the opening of the stream was used before' });
  },
});
