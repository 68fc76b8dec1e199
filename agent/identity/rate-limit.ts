// The rate limit of each tenant, as its policy sets it. One bucket per tenant, so a flood of one costs no other.
import type { Clock } from '../clock.ts';
import { AgentError } from '../errors.ts';
import { TokenBucket } from './token-bucket.ts';

export interface RateLimits {
  readonly operationsPerSecond: number;
  readonly burst: number;
}

export interface RateLimiter {
  /** Takes one operation; RATE_LIMITED with the wait where none is left. */
  take(tenant: string): void;
}

export const createRateLimiter = (parts: {
  readonly clock: Clock;
  /** Undefined: no limit. */
  readonly limits: (tenant: string) => RateLimits | undefined;
}): RateLimiter => {
  const buckets = new Map<string, TokenBucket>(); // tenants come from authenticated callers: as many as policy names
  return {
    take: (tenant) => {
      const limits = parts.limits(tenant);
      if (limits === undefined) return;
      const rate = { perSecond: limits.operationsPerSecond, burst: limits.burst };
      const now = parts.clock.now();
      let bucket = buckets.get(tenant);
      if (bucket === undefined) {
        bucket = new TokenBucket(rate, now);
        buckets.set(tenant, bucket);
      }
      const retryAfterMs = bucket.take(rate, now);
      if (retryAfterMs > 0) throw new AgentError('RATE_LIMITED', { retryAfterMs });
    },
  };
};
