// Makes a Compact JWE: fresh CEK and ivs from the random pool, the CEK wrapped by whoever holds the key, the content
// under A256GCM. Invariant: the CEK serves one message and is wiped, whatever happens.
import { associatedDataMembers } from '../../crypto/associated-data.ts';
import { DEFAULT_ENC, encryptContent } from '../../crypto/content-encryption.ts';
import { buildCompactJwe, buildJweHeader } from '../../crypto/jwe.ts';
import type { WrappedCek } from '../../crypto/key-management.ts';
import type { RandomPort } from '../ports.ts';

export interface SealInput {
  readonly alg: string;
  readonly kid: string;
  readonly plaintext: Buffer;
  readonly associatedData: Buffer;
  /** Wraps the CEK; the iv is fresh, for an AES-GCM that wants one. */
  wrap(cek: Buffer, iv: Buffer): Promise<WrappedCek> | WrappedCek;
}

export const sealJwe = async (random: RandomPort, input: SealInput): Promise<string> => {
  const { cekBytes, ivBytes, name: enc } = DEFAULT_ENC;
  const bytes = await random.take(cekBytes + 2 * ivBytes);
  const cek = bytes.subarray(0, cekBytes);
  try {
    const wrapped = await input.wrap(cek, bytes.subarray(cekBytes, cekBytes + ivBytes));
    const protectedSegment = buildJweHeader({
      alg: input.alg,
      enc,
      kid: input.kid,
      ...associatedDataMembers(input.associatedData),
      ...wrapped.members,
    });
    const iv = bytes.subarray(cekBytes + ivBytes);
    const sealed = encryptContent({ cek, iv, aad: protectedSegment, plaintext: input.plaintext });
    return buildCompactJwe({ protectedSegment, encryptedKey: wrapped.encryptedKey, ...sealed });
  } finally {
    cek.fill(0);
  }
};
