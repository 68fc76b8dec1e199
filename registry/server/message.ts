// Messages as untrusted bytes. Invariant: a message is read whole and strictly, or it is refused.
import { BinaryReader } from '@bufbuild/protobuf/wire';
import { RegistryError } from '../errors.ts';

/** An answer that was serialized already: the same bytes for everyone who is told the same. */
export class Encoded {
  readonly bytes: Buffer;

  constructor(bytes: Uint8Array) {
    this.bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }
}

const strictUtf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** proto3 strings are UTF-8; generated code would read anything else as U+FFFD and so make two names one. */
export const decodeMessage = (method: { requestDeserialize(bytes: Buffer): unknown }, bytes: Buffer): unknown => {
  try {
    const reader = new BinaryReader(bytes, (text) => strictUtf8.decode(text));
    // ts-proto's decoders take a reader as well; the type of a service definition only names the bytes.
    const request = method.requestDeserialize(reader as unknown as Buffer);
    // They stop at a tag of zero or an end-group tag as if the message ended there.
    if (reader.pos !== reader.len) throw new Error(`ends at byte ${reader.pos}`);
    return request;
  } catch (cause) {
    throw new RegistryError('INVALID_REQUEST', { message: 'the request is not a valid protobuf message', cause });
  }
};
