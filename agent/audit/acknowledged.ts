// The row that says how much of a tenant's log a registry has acknowledged (docs/spec/audit.md section 5).
import type { KeyObject } from 'node:crypto';
import { DocumentError, decodeCanonicalPrefix } from '../../proto/documents/canonical.ts';
import { MAX_NOTE_BYTES } from '../../proto/documents/checkpoint.ts';
import { AgentError } from '../errors.ts';
import type { MacKeyOf } from './mac-keys.ts';
import { count, macFits, type Sealed, seal, sealed } from './rows.ts';

export interface AcknowledgedRow {
  readonly tenant: string;
  readonly generation: number;
  /** Records below this are in the ledger. */
  readonly size: number;
  /** Newest countersigned checkpoint; empty before the first. */
  readonly checkpoint: string;
  readonly epoch: number;
}

const LABEL = 'mortise/audit-acknowledged/v1';
const NONE = '-';

export const ACKNOWLEDGED_PREFIX: Buffer = Buffer.from('a');
export const acknowledgedKey = (tenant: string): Buffer => Buffer.from(`a${tenant}`, 'latin1');

export const encodeAcknowledged = (key: KeyObject, row: AcknowledgedRow): Buffer => {
  const numbers = [String(row.generation), String(row.size), String(row.epoch)];
  return seal(key, LABEL, [row.tenant, ...numbers, row.checkpoint || NONE]);
};

export const decodeAcknowledged = (bytes: Buffer): Sealed<AcknowledgedRow> =>
  sealed(bytes, (body) => {
    const { fields, end } = decodeCanonicalPrefix(LABEL, body, { fields: 5, maxFieldBytes: MAX_NOTE_BYTES });
    if (end !== body.length) throw new DocumentError('bytes after the last field');
    const [tenant, generation, size, epoch, checkpoint] = fields as [string, string, string, string, string];
    return {
      tenant,
      generation: count(generation),
      size: count(size),
      epoch: count(epoch),
      checkpoint: checkpoint === NONE ? '' : checkpoint,
    };
  });

/** The row, where its MAC fits; undefined where it is none, and then nothing counts as acknowledged. */
export const readAcknowledged = async (bytes: Buffer, macKeyOf: MacKeyOf): Promise<AcknowledgedRow | undefined> => {
  try {
    const { value, epoch, body, mac } = decodeAcknowledged(bytes);
    return macFits(await macKeyOf(epoch), body, mac) ? value : undefined;
  } catch (cause) {
    if (cause instanceof AgentError && cause.code !== 'INVALID_CIPHERTEXT') throw cause; // the token is away: try again
    return undefined; // all is handed in again, which costs time and nothing else
  }
};
