// Receipts of audit records, verified without any connection, by pinned keys alone.
import {
  DocumentError,
  formatReceipt,
  type Pinned,
  type ProvenRecord,
  parseReceipt,
  proveRecord,
  type Receipt as ReceiptDocument,
} from '../../proto/documents/receipt.ts';
import { MortiseError } from './errors.ts';

export type { Pinned, ProvenRecord } from '../../proto/documents/receipt.ts';

/** Proof that a record is in the audit log: keep it, and verify it anywhere with `verifyReceipt`. */
export interface Receipt extends ReceiptDocument {
  /** Public JWK of the host's checkpoints in the agent's own word, as JSON: to be pinned by another way, not believed. */
  readonly publicJwk: string;
  /** Whether the registry has countersigned the checkpoint. */
  readonly countersigned: boolean;
}

export interface ReceiptOptions {
  /** Wait so long for a checkpoint that covers the record, at most 10000. Default: 5000. */
  readonly waitMs?: number;
  /** Take only a checkpoint that the registry has countersigned. */
  readonly countersigned?: boolean;
}

/** The receipt as a file, which `mortise receipt verify` takes as well. */
export const receiptText = (receipt: ReceiptDocument): string => formatReceipt(receipt);

/**
 * What a receipt, or the text of one, proves.
 * @throws {MortiseError} SIGNATURE_INVALID where it proves nothing by these keys; its message says why
 */
export const verifyReceipt = (receipt: ReceiptDocument | string, pinned: Pinned): ProvenRecord => {
  try {
    return proveRecord(typeof receipt === 'string' ? parseReceipt(receipt) : receipt, pinned);
  } catch (cause) {
    if (!(cause instanceof DocumentError)) throw cause;
    throw new MortiseError('SIGNATURE_INVALID', { message: `the receipt does not verify: ${cause.message}`, cause });
  }
};
