// SuspendKey: switches a key off until ResumeKey. Idempotent.
import { changeKey, type KeyOutput, type KeyReasonInput, nextRecord, noteReason, unchanged } from './key-change.ts';
import { type Performed, type Ports, perform } from './perform.ts';
import type { Call } from './ports/call.ts';

export const suspendKey = (ports: Ports, call: Call, input: KeyReasonInput): Promise<Performed<KeyOutput>> =>
  perform(ports, call, 'suspend-key', (run) => {
    const from = run.key(input.key);
    noteReason(run, input.reason);
    if (from.state === 'SUSPENDED') return unchanged(ports, run, from);
    return changeKey(ports, run, { from, to: nextRecord(ports, from, { state: 'SUSPENDED' }) });
  });
