// Makes a Compact JWE of a content key and a plaintext. Invariant: the content key given is wiped, whatever happens.
import { associatedDataMembers } from '../../crypto/associated-data.ts';
import { DEFAULT_ENC, encryptContent } from '../../crypto/content-encryption.ts';
import { buildCompactJwe, buildJweHeader } from '../../crypto/jwe.ts';
import type { ContentKey } from './content-key.ts';

export interface SealInput {
  readonly alg: string;
  readonly kid: string;
  /** Header `typ`. */
  readonly type?: string;
  readonly plaintext: Buffer;
  readonly associatedData: Buffer;
}

export const sealJwe = ({ cek, iv, wrapped }: ContentKey, input: SealInput): string => {
  try {
    const protectedSegment = buildJweHeader({
      alg: input.alg,
      enc: DEFAULT_ENC.name,
      ...(input.type !== undefined && { typ: input.type }),
      kid: input.kid,
      ...associatedDataMembers(input.associatedData),
      ...wrapped.members,
    });
    const sealed = encryptContent({ cek, iv, aad: protectedSegment, plaintext: input.plaintext });
    return buildCompactJwe({ protectedSegment, encryptedKey: wrapped.encryptedKey, ...sealed });
  } finally {
    cek.fill(0);
  }
};
