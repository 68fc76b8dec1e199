// Remembers tokens that verified, by their SHA-256, so that a signature is checked once and not per call. Invariants:
// an entry lives at most as long as the policy says and never past the token's own exp; the tokens are not kept.
import { hash } from 'node:crypto';
import type { Clock } from '../clock.ts';
import type { VerifiedToken } from './jwt.ts';

const MAX_ENTRIES = 10_000; // about 5 MB; the oldest goes first

export interface TokenCache {
  get(token: string): VerifiedToken | undefined;
  put(token: string, verified: VerifiedToken, lifetimeSeconds: number): void;
  clear(): void;
}

export const createTokenCache = ({
  clock,
  maxEntries = MAX_ENTRIES,
}: {
  clock: Clock;
  maxEntries?: number;
}): TokenCache => {
  const entries = new Map<string, { readonly verified: VerifiedToken; readonly until: number }>();
  const keyOf = (token: string): string => hash('sha256', token, 'base64url');
  return {
    get: (token) => {
      const key = keyOf(token);
      const entry = entries.get(key);
      if (entry === undefined) return undefined;
      if (clock.now() < entry.until) return entry.verified;
      entries.delete(key);
      return undefined;
    },
    put: (token, verified, lifetimeSeconds) => {
      if (lifetimeSeconds <= 0) return;
      const key = keyOf(token);
      entries.delete(key);
      const [oldest] = entries.size >= maxEntries ? entries.keys() : [];
      if (oldest !== undefined) entries.delete(oldest);
      entries.set(key, { verified, until: Math.min(clock.now() + lifetimeSeconds * 1000, verified.expiresAt) });
    },
    clear: () => entries.clear(),
  };
};
