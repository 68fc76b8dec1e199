// The row that says how much of a tenant's log a registry has acknowledged (docs/spec/audit.md section 5).
import type { KeyObject } from 'node:crypto';
import { DocumentError, decodeCanonicalPrefix } from '../../proto/documents/canonical.ts';
import { MAX_NOTE_BYTES } from '../../proto/documents/checkpoint.ts';
import { count, type Sealed, seal, sealed } from './rows.ts';

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
