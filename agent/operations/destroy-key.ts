// DestroyKey: starts the undo window of the tenant's policy; the reaper of the keys room destroys the material at its
// end. Idempotent: a repeated call does not move the end. The intent is recorded first.
import type { KeyRecord } from '../../proto/documents/key-record.ts';
import { changeKey, type KeyOutput, type KeyReasonInput, nextRecord, noteReason, unchanged } from './key-change.ts';
import { type Performed, type Ports, perform, type Run } from './perform.ts';
import type { Call } from './ports/call.ts';

const destroy = (ports: Ports, run: Run, from: KeyRecord): Promise<KeyOutput> => {
  const destroyAt = ports.clock.now() + ports.policy.destroyWait(run.tenant);
  const state = 'PENDING_DESTRUCTION' as const;
  // `run.key` has let no other state pass; DESTROYED has no way back.
  const stateBefore = from.state === 'SUSPENDED' || from.state === 'REVOKED' ? from.state : 'ACTIVE';
  run.note({ destroyAt: new Date(destroyAt).toISOString() });
  return changeKey(ports, run, { from, to: nextRecord(ports, from, { state, stateBefore, destroyAt }), intend: true });
};

export const destroyKey = (ports: Ports, call: Call, input: KeyReasonInput): Promise<Performed<KeyOutput>> =>
  perform(ports, call, 'destroy-key', (run) => {
    const from = run.key(input.key);
    noteReason(run, input.reason);
    return from.state === 'PENDING_DESTRUCTION' ? unchanged(ports, run, from) : destroy(ports, run, from);
  });
