// The content key of one stream for a client that works on its chunks itself (docs/spec/chunked.md, "Local streams").
// Invariant: no key leaves unless policy has `streams.localKeys`, and both policy and the grants of the key would let the
// caller have a data key too.
import { grantsAllow, type KeyRecord, type KeyVersionRecord } from '../../../proto/documents/key-record.ts';
import type { HandedOut } from '../../crypto/chunked-keys.ts';
import { AgentError, invalid } from '../../errors.ts';
import type { Ports, Run } from '../perform.ts';
import type { StreamWork } from './perform-stream.ts';
import type { StreamInput } from './stream-input.ts';

/** What the client wants. */
export type LocalKeyWish = 'no' | 'if-allowed' | 'required';

interface LocalKeyQuestion {
  readonly wish: LocalKeyWish;
  readonly key: KeyRecord;
  readonly version: KeyVersionRecord | undefined;
  /** The operation that gives out keys in the same direction. */
  readonly as: 'generate-data-key' | 'decrypt-data-key';
}

const denied = (message: string, rule: string): AgentError =>
  new AgentError('POLICY_DENIED', { message, metadata: { rule } });

const refusalOf = (ports: Ports, run: Run, question: LocalKeyQuestion): AgentError | undefined => {
  const { key, version, as } = question;
  if (!ports.policy.localStreamKeys(run.tenant)) {
    return denied('policy keeps the content keys of streams in the agent', 'streams.localKeys');
  }
  if (!grantsAllow(key.grants, run.call.caller.principal, as)) {
    const metadata = { key: key.keyId };
    return new AgentError('PERMISSION_DENIED', { message: `no grant of the key allows ${as} to the caller`, metadata });
  }
  if (version === undefined) return undefined; // told by what needs it
  const { algorithm, jose, custody } = version;
  const decision = ports.policy.decide({ tenant: run.tenant, operation: as, algorithm, jose, custody });
  if (decision.allowed) return undefined;
  return new AgentError(decision.code, { message: decision.explanation, metadata: { rule: decision.rule } });
};

/** Whether the key leaves; throws where the client takes nothing else and may not have it. */
export const mayHandOut = (ports: Ports, run: Run, question: LocalKeyQuestion): boolean => {
  if (question.wish === 'no') return false;
  const refusal = refusalOf(ports, run, question);
  if (refusal !== undefined && question.wish === 'required') {
    run.note({ rule: refusal.metadata?.['rule'], localKey: 'refused' });
    throw refusal;
  }
  return refusal === undefined;
};

/** A stream of which the agent sees no data: its key goes out with the beginning, and then there is only an end. */
export const localWork = (
  run: Run,
  input: StreamInput<unknown>,
  local: { readonly handedOut: HandedOut; readonly salt: Buffer; readonly opening: Buffer },
): StreamWork<undefined> => {
  const { handedOut, salt, opening } = local;
  run.note({ localStream: salt.toString('base64url') });
  return {
    first: [],
    streamKey: { ...handedOut, opening },
    update: () => {
      throw invalid('data', 'the client has the key of this stream, and works on the data itself');
    },
    final: async () => {
      run.note({ bytesByClient: input.localBytes });
      return { last: [], answer: undefined };
    },
    wipe: () => handedOut.key.fill(0),
  };
};
