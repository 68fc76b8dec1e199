// For which position a record was made: its MAC covers the position (docs/spec/audit.md section 3), so trying tells.
import { decodeAuditRecord, MAC_BYTES, macInput, parseEventId } from '../../proto/documents/audit-record.ts';
import { DocumentError } from '../../proto/documents/canonical.ts';
import { recordKey } from './rows.ts';
import type { AuditSource, MacCheck } from './verification.ts';

const SEARCH_DISTANCE = 256; // how far a misplaced record is looked for, at 2.5 µs a position

export interface SealedRecord {
  readonly epoch: number;
  readonly body: Buffer;
  readonly mac: Buffer;
}

export class Placement {
  readonly #source: AuditSource;
  readonly #macs: MacCheck;
  readonly #tenant: string;

  constructor(options: { source: AuditSource; macs: MacCheck; tenant: string }) {
    this.#source = options.source;
    this.#macs = options.macs;
    this.#tenant = options.tenant;
  }

  /** Undefined where the MAC key cannot be had. */
  fitsAt({ epoch, body, mac }: SealedRecord, index: number): Promise<boolean | undefined> {
    return this.#macs.fits(epoch, macInput(body, index), mac);
  }

  /** The position near `index` that the record was made for. */
  async homeOf(index: number, sealed: SealedRecord): Promise<number | undefined> {
    for (let distance = 0; distance <= SEARCH_DISTANCE; distance += 1) {
      if (await this.fitsAt(sealed, index + distance)) return index + distance;
      if (distance > 0 && distance <= index && (await this.fitsAt(sealed, index - distance))) return index - distance;
    }
    return undefined;
  }

  /** Whether `index` holds the record made for `home`, or none at all. */
  async holds(index: number, home: number): Promise<boolean> {
    const bytes = this.#source.get(recordKey(this.#tenant, index));
    if (bytes === undefined) return true;
    const [body, mac] = [bytes.subarray(0, -MAC_BYTES), bytes.subarray(-MAC_BYTES)];
    try {
      const { epoch } = parseEventId(decodeAuditRecord(body).record.eventId);
      return (await this.fitsAt({ epoch, body, mac }, home)) === true;
    } catch (cause) {
      if (cause instanceof DocumentError) return false; // reported when the walk gets there
      throw cause;
    }
  }
}
