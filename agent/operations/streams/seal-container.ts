// Begins a container under the primary version of a key: wrapped header, fresh input key and salt. Invariant: the CEK and
// the input key serve one container and are wiped before its first byte leaves.
import { SALT_BYTES } from '../../../proto/documents/chunked/layout.ts';
import { type KeyRecord, type KeyVersionRecord, kidOf } from '../../../proto/documents/key-record.ts';
import { buildContainerHeader } from '../../crypto/chunked-container.ts';
import { ChunkedEncryptor } from '../../crypto/chunked-encryptor.ts';
import { buildChunkedHeader } from '../../crypto/chunked-header.ts';
import { INPUT_KEY_BYTES } from '../../crypto/chunked-keys.ts';
import { DEFAULT_ENC } from '../../crypto/content-encryption.ts';
import { freshContentKey, requireBelowCeiling, wrapCek } from '../jose/content-key.ts';
import type { Part, Ports, Run } from '../perform.ts';

export interface SealedContainer {
  /** Everything in front of the chunks. */
  readonly first: readonly Buffer[];
  readonly encryptor: ChunkedEncryptor;
}

export const sealContainer = async (
  ports: Ports,
  run: Run,
  key: KeyRecord,
  { context, part }: { readonly context: Buffer; readonly part?: Part },
): Promise<SealedContainer> => {
  requireBelowCeiling(ports, key);
  const version: KeyVersionRecord = await run.apply(key, part);
  const { cek, iv, wrapped } = await freshContentKey(ports, (bytes, fresh) =>
    wrapCek(ports, run, version, { cek: bytes, iv: fresh, enc: DEFAULT_ENC.name }),
  );
  const random = await ports.random.take(INPUT_KEY_BYTES + SALT_BYTES);
  try {
    const inputKey = random.subarray(0, INPUT_KEY_BYTES);
    const kid = kidOf(key.tenant, key.keyId, version.version);
    const header = buildChunkedHeader({ alg: version.jose, kid, wrapped, cek, iv, inputKey });
    const encryptor = new ChunkedEncryptor({ inputKey, salt: random.subarray(INPUT_KEY_BYTES), context });
    return { first: [buildContainerHeader(header), encryptor.prefix], encryptor };
  } finally {
    cek.fill(0);
    random.fill(0);
  }
};
