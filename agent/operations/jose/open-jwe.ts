// Opens a JWE of any serialization with a key of the caller's tenant. Invariant: a CEK that cannot be reached is replaced
// by a random one and the content is opened all the same (RFC 7516 section 11.5), so every cryptographic failure ends at
// the same place with the same error.
import type { KeyRecord, KeyVersionRecord } from '../../../proto/documents/key-record.ts';
import { matchesAssociatedData } from '../../crypto/associated-data.ts';
import { decryptContent } from '../../crypto/content-encryption.ts';
import { openMessage } from '../../crypto/hpke.ts';
import { type CompactJwe, contentAad } from '../../crypto/jwe.ts';
import { INTEGRATED } from '../../crypto/kem-algorithms.ts';
import { AgentError } from '../../errors.ts';
import type { Part, Ports, Run } from '../perform.ts';
import { unwrapCek, wrapName } from './content-key.ts';
import type { Holder } from './private-half.ts';
import { recipientsToTry } from './recipients.ts';

const decryptWith = (jwe: CompactJwe, cek: Buffer, associatedData: Buffer): Buffer | undefined => {
  const aad = contentAad(jwe);
  const plaintext =
    jwe.enc === INTEGRATED
      ? openMessage(cek, Buffer.from(aad, 'ascii'), jwe.ciphertext)
      : decryptContent(jwe.enc, cek, aad, jwe);
  if (matchesAssociatedData(jwe.header, associatedData, jwe.aadMember)) return plaintext;
  plaintext?.fill(0);
  return undefined;
};

/** Opens with one version and no cache; undefined where it does not open. The content key goes to `keep` where it does. */
export const openWith = async (
  ports: Ports,
  run: Run,
  holder: Holder,
  jwe: CompactJwe,
  associatedData: Buffer,
  keep?: (cek: Buffer) => void,
): Promise<Buffer | undefined> => {
  const standIn = await ports.random.take(jwe.enc.cekBytes); // drawn in every case, so a failure costs no more
  const cek = (await unwrapCek(ports, run, holder, jwe)) ?? standIn;
  try {
    const plaintext = decryptWith(jwe, cek, associatedData);
    if (plaintext !== undefined) keep?.(cek); // only what has opened something is worth a place
    return plaintext;
  } finally {
    cek.fill(0);
    standIn.fill(0);
  }
};

const openByCache = async (
  ports: Ports,
  run: Run,
  { key, version, jwe }: { readonly key: KeyRecord; readonly version: KeyVersionRecord; readonly jwe: CompactJwe },
  associatedData: Buffer,
): Promise<Buffer | undefined> => {
  const bytes = jwe.ciphertext.length;
  const use = { tenant: key.tenant, keyId: key.keyId, version: version.version, bytes };
  const slot = ports.dataKeys.toDecrypt({ ...use, wrap: () => wrapName(jwe) });
  if (slot !== undefined && 'found' in slot) {
    run.note({ contentKey: 'cached' });
    try {
      return decryptWith(jwe, slot.found, associatedData);
    } finally {
      slot.found.fill(0);
    }
  }
  return openWith(ports, run, { key, version }, jwe, associatedData, slot?.keep);
};

export interface Opened {
  readonly plaintext: Buffer;
  readonly key: KeyRecord;
  readonly version: KeyVersionRecord;
}

/** The plaintext, which is the caller's to wipe. INVALID_CIPHERTEXT where no key that may be tried opens it. */
export const openJwe = async (
  ports: Ports,
  run: Run,
  input: {
    readonly recipients: readonly CompactJwe[];
    /** Empty means that a kid names it. */
    readonly key: string;
    readonly keyField?: string;
    readonly associatedData: Buffer;
    readonly part?: Part;
  },
): Promise<Opened> => {
  for (const { jwe, key, version } of recipientsToTry(run, input)) {
    const plaintext = await openByCache(ports, run, { key, version, jwe }, input.associatedData);
    if (plaintext !== undefined) return { plaintext, key, version };
  }
  throw new AgentError('INVALID_CIPHERTEXT');
};
