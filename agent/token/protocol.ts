// The framed protocol between the agent and the token process: plain bytes, bounded, parsed in both directions as if
// the other side were hostile. Invariant: nothing longer than MAX_FRAME_BYTES is ever buffered, and a body that does
// not match its row exactly is refused whole.
//
//   frame  = u32le length of the rest | u32le id | u8 kind | body
//   body   = field*            field = u32le length | bytes

export const MAX_DATA_BYTES = 1024 * 1024; // an Ed25519 message is signed whole; everything else is far smaller
export const MAX_FRAME_BYTES = MAX_DATA_BYTES + 8 * 1024; // the data and the small fields beside it
export const HEADER_BYTES = 9;
const MAX_FIELDS = 8;

export class ProtocolError extends Error {
  override readonly name = 'ProtocolError';
}

/** A frame whose body has not been looked at yet. `body` is a view: copy what must outlive the next read. */
export interface Frame {
  readonly id: number;
  readonly kind: number;
  readonly body: Buffer;
}

const U32_MAX = 0xffff_ffff;

/** A u32 as a field. */
export const u32 = (value: number): Buffer => {
  const field = Buffer.allocUnsafe(4);
  field.writeUInt32LE(value, 0);
  return field;
};

export const readU32 = (field: Buffer): number => {
  if (field.length !== 4) throw new ProtocolError('a number is not four bytes');
  return field.readUInt32LE(0);
};

/** Bytes that a frame with these fields takes. */
export const frameBytes = (fields: readonly Uint8Array[]): number =>
  fields.reduce((sum, field) => sum + 4 + field.length, HEADER_BYTES);

/** Writes a frame at `at` and gives back where it ends. The caller has checked the room. */
export const writeFrame = (
  into: Buffer,
  at: number,
  frame: { readonly id: number; readonly kind: number; readonly fields: readonly Uint8Array[] },
): number => {
  const total = frameBytes(frame.fields);
  if (total - 4 > MAX_FRAME_BYTES) throw new ProtocolError(`a frame of ${total} bytes is over the limit`);
  let end = into.writeUInt32LE(total - 4, at);
  end = into.writeUInt32LE(frame.id, end);
  end = into.writeUInt8(frame.kind, end);
  for (const field of frame.fields) {
    end = into.writeUInt32LE(field.length, end);
    into.set(field, end);
    end += field.length;
  }
  return end;
};

export const encodeFrame = (id: number, kind: number, fields: readonly Uint8Array[]): Buffer => {
  const frame = Buffer.allocUnsafeSlow(frameBytes(fields));
  writeFrame(frame, 0, { id, kind, fields });
  return frame;
};

/** Splits a body into exactly as many fields as there are limits, each within its limit. The fields are views. */
export const decodeFields = (body: Buffer, limits: readonly number[]): Buffer[] => {
  if (limits.length > MAX_FIELDS) throw new ProtocolError('too many fields');
  const fields: Buffer[] = [];
  let at = 0;
  for (const limit of limits) {
    if (body.length - at < 4) throw new ProtocolError('a field is cut off');
    const length = body.readUInt32LE(at);
    at += 4;
    if (length > limit) throw new ProtocolError(`a field of ${length} bytes is over its limit of ${limit}`);
    if (body.length - at < length) throw new ProtocolError('a field is cut off');
    fields.push(body.subarray(at, at + length));
    at += length;
  }
  if (at !== body.length) throw new ProtocolError('bytes follow the last field');
  return fields;
};

/** The length of the frame that begins at `at`, or undefined where fewer than four bytes are there. */
export const frameEnd = (buffer: Buffer, at: number, end: number): number | undefined => {
  if (end - at < 4) return undefined;
  const length = buffer.readUInt32LE(at);
  if (length < HEADER_BYTES - 4) throw new ProtocolError('a frame is shorter than its header');
  if (length > MAX_FRAME_BYTES) throw new ProtocolError(`a frame of ${length} bytes is over the limit`);
  return at + 4 + length;
};

export const frameAt = (buffer: Buffer, at: number, end: number): Frame => ({
  id: buffer.readUInt32LE(at + 4),
  kind: buffer.readUInt8(at + 8),
  body: buffer.subarray(at + HEADER_BYTES, end),
});

/** Cuts a stream of chunks into frames. Chunks and what is held of them are wiped once their frames are handed on. */
export class FrameReader {
  #held: Buffer | undefined;

  /** Calls `take` for each whole frame. Throws ProtocolError, after which the stream is of no further use. */
  push(chunk: Buffer, take: (frame: Frame) => void): void {
    const held = this.#held;
    const buffer = held === undefined ? chunk : Buffer.concat([held, chunk]);
    held?.fill(0);
    this.#held = undefined;
    let at = 0;
    try {
      for (;;) {
        const end = frameEnd(buffer, at, buffer.length);
        if (end === undefined || end > buffer.length) break;
        take(frameAt(buffer, at, end));
        at = end;
      }
      if (at < buffer.length) this.#held = Buffer.from(buffer.subarray(at));
    } finally {
      buffer.fill(0); // answers may hold plaintext and key material
      if (buffer !== chunk) chunk.fill(0);
    }
  }

  /** Forgets the beginning of a frame whose end will not come. */
  wipe(): void {
    this.#held?.fill(0);
    this.#held = undefined;
  }

  /** Bytes held of a frame that is not complete. */
  get heldBytes(): number {
    return this.#held?.length ?? 0;
  }
}

/** The next id; ids only pair an answer with its question. */
export const nextId = (id: number): number => (id === U32_MAX ? 1 : id + 1);
