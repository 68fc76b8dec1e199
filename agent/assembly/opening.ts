// The second half of the start, which needs the token: policy, then audit log, then the gate. Each step is tried until
// it succeeds; calls are told meanwhile what is missing.
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { openAuditLog } from '../audit/log.ts';
import { openTokenKeys } from '../audit/token-keys.ts';
import type { AuditEvents, AuditLog } from '../audit/types.ts';
import type { Clock } from '../clock.ts';
import type { Config } from '../config/config.ts';
import { AgentError, asAgentError } from '../errors.ts';
import type { Policy } from '../policy/policy.ts';
import type { AuditSlot } from './audit-slot.ts';
import type { Gate } from './gate.ts';
import type { TokenSlot } from './token-slot.ts';

export interface OpeningParts {
  readonly config: Config;
  readonly clock: Clock;
  readonly token: TokenSlot;
  readonly policy: Policy;
  readonly audit: AuditSlot;
  readonly gate: Gate;
  readonly auditEvents: AuditEvents;
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

/** Until it is open: no space, no token, or a former agent that has not let go of the folder yet. */
const openLogInTheEnd = async (parts: OpeningParts): Promise<AuditLog> => {
  for (let waitMs = FIRST_WAIT_MS; ; waitMs = Math.min(MAX_WAIT_MS, waitMs * 2)) {
    try {
      return await openLog(parts);
    } catch (thrown) {
      const { code } = asAgentError(thrown);
      const message = 'the agent cannot open its audit log yet';
      parts.gate.block(new AgentError(code === 'INTERNAL' ? 'AUDIT_UNAVAILABLE' : code, { message, cause: thrown }));
      parts.waiting({ part: 'audit', reason: thrown, waitMs });
      await sleep(waitMs, undefined, { signal: parts.signal });
    }
  }
};

/** Resolves when everything is there but the gate is still shut. Rejects only when the agent ends. */
export const openAll = async (parts: OpeningParts): Promise<void> => {
  const { token, policy, audit, gate, signal, passed } = parts;
  await token.start(() =>
    gate.block(new AgentError('HSM_UNAVAILABLE', { message: 'the agent waits for its token; its log says why' })),
  );
  passed('token');
  signal.throwIfAborted();
  const [log] = await Promise.all([openLogInTheEnd(parts), policy.reload()]);
  audit.set(log);
  passed('policyAndAudit');
  policy.watch();
  await policy.recordPending();
};
