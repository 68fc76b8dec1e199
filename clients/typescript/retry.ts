// When a failed call is made again, and after how long. Invariant: a call that could act twice is never repeated by
// the client, whatever the error says.
import type { RotateKeyRequest, UpdateKeyRequest } from '../../proto/gen/mortise/agent/v1/keys.ts';
import type { BatchRequest } from '../../proto/gen/mortise/agent/v1/pipeline.ts';
import type { MortiseError } from './errors.ts';
import type { MethodName, RequestOf } from './methods.ts';

/** How often and how patiently safe calls are repeated. All waits end at the call's deadline. */
export interface RetryOptions {
  /** Attempts in all, the first included. Default 10; 1 switches repeats off. */
  readonly maxAttempts?: number;
  /** Wait before the second attempt, in milliseconds; doubles with each. Default 50. */
  readonly initialDelayMs?: number;
  /** Longest wait between two attempts, in milliseconds, unless the agent asks for a longer one. Default 2000. */
  readonly maxDelayMs?: number;
}

/** RetryOptions with every default filled in. */
export type RetryLimits = Required<RetryOptions>;

// Ten attempts span about nine seconds: an agent that restarts or a token process that comes back is waited out
// within the default deadline of ten.
export const RETRY_DEFAULTS: RetryLimits = Object.freeze({ maxAttempts: 10, initialDelayMs: 50, maxDelayMs: 2000 });
export const NO_RETRY: RetryLimits = Object.freeze({ ...RETRY_DEFAULTS, maxAttempts: 1 });

type Rules = { readonly [Name in MethodName]: boolean | ((request: RequestOf<Name>) => boolean) };

/** May this call be made again when nobody knows whether the first one acted? One row per rpc. */
export const SAFE_TO_REPEAT: Rules = Object.freeze({
  encrypt: true,
  decrypt: true,
  sign: true,
  verify: true,
  mac: true,
  verifyMac: true,
  generateRandom: true,
  encryptTo: true,
  verifyWith: true,
  encryptGeneral: true,
  reEncrypt: true,
  rewrap: true,
  reSign: true,
  generateDataKey: true,
  decryptDataKey: true,
  createKey: true, // idempotent by key id
  getKey: true,
  listKeys: true,
  updateKey: (request: UpdateKeyRequest) => request.revision !== 0n, // else it could undo somebody's later change
  rotateKey: (request: RotateKeyRequest) => request.expectedVersion !== 0, // else it could rotate twice
  suspendKey: true,
  resumeKey: true,
  revokeKey: true,
  destroyKey: true,
  restoreKey: true,
  getPublicKey: true,
  rotateTenantKek: false, // a run that ended before the connection broke would be followed by a second one
  getImportKey: true,
  importKey: false, // the import key is used up by the first one
  whoAmI: true,
  getStatus: true,
  explain: true,
  listRecords: true,
  tailRecords: true, // goes on after the last record that arrived
  getCheckpoint: true,
  verifyLog: true,
  getReceipt: true,
  batch: ({ calls }: BatchRequest) =>
    calls.every(({ request }) => request === undefined || isSafeToRepeat(request.$case, request.value)),
  checkHealth: true,
});

/** Whether a call of this name and content may be repeated. */
export const isSafeToRepeat = <Name extends MethodName>(name: Name, request: RequestOf<Name>): boolean => {
  const rule = SAFE_TO_REPEAT[name] as boolean | ((request: RequestOf<Name>) => boolean);
  return typeof rule === 'function' ? rule(request) : rule;
};

/**
 * Milliseconds to wait before attempt number `attempt` + 1: exponential, with jitter over the upper half so that
 * callers that failed together do not come back together, and never less than the agent asked for.
 */
export const delayBefore = (
  attempt: number,
  error: Pick<MortiseError, 'retryAfterMs'>,
  limits: RetryLimits,
  random: number,
): number => {
  const step = Math.min(limits.maxDelayMs, limits.initialDelayMs * 2 ** (attempt - 1));
  return Math.max(step * (0.5 + random / 2), error.retryAfterMs ?? 0);
};
