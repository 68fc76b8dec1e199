// Records the refusals of callers who are nobody yet in the host's own log. Bounded per uid, so that a stranger cannot
// fill the disk or bury the tenants' records; what was left out is counted in that uid's next record.
import type { Clock } from '../clock.ts';
import { TokenBucket } from './token-bucket.ts';
import { type Peer, PLATFORM_TENANT } from './types.ts';

const RATE = { perSecond: 1, burst: 50 }; // 86,400 records a day at most, from a uid that does nothing else
const MAX_UIDS = 1024;

export interface Refusal {
  readonly peer: Peer;
  readonly operation: string;
  readonly code: string;
  readonly correlationId: string;
}

/** The part of the audit log that is needed here. */
export interface RefusalLog {
  append(event: {
    readonly tenant: string;
    readonly principal: string;
    readonly key: string;
    readonly algorithm: string;
    readonly operation: string;
    readonly outcome: string;
    readonly correlationId: string;
    readonly detail: Readonly<Record<string, unknown>>;
  }): Promise<unknown>;
}

/** Resolves when the refusal is recorded or counted; rejects with AUDIT_UNAVAILABLE. */
export type RecordRefusal = (refusal: Refusal) => Promise<void>;

export const createRefusalRecorder = (parts: { readonly audit: RefusalLog; readonly clock: Clock }): RecordRefusal => {
  const uids = new Map<number, { bucket: TokenBucket; suppressed: number }>();
  let forgotten = 0; // suppressed refusals of uids that had to make room
  const stateOf = (uid: number, now: number) => {
    const known = uids.get(uid);
    if (known !== undefined) return known;
    const [oldest] = uids.size >= MAX_UIDS ? uids : [];
    if (oldest !== undefined) {
      forgotten += oldest[1].suppressed;
      uids.delete(oldest[0]);
    }
    const fresh = { bucket: new TokenBucket(RATE, now), suppressed: 0 };
    uids.set(uid, fresh);
    return fresh;
  };
  return async ({ peer, operation, code, correlationId }) => {
    const now = parts.clock.now();
    const state = stateOf(peer.uid, now);
    if (state.bucket.take(RATE, now) > 0) {
      state.suppressed += 1;
      return;
    }
    const suppressed = state.suppressed + forgotten;
    state.suppressed = 0;
    forgotten = 0;
    try {
      await parts.audit.append({
        tenant: PLATFORM_TENANT,
        principal: '-',
        key: '-',
        algorithm: '-',
        operation,
        outcome: code,
        correlationId,
        detail: { uid: peer.uid, gid: peer.gid, pid: peer.pid, ...(suppressed > 0 && { suppressed }) },
      });
    } catch (error) {
      state.suppressed += suppressed + 1;
      throw error;
    }
  };
};
