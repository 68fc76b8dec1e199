// The canonical form under every MAC and hash: a domain label that ends in NUL, then each field as u32 big-endian
// length and UTF-8. Invariant: one list of strings has one encoding, and every accepted encoding is that one.

/** Bytes that are not the document they should be. `reason` says what is wrong, never what the bytes were. */
export class DocumentError extends Error {
  constructor(reason: string) {
    super(reason);
    this.name = 'DocumentError';
  }
}

export interface CanonicalLimits {
  readonly fields: number;
  readonly maxFieldBytes: number;
}

const LENGTH_BYTES = 4;
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Writes one field at `offset` and answers the offset behind it. The caller has made sure of `3 * length + 4` bytes of room. */
export const writeField = (into: Buffer, offset: number, field: string): number => {
  // A lone surrogate would become U+FFFD, and two strings one encoding.
  if (!field.isWellFormed()) throw new DocumentError('a field is not well-formed Unicode');
  const length = into.write(field, offset + LENGTH_BYTES, 'utf8');
  into.writeUInt32BE(length, offset);
  return offset + LENGTH_BYTES + length;
};

export const canonicalBytes = (label: string, fields: readonly string[]): number =>
  fields.reduce((sum, field) => sum + LENGTH_BYTES + Buffer.byteLength(field), label.length + 1);

/** Writes label and fields into `into`, which has `canonicalBytes` behind `offset`, and answers the offset behind them. */
export const writeCanonical = (into: Buffer, offset: number, label: string, fields: readonly string[]): number => {
  let at = offset + into.write(label, offset, 'latin1');
  at = into.writeUInt8(0, at);
  for (const field of fields) at = writeField(into, at, field);
  return at;
};

export const encodeCanonical = (label: string, fields: readonly string[]): Buffer => {
  const out = Buffer.allocUnsafe(canonicalBytes(label, fields));
  writeCanonical(out, 0, label, fields);
  return out;
};

/** Reads exactly `limits.fields` fields from the start of `bytes`; `end` is the offset behind the last. */
export const decodeCanonicalPrefix = (
  label: string,
  bytes: Uint8Array,
  limits: CanonicalLimits,
): { readonly fields: string[]; readonly end: number } => {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const head = label.length + 1;
  if (view.length < head || view.toString('latin1', 0, head) !== `${label}\0`)
    throw new DocumentError('wrong domain label');
  const fields: string[] = [];
  let offset = head;
  while (fields.length < limits.fields) {
    if (offset + LENGTH_BYTES > view.length) throw new DocumentError('cut off in a field length');
    const length = view.readUInt32BE(offset);
    offset += LENGTH_BYTES;
    if (length > limits.maxFieldBytes) throw new DocumentError('a field is longer than the limit');
    if (offset + length > view.length) throw new DocumentError('cut off in a field');
    try {
      fields.push(utf8.decode(view.subarray(offset, offset + length)));
    } catch {
      throw new DocumentError('a field is not UTF-8');
    }
    offset += length;
  }
  return { fields, end: offset };
};

export const decodeCanonical = (label: string, bytes: Uint8Array, limits: CanonicalLimits): string[] => {
  const { fields, end } = decodeCanonicalPrefix(label, bytes, limits);
  if (end !== bytes.length) throw new DocumentError('bytes after the last field');
  return fields;
};
