// What bounds the rate of calls.

export interface RateLimitPort {
  /** Takes one operation of the tenant; throws RATE_LIMITED with a wait. */
  take(tenant: string): void;
}
