// The KMS v2 service: proto ↔ plain values, and what Status says. Invariants: Status waits for nothing, so a token or a
// disk that is slow cannot make the API server's poll time out; "ok" means that an Encrypt and a Decrypt would be let
// through now and that the token has answered lately.
import type {
  DecryptRequest,
  DecryptResponse,
  EncryptRequest,
  EncryptResponse,
  StatusResponse,
} from '../../../proto/gen/kubernetes/kms/v2/api.ts';
import { asAgentError, type Code } from '../../errors.ts';
import { kmsDecrypt, kmsEncrypt, kmsState } from '../../operations/kubernetes-kms.ts';
import type { Ports } from '../../operations/perform.ts';
import type { Call } from '../../operations/ports/call.ts';
import { acceptedCorrelationId } from '../call-metadata.ts';

const VERSION = 'v2';
const MAX_HEALTHZ = 256;

export interface KmsHandlerParts {
  readonly ports: Ports;
  /** Name of the key to encrypt with. */
  readonly key: string;
  /** Resolves when policy, log and keys are there; rejects with what the agent waits for. */
  readonly opened: () => Promise<void>;
  /** Why nothing can be answered before that; undefined once it is there. */
  readonly notOpen: () => string | undefined;
  /** What is wrong with a part that every operation needs. */
  readonly problem: () => string | undefined;
  /** An operation ended in a way that a token which does not answer would bring about. */
  readonly suspect: () => void;
}

const SUSPICIOUS: ReadonlySet<Code> = new Set(['HSM_UNAVAILABLE', 'HSM_BUSY', 'DEADLINE_EXCEEDED', 'INTERNAL']);

/** The request's own id, where it may stand in logs. */
const identified = (call: Call, uid: string): Call => ({
  ...call,
  correlationId: acceptedCorrelationId(uid) ?? call.correlationId,
});

const watched = async <T>({ opened, suspect }: KmsHandlerParts, act: () => Promise<{ value: T }>): Promise<T> => {
  await opened();
  try {
    return (await act()).value;
  } catch (thrown) {
    if (SUSPICIOUS.has(asAgentError(thrown).code)) suspect();
    throw thrown;
  }
};

export const kmsHandlers = (parts: KmsHandlerParts) => ({
  status: async (call: Call): Promise<StatusResponse> => {
    const { ports, key, notOpen, problem } = parts;
    const waiting = notOpen();
    if (waiting !== undefined) return { version: VERSION, healthz: waiting.slice(0, MAX_HEALTHZ), keyId: '' };
    const { keyId, refusal } = kmsState(ports, call, key);
    const wrong = refusal === undefined ? problem() : `${refusal.code}: ${refusal.message}`;
    return { version: VERSION, healthz: wrong?.slice(0, MAX_HEALTHZ) ?? 'ok', keyId };
  },
  encrypt: async (call: Call, { plaintext, uid }: EncryptRequest): Promise<EncryptResponse> => {
    const { ports, key } = parts;
    const sealed = await watched(parts, () => kmsEncrypt(ports, identified(call, uid), { key, plaintext }));
    return { ...sealed, annotations: { ...sealed.annotations } };
  },
  decrypt: (call: Call, { uid, ...sealed }: DecryptRequest): Promise<DecryptResponse> =>
    watched(parts, () => kmsDecrypt(parts.ports, identified(call, uid), sealed)),
});
