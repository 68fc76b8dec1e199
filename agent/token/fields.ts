// Arguments of the token port → fields of the protocol, checked: the token process is never asked what cannot be.
import { invalid } from '../errors.ts';
import { u32 } from './protocol.ts';
import { MAX_CONTEXT_BYTES, MAX_LABEL_BYTES } from './requests.ts';

const TOKEN_ID = /^(?:[0-9a-f]{2}){1,255}$/;

export const idBytes = (tokenId: string): Buffer => {
  if (!TOKEN_ID.test(tokenId)) throw invalid('token_id', 'not a CKA_ID in lower-case hex');
  return Buffer.from(tokenId, 'hex');
};
export const labelBytes = (label: string): Buffer => {
  const bytes = Buffer.from(label);
  if (bytes.length === 0 || bytes.length > MAX_LABEL_BYTES) throw invalid('label', 'empty or too long');
  return bytes;
};
export const ivBytes = (iv: Buffer): Buffer => {
  if (iv.length !== 12) throw invalid('iv', 'not 96 bits');
  return iv;
};
/** Key material as one field: each part behind its length, in the order that TokenPort.create states. */
export const materialBytes = (parts: readonly Buffer[]): Buffer =>
  Buffer.concat(parts.flatMap((part) => [u32(part.length), part]));
export const contextBytes = (context: Buffer): Buffer => {
  if (context.length > MAX_CONTEXT_BYTES) throw invalid('context', `at most ${MAX_CONTEXT_BYTES} bytes`);
  return context;
};
export const joseBytes = (jose: string): Buffer => Buffer.from(jose.slice(0, 64), 'latin1');
