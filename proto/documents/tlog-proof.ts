// Receipts: C2SP tlog-proof, version 1, of one record of an audit log. Invariant: a receipt verifies only with the record,
// the host's signature over the checkpoint and, where a cosigner is given, its countersignature.
import { MAC_BYTES } from './audit-record.ts';
import { DocumentError } from './canonical.ts';
import { type Checkpoint, verifyCheckpoint } from './checkpoint.ts';
import { type Cosigner, verifyCosignature } from './cosignature.ts';
import type { PublicJwk } from './key-record.ts';
import { HASH_BYTES, leafHash, MAX_FRONTIER, verifyInclusion } from './merkle.ts';

const HEADER = 'c2sp.org/tlog-proof@v1';

export interface TlogProof {
  readonly index: number;
  readonly hashes: readonly Buffer[];
  /** Signed note. */
  readonly checkpoint: string;
}

export const formatProof = ({ index, hashes, checkpoint }: TlogProof): string =>
  `${[HEADER, `index ${index}`, ...hashes.map((hash) => hash.toString('base64'))].join('\n')}\n\n${checkpoint}`;

/** Throws DocumentError. An `extra` line is passed over: it is not authenticated, and Mortise writes none. */
export const parseProof = (text: string): TlogProof => {
  const gap = text.indexOf('\n\n');
  if (gap < 0) throw new DocumentError('the proof has no checkpoint');
  const [header, ...lines] = text.slice(0, gap).split('\n');
  if (header !== HEADER) throw new DocumentError('not a tlog-proof');
  if (lines[0]?.startsWith('extra ')) lines.shift();
  const digits = /^index (0|[1-9]\d{0,15})$/.exec(lines.shift() ?? '')?.[1];
  const index = Number(digits);
  if (digits === undefined || !Number.isSafeInteger(index)) throw new DocumentError('the proof has no index');
  if (lines.length > MAX_FRONTIER) throw new DocumentError('the proof has too many hashes');
  const hashes = lines.map((line) => {
    const bytes = Buffer.from(line, 'base64');
    if (bytes.length !== HASH_BYTES || bytes.toString('base64') !== line) throw new DocumentError('not a hash');
    return bytes;
  });
  return { index, hashes, checkpoint: text.slice(gap + 2) };
};

export interface Receipt {
  readonly proof: string;
  /** Canonical form with detail, and its MAC. */
  readonly record: Buffer;
  readonly mac: Buffer;
}

/** The checkpoint that covers the record, and its position. Throws DocumentError. */
export const verifyReceipt = (
  { proof, record, mac }: Receipt,
  by: { readonly publicJwk: PublicJwk; readonly cosigner?: Cosigner },
): { readonly checkpoint: Checkpoint; readonly index: number; readonly countersignedAt?: number } => {
  const { index, hashes, checkpoint: note } = parseProof(proof);
  if (mac.length !== MAC_BYTES) throw new DocumentError('not a MAC');
  const checkpoint = verifyCheckpoint(note, by.publicJwk);
  const { size, root } = checkpoint;
  const leaf = leafHash(Buffer.concat([record, mac]));
  if (!verifyInclusion({ index, size, leaf, proof: hashes, root })) {
    throw new DocumentError('the record is not in the log of the checkpoint');
  }
  if (by.cosigner === undefined) return { checkpoint, index };
  return { checkpoint, index, countersignedAt: verifyCosignature(note, by.cosigner) };
};
