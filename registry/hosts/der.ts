// DER (X.690), as much of it as certificates and requests need. Invariant: the reader takes definite, minimal lengths
// within bounds and nothing else, so that no value has two encodings.

export const TAG = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  nothing: 0x05,
  objectId: 0x06,
  utf8String: 0x0c,
  sequence: 0x30,
  set: 0x31,
  utcTime: 0x17,
  generalizedTime: 0x18,
} as const;

export class DerError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'DerError';
  }
}

export interface Element {
  readonly tag: number;
  readonly content: Buffer;
  /** Tag, length and content. */
  readonly whole: Buffer;
}

/** Reads the elements of one content, in order. */
export class DerReader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** The next element, which must have this tag. */
  next(tag: number): Element {
    const start = this.#at;
    if (this.#bytes[start] !== tag) throw new DerError(`expected tag ${tag} at byte ${start}`);
    const { length, header } = this.#length(start + 1);
    const from = start + 1 + header;
    const end = from + length;
    if (end > this.#bytes.length) throw new DerError('cut off');
    this.#at = end;
    return { tag, content: this.#bytes.subarray(from, end), whole: this.#bytes.subarray(start, end) };
  }

  get isAtEnd(): boolean {
    return this.#at === this.#bytes.length;
  }

  /** Fails where something follows. */
  end(): void {
    if (!this.isAtEnd) throw new DerError('bytes follow the end');
  }

  #length(at: number): { readonly length: number; readonly header: number } {
    const first = this.#bytes[at];
    if (first === undefined) throw new DerError('cut off before a length');
    if (first < 0x80) return { length: first, header: 1 };
    const count = first & 0x7f;
    if (count === 0 || count > 3 || at + 1 + count > this.#bytes.length) throw new DerError('not a length');
    const length = this.#bytes.readUIntBE(at + 1, count);
    if (length < 0x80 || (count > 1 && length < 1 << (8 * (count - 1))))
      throw new DerError('a length that is not minimal');
    return { length, header: 1 + count };
  }
}

export const element = (tag: number, ...contents: readonly Uint8Array[]): Buffer => {
  const length = contents.reduce((sum, { byteLength }) => sum + byteLength, 0);
  let header: number[];
  if (length < 0x80) header = [tag, length];
  else if (length < 0x100) header = [tag, 0x81, length];
  else if (length < 0x10000) header = [tag, 0x82, length >> 8, length & 0xff];
  else header = [tag, 0x83, length >> 16, (length >> 8) & 0xff, length & 0xff];
  return Buffer.concat([Uint8Array.from(header), ...contents]);
};

export const sequence = (...contents: readonly Uint8Array[]): Buffer => element(TAG.sequence, ...contents);

/** A non-negative integer from its big-endian bytes. */
export const integer = (bytes: Uint8Array): Buffer => {
  let start = 0;
  while (start < bytes.length - 1 && bytes[start] === 0) start += 1;
  const digits = bytes.subarray(start);
  return element(TAG.integer, ...((digits[0] ?? 0) & 0x80 ? [Uint8Array.of(0), digits] : [digits]));
};

export const bitString = (bytes: Uint8Array, unusedBits = 0): Buffer =>
  element(TAG.bitString, Uint8Array.of(unusedBits), bytes);

export const objectId = (dotted: string): Buffer => {
  const [first = 0, second = 0, ...rest] = dotted.split('.').map(Number);
  const digits = (value: number): number[] => {
    const bytes = [value & 0x7f];
    for (let left = value >>> 7; left > 0; left >>>= 7) bytes.unshift(0x80 | (left & 0x7f));
    return bytes;
  };
  return element(TAG.objectId, Uint8Array.from([first * 40 + second, ...rest].flatMap(digits)));
};

/** RFC 5280 section 4.1.2.5: UTCTime to 2049, GeneralizedTime from then on; whole seconds. */
export const time = (ms: number): Buffer => {
  const text = `${new Date(ms).toISOString().replaceAll(/[-:T]/g, '').slice(0, 14)}Z`;
  return Number(text.slice(0, 4)) < 2050
    ? element(TAG.utcTime, Buffer.from(text.slice(2)))
    : element(TAG.generalizedTime, Buffer.from(text));
};
