// The header of a container: a General JSON JWE (RFC 7516 section 7.2.1) whose content is the input key of the chunked
// ciphertext. Invariant: what identifies a recipient is outside the protected header, so it can be re-wrapped alone.
import { invalid } from '../errors.ts';
import { INPUT_KEY_BYTES } from './chunked-keys.ts';
import { DEFAULT_ENC, encryptContent } from './content-encryption.ts';
import { buildContentHeader, buildGeneralJwe, parseJsonJwe } from './general-jwe.ts';
import type { CompactJwe } from './jwe.ts';
import type { WrappedCek } from './key-management.ts';

/** `cty` of the protected header: no JWE that was made for anything else passes for the header of a container. */
const INPUT_KEY_TYPE = 'vnd.mortise.chunked-key';

/** The JWE as each of its recipients sees it. */
export const parseChunkedHeader = (text: string): readonly CompactJwe[] => {
  const { protectedMembers, enc, ciphertext, aadMember, recipients } = parseJsonJwe(text);
  if (enc.name !== DEFAULT_ENC.name || protectedMembers['cty'] !== INPUT_KEY_TYPE) {
    throw invalid('data', `the protected header is not of "enc" ${DEFAULT_ENC.name} and "cty" ${INPUT_KEY_TYPE}`);
  }
  if (ciphertext.length !== INPUT_KEY_BYTES || aadMember !== undefined) {
    throw invalid('data', 'the content of the header is not an input key');
  }
  return recipients.map(({ jwe }) => jwe);
};

/** The header for one recipient. The CEK encrypts the input key and nothing else. */
export const buildChunkedHeader = (input: {
  readonly alg: string;
  readonly kid: string;
  readonly wrapped: WrappedCek;
  readonly cek: Buffer;
  readonly iv: Buffer;
  readonly inputKey: Buffer;
}): string => {
  const { alg, kid, wrapped, cek, iv, inputKey } = input;
  const protectedSegment = buildContentHeader(DEFAULT_ENC.name, { cty: INPUT_KEY_TYPE });
  const sealed = encryptContent({ cek, iv, aad: protectedSegment, plaintext: inputKey });
  const recipient = { header: { alg, kid, ...wrapped.members }, encryptedKey: wrapped.encryptedKey };
  return buildGeneralJwe({ ...sealed, protectedSegment }, [recipient]);
};
