// What sets a wrapped data key apart from other ciphertexts: a type of its own in the protected header, so that neither
// Decrypt nor DecryptDataKey takes what was made for the other.
import type { CompactJwe } from '../../crypto/jwe.ts';

export const DATA_KEY_TYPE = 'mortise-data-key+jwe';
export const DATA_KEY_BYTES: readonly number[] = [16, 24, 32, 64];

/** RFC 7515 section 4.1.9: the name may be written with "application/" and compares without regard to case. */
export const isWrappedDataKey = (recipients: readonly CompactJwe[]): boolean =>
  recipients.some(({ header }) => {
    const type = header.members['typ'];
    return typeof type === 'string' && type.toLowerCase().replace(/^application\//, '') === DATA_KEY_TYPE;
  });
