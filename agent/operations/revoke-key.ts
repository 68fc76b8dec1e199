// RevokeKey: withdraws a key, or one version that is not its primary, for ever. Idempotent; the intent is recorded first.
import type { KeyRecord } from '../../proto/documents/key-record.ts';
import { AgentError } from '../errors.ts';
import { changeKey, type KeyOutput, type KeyReasonInput, nextRecord, noteReason, unchanged } from './key-change.ts';
import { type Performed, type Ports, perform, type Run } from './perform.ts';
import type { Call } from './ports/call.ts';

export interface RevokeKeyInput extends KeyReasonInput {
  /** Undefined: the whole key. */
  readonly version: number | undefined;
}

const revokeVersion = async (ports: Ports, run: Run, from: KeyRecord, number: number): Promise<KeyOutput> => {
  const version = from.versions.find((row) => row.version === number);
  if (version === undefined) throw new AgentError('KEY_UNKNOWN', { message: 'no such version of the key' });
  run.used(from, version);
  if (version.state === 'PRIMARY') {
    throw new AgentError('KEY_STATE', {
      message: 'the primary version cannot be revoked alone; rotate the key first, or revoke the whole key',
      metadata: { key: from.keyId, version: String(number), state: version.state },
    });
  }
  if (version.state !== 'RETIRED') return unchanged(ports, run, from);
  run.note({ previousVersionState: version.state, newVersionState: 'REVOKED' });
  const versions = from.versions.map((row) => (row === version ? { ...row, state: 'REVOKED' as const } : row));
  return await changeKey(ports, run, { from, to: nextRecord(ports, from, { versions }), intend: true });
};

export const revokeKey = (ports: Ports, call: Call, input: RevokeKeyInput): Promise<Performed<KeyOutput>> =>
  perform(ports, call, 'revoke-key', (run) => {
    const from = run.key(input.key);
    noteReason(run, input.reason);
    if (input.version !== undefined) return revokeVersion(ports, run, from, input.version);
    if (from.state === 'REVOKED') return unchanged(ports, run, from);
    return changeKey(ports, run, { from, to: nextRecord(ports, from, { state: 'REVOKED' }), intend: true });
  });
