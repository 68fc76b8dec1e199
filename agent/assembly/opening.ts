// The second half of the start, which needs the token: policy and audit log, then the stored keys, then the gate. Each
// step is tried until it succeeds; calls are told meanwhile what is missing. Invariant: the keys are read after the audit
// log has claimed the data folder, so no agent that is still ending writes to it, and before the gate opens.
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { openAuditLog } from '../audit/log.ts';
import { openTokenKeys } from '../audit/token-keys.ts';
import type { AuditEvents, AuditLog } from '../audit/types.ts';
import type { Clock } from '../clock.ts';
import type { Config } from '../config/config.ts';
import { AgentError, asAgentError, type Code } from '../errors.ts';
import type { Keys } from '../keys/keys.ts';
import { openSealingKey, type SealingEvents } from '../keys/sealing-key.ts';
import type { Policy } from '../policy/policy.ts';
import type { AuditSlot } from './audit-slot.ts';
import type { Gate } from './gate.ts';
import type { TokenRouter } from './token-router.ts';

export interface OpeningParts {
  readonly config: Config;
  readonly clock: Clock;
  readonly token: TokenRouter;
  readonly policy: Policy;
  readonly audit: AuditSlot;
  readonly keys: Keys;
  readonly gate: Gate;
  readonly auditEvents: AuditEvents;
  readonly keysEvents: SealingEvents;
  readonly waiting: (event: { part: string; reason: unknown; waitMs: number }) => void;
  readonly signal: AbortSignal;
  /** The stage's name, when it has ended. */
  readonly passed: (stage: string) => void;
}

const FIRST_WAIT_MS = 500;
const MAX_WAIT_MS = 15_000;

const openLog = async ({ config, clock, token, policy, auditEvents }: OpeningParts): Promise<AuditLog> => {
  const { hostId: host, dataDir, audit } = config;
  const keys = await openTokenKeys({ token, host, now: () => clock.now() });
  return openAuditLog({
    path: join(dataDir, 'audit'),
    host,
    clock,
    durability: (tenant) => policy.durability(tenant),
    token: keys,
    events: auditEvents,
    limits: {
      mapSize: audit.mapSizeBytes,
      checkpointRecords: audit.checkpointRecords,
      checkpointSeconds: audit.checkpointSeconds,
    },
  });
};

/** The stored keys are the agent's own, or they are not served. */
const unlockKeys = async ({ config, clock, token, keys, keysEvents }: OpeningParts): Promise<void> => {
  const { hostId: host } = config;
  const { store } = keys;
  keys.unlock(await openSealingKey({ token, host, now: () => clock.now(), events: keysEvents, store }));
};

/** Tries until it succeeds: no space, no token, or a former agent that has not let go of the folder yet. */
const inTheEnd = async <T>(
  parts: OpeningParts,
  step: { readonly part: 'audit' | 'keys'; readonly code: Code; readonly message: string },
  attempt: (parts: OpeningParts) => Promise<T>,
): Promise<T> => {
  for (let waitMs = FIRST_WAIT_MS; ; waitMs = Math.min(MAX_WAIT_MS, waitMs * 2)) {
    try {
      return await attempt(parts);
    } catch (thrown) {
      const { code } = asAgentError(thrown);
      const { part, message } = step;
      parts.gate.block(new AgentError(code === 'INTERNAL' ? step.code : code, { message, cause: thrown }));
      parts.waiting({ part, reason: thrown, waitMs });
      await sleep(waitMs, undefined, { signal: parts.signal });
    }
  }
};
const AUDIT = { part: 'audit', code: 'AUDIT_UNAVAILABLE', message: 'the agent cannot open its audit log yet' } as const;
const KEYS = { part: 'keys', code: 'STORE_UNAVAILABLE', message: 'the agent cannot open its stored keys yet' } as const;

/** Resolves when everything is there but the gate is still shut. Rejects only when the agent ends. */
export const openAll = async (parts: OpeningParts): Promise<void> => {
  const { token, policy, audit, gate, signal, passed } = parts;
  await token.start(() =>
    gate.block(new AgentError('HSM_UNAVAILABLE', { message: 'the agent waits for its token; its log says why' })),
  );
  passed('token');
  signal.throwIfAborted();
  const [log] = await Promise.all([inTheEnd(parts, AUDIT, openLog), policy.reload()]);
  audit.set(log);
  await inTheEnd(parts, KEYS, unlockKeys);
  passed('policyAndAudit');
  policy.watch();
  await policy.recordPending();
};
