// Remembers tokens that verified, by their SHA-256, so that a signature is checked once and not per call. Invariants:
// an entry lives at most as long as the policy says and never past the token's own exp; the tokens are not kept.
import { hash } from 'node:crypto';
import type { Clock } from '../clock.ts';
import type { VerifiedToken } from './jwt.ts';

const MAX_ENTRIES = 10_000; // about 5 MB; the oldest goes first

export interface TokenCache {
  get(digest: string): VerifiedToken | undefined;
  put(digest: string, verified: VerifiedToken, lifetimeSeconds: number): void;
  clear(): void;
}

/** What the cache knows a token by. */
export const tokenDigest = (token: string): string => hash('sha256', token, 'base64url');

export const createTokenCache = ({
  clock,
  maxEntries = MAX_ENTRIES,
}: {
  clock: Clock;
  maxEntries?: number;
}): TokenCache => {
  const entries = new Map<string, { readonly verified: VerifiedToken; readonly until: number }>();
  return {
    get: (digest) => {
      const entry = entries.get(digest);
      if (entry === undefined) return undefined;
      if (clock.now() < entry.until) return entry.verified;
      entries.delete(digest);
      return undefined;
    },
    put: (digest, verified, lifetimeSeconds) => {
      if (lifetimeSeconds <= 0) return;
      entries.delete(digest);
      const [oldest] = entries.size >= maxEntries ? entries.keys() : [];
      if (oldest !== undefined) entries.delete(oldest);
      entries.set(digest, { verified, until: Math.min(clock.now() + lifetimeSeconds * 1000, verified.expiresAt) });
    },
    clear: () => entries.clear(),
  };
};
