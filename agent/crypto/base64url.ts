// Base64url without padding (RFC 4648 section 5). Invariant: what decodes is the one spelling of its bytes, so that no
// two texts mean the same JWE or JWS.

export const encodeBase64url = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64url');

/** The bytes, or undefined where the text is not their canonical spelling. */
export const decodeBase64url = (text: string): Buffer | undefined => {
  const bytes = Buffer.from(text, 'base64url');
  // Node skips what it does not know and takes the other alphabet; only what spells the bytes again is canonical.
  return bytes.toString('base64url') === text ? bytes : undefined;
};
