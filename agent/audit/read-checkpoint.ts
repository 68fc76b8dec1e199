// Reads one checkpoint of the log. Invariant: its key is told to callers, so it is believed only with the MAC of the log.
import { DocumentError } from '../../proto/documents/canonical.ts';
import { AgentError } from '../errors.ts';
import type { MacKeyOf } from './mac-keys.ts';
import { type CheckpointRow, checkpointKey, decodeCheckpointRow, macFits } from './rows.ts';
import type { AuditEvents } from './types.ts';

export interface CheckpointSource {
  readonly store: { get(key: Buffer): Buffer | undefined };
  readonly macKeyOf: MacKeyOf;
  readonly events: Pick<AuditEvents, 'corrupt'>;
}

/**
 * The checkpoint of so many records, where it is kept. Rejects with AUDIT_CORRUPT and the size, or with the token's own
 * error where the MAC key cannot be had just now.
 */
export const readCheckpoint = async (
  { store, macKeyOf, events }: CheckpointSource,
  tenant: string,
  size: number,
): Promise<CheckpointRow | undefined> => {
  const bytes = store.get(checkpointKey(tenant, size));
  if (bytes === undefined) return undefined;
  try {
    const { value, epoch, body, mac } = decodeCheckpointRow(Buffer.from(bytes));
    if (macFits(await macKeyOf(epoch), body, mac)) return value;
    throw new DocumentError('its MAC does not fit');
  } catch (cause) {
    if (cause instanceof AgentError && cause.code !== 'INVALID_CIPHERTEXT') throw cause;
    const message = `the checkpoint of ${size} records cannot be believed: ${(cause as Error).message}`;
    events.corrupt({ tenant, index: size, message });
    throw new AgentError('AUDIT_CORRUPT', { message, metadata: { index: String(size) }, cause });
  }
};
