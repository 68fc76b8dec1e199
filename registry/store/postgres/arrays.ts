// Arrays of PostgreSQL in its binary format: no text that the server would have to take apart again, and bytes stay bytes.
// The driver hands a Buffer over as it is, in binary.

const OIDS = { int8: 20, text: 25, bytea: 17 } as const;
const HEADER_BYTES = 20;
const LENGTH_BYTES = 4;
const INT8_BYTES = 8;

/** One dimension from 1 on, without NULL. `put` writes an element at an offset and answers its length. */
const encode = <T>(
  type: keyof typeof OIDS,
  elements: readonly T[],
  sizeOf: (element: T) => number,
  put: (into: Buffer, element: T, offset: number) => number,
): Buffer => {
  let room = HEADER_BYTES;
  for (const element of elements) room += LENGTH_BYTES + sizeOf(element);
  const out = Buffer.allocUnsafe(room);
  out.writeInt32BE(1, 0);
  out.writeInt32BE(0, 4);
  out.writeInt32BE(OIDS[type], 8);
  out.writeInt32BE(elements.length, 12);
  out.writeInt32BE(1, 16);
  let offset = HEADER_BYTES;
  for (const element of elements) {
    const length = put(out, element, offset + LENGTH_BYTES);
    out.writeInt32BE(length, offset);
    offset += LENGTH_BYTES + length;
  }
  return out.subarray(0, offset);
};

const MOST_UTF8 = 3; // bytes of one unit of UTF-16

export const textArray = (elements: readonly string[]): Buffer =>
  encode(
    'text',
    elements,
    (element) => element.length * MOST_UTF8,
    (into, element, offset) => into.write(element, offset, 'utf8'),
  );

export const byteaArray = (elements: readonly Buffer[]): Buffer =>
  encode(
    'bytea',
    elements,
    (element) => element.length,
    (into, element, offset) => element.copy(into, offset),
  );

export const int8Array = (elements: readonly number[]): Buffer =>
  encode(
    'int8',
    elements,
    () => INT8_BYTES,
    (into, element, offset) => into.writeBigInt64BE(BigInt(element), offset) - offset,
  );
