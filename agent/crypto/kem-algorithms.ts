// The JWE algorithms over a post-quantum or composite KEM: which KEM, and how the content is reached from its secret.
import { ALGORITHMS } from '../../proto/documents/algorithms.ts';
import { PQ_KEMS, type PqKem } from '../../proto/documents/pq-kems.ts';
import type { ContentEncryption } from './content-encryption.ts';
import { MESSAGE_KEY_BYTES } from './hpke.ts';

export interface KemAlgorithm {
  readonly jose: string;
  readonly kem: PqKem;
  /**
   * `key-encryption`: HPKE seals the CEK; `integrated`: HPKE seals the content (draft-ietf-jose-hpke-encrypt);
   * `key-wrap`: the composite's secret wraps the CEK (docs/spec/composite.md).
   */
  readonly form: 'key-encryption' | 'integrated' | 'key-wrap';
}

const formOf = (kem: PqKem, jose: string): KemAlgorithm['form'] => {
  if (kem.hpkeId === undefined) return 'key-wrap';
  return jose.endsWith('-KE') ? 'key-encryption' : 'integrated';
};

export const KEM_ALGORITHMS: ReadonlyMap<string, KemAlgorithm> = new Map(
  ALGORITHMS.flatMap(({ id, jose }) => {
    const kem = PQ_KEMS.get(id);
    return kem === undefined ? [] : (jose.encrypt ?? []).map((name) => ({ jose: name, kem, form: formOf(kem, name) }));
  }).map((row) => [row.jose, row]),
);

/**
 * Stands in the place of `enc` where HPKE seals the content itself: key and nonce of the one message are the CEK, the tag
 * is the end of the ciphertext.
 */
export const INTEGRATED: ContentEncryption = { name: '', cekBytes: MESSAGE_KEY_BYTES, ivBytes: 0, tagBytes: 0 };

export const isIntegrated = (jose: string): boolean => KEM_ALGORITHMS.get(jose)?.form === 'integrated';
