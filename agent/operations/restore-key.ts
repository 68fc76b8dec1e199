// RestoreKey: takes a key out of its undo window, back to the state it had. Idempotent. At the end of the window the
// state table shows DESTROYED, so no restore can race the reaper.
import { changeKey, type KeyOutput, type KeyReasonInput, nextRecord, noteReason, unchanged } from './key-change.ts';
import { type Performed, type Ports, perform } from './perform.ts';
import type { Call } from './ports/call.ts';

export const restoreKey = (ports: Ports, call: Call, input: KeyReasonInput): Promise<Performed<KeyOutput>> =>
  perform(ports, call, 'restore-key', (run) => {
    const from = run.key(input.key);
    noteReason(run, input.reason);
    if (from.state !== 'PENDING_DESTRUCTION') return unchanged(ports, run, from);
    const { stateBefore = 'ACTIVE', destroyAt: _, ...kept } = from;
    return changeKey(ports, run, { from, to: nextRecord(ports, kept, { state: stateBefore }) });
  });
