// How each part is, in one place for the health service, GetStatus and the metrics.
import { getFips } from 'node:crypto';
import { TENANT_PATTERN } from '../../proto/documents/key-record.ts';
import type { AuditSlot } from '../assembly/audit-slot.ts';
import type { Clock } from '../clock.ts';
import type { Keys } from '../keys/keys.ts';
import type { AgentState, StatusPort } from '../operations/ports/status.ts';
import type { Policy } from '../policy/policy.ts';
import type { Recorder } from './recorder.ts';
import type { TokenRouter } from './token-router.ts';
import { tokenPart, tokenStates, tokenView } from './token-states.ts';

export interface HealthParts {
  readonly token: TokenRouter;
  readonly audit: AuditSlot;
  readonly policy: Policy;
  readonly keys: Pick<Keys, 'health'>;
  /** Undefined where the agent stands alone. */
  readonly registry?: { health(tenant: string): PartState } | undefined;
  readonly recorder: Recorder;
  readonly clock: Clock;
  readonly version: string;
  readonly hostId: string;
  readonly startedAt: number;
}

export type PartState = AgentState['parts'][number];

const PLATFORM_TENANT = '_platform';

/** May a caller of `tenant` be told of what is wrong with a part of `of`? */
export const concernsTenant = (of: string, tenant: string): boolean =>
  tenant === PLATFORM_TENANT || of === tenant || of === PLATFORM_TENANT;

/** A damaged log is told to its own tenant and to the platform; that of the platform, and of the whole store, to all. */
const auditState = ({ audit }: HealthParts, tenant: string): PartState => {
  const health = audit.log?.health();
  if (health === undefined) return { part: 'audit', healthy: false, detail: 'not open yet: it needs the token' };
  const { corrupt, writable, degraded } = health;
  const concerns = (of: string): boolean => concernsTenant(of, tenant) || !TENANT_PATTERN.test(of);
  const told = corrupt.filter(concerns);
  if (told.length === corrupt.length || (!writable && told.length === 0)) {
    return { part: 'audit', healthy: health.ok, detail: health.why ?? degraded ?? 'records are written' };
  }
  if (told.length === 0) return { part: 'audit', healthy: true, detail: degraded ?? 'records are written' };
  return { part: 'audit', healthy: false, detail: `the audit log of ${told.join(', ')} does not verify` };
};

const keysState = ({ keys }: HealthParts): PartState => {
  const { ok, damaged } = keys.health();
  if (!ok) return { part: 'keys', healthy: false, detail: 'not authenticated yet: that needs the token' };
  const detail = damaged === 0 ? 'key records are authentic' : `${damaged} stored rows are damaged; their keys are off`;
  return { part: 'keys', healthy: damaged === 0, detail };
};

/** A policy folder with a fault in it does not stop the agent while what is in force is valid and fresh. */
const decides = ({ policy }: HealthParts): boolean => {
  const { policies } = policy.status(PLATFORM_TENANT);
  return policies.length > 0 && policies.every(({ stale, expiresAt }) => !stale && Date.now() < expiresAt);
};

/** Every part as it is now, as the tenant may see it: no other tenant's name. Never throws. */
export const partStates = (parts: HealthParts, tenant = PLATFORM_TENANT): readonly PartState[] => {
  const policy = parts.policy.status(tenant);
  return [
    { part: 'policy', healthy: policy.healthy, detail: policy.detail },
    keysState(parts),
    tokenPart(parts.token, tenant),
    auditState(parts, tenant),
    ...(parts.registry === undefined ? [] : [parts.registry.health(tenant)]),
  ];
};

export const createStatus = (parts: HealthParts): StatusPort => ({
  state: (tenant) => {
    const { policies, fipsBoundary } = parts.policy.status(tenant);
    return {
      version: parts.version,
      host: parts.hostId,
      startedAt: parts.startedAt,
      parts: partStates(parts, tenant),
      policies,
      token: tokenView(parts.token.of(tenant)),
      tokens: tokenStates(parts.token, tenant, parts.clock.now()),
      fipsBoundary,
      opensslFips: getFips() === 1,
    };
  },
});

/** What probes are told: a part that is not well may serve all the same. */
const serves = (parts: HealthParts, { part, healthy }: PartState): boolean => {
  if (part === 'policy') return decides(parts);
  // Damaged rows take their own keys away, and a damaged log stops its own tenant, nobody else.
  if (part === 'keys') return parts.keys.health().ok;
  if (part === 'registry') return true; // operations go on without it, under the lease of their policy
  if (part === 'token') return parts.token.all.some(({ slot }) => slot.health().healthy); // others have their own
  return part === 'audit' ? takesRecords(parts) : healthy;
};

/** Without the log of the platform nothing of the agent's own can be recorded. */
const takesRecords = ({ audit }: HealthParts): boolean => {
  const health = audit.log?.health();
  return health?.writable === true && !health.corrupt.includes(PLATFORM_TENANT);
};

const TICK_MS = 1_000; // how late a policy that goes stale or a disk that fills up is noticed by probes

/** Tells the health of every part, now and once a second; `serving` is what probes are told. */
export const watchHealth = (
  parts: HealthParts,
  tell: (state: PartState & { readonly serving: boolean }) => void,
): { refresh(): void; close(): Promise<void> } => {
  let closed = false;
  const refresh = (): void => {
    if (closed) return;
    for (const state of partStates(parts)) tell({ ...state, serving: serves(parts, state) });
  };
  const timer = setInterval(() => {
    refresh();
    void parts.token.tryOtherPin();
    void parts.recorder.flush();
  }, TICK_MS);
  timer.unref();
  refresh();
  return {
    refresh,
    close: async () => {
      closed = true;
      clearInterval(timer);
    },
  };
};
