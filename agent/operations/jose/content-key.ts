// Content keys of JWEs: wrapped for a key version, or reached through one. Invariant: what is handed out belongs to the
// receiver, who wipes it; a content key that cannot be reached is told by `undefined`, never by an error of its own.
import { hash } from 'node:crypto';
import { algorithm } from '../../../proto/documents/algorithms.ts';
import type { KeyRecord, KeyVersionRecord } from '../../../proto/documents/key-record.ts';
import { primaryVersion } from '../../../proto/documents/key-states.ts';
import { AAD_PARAMETER } from '../../crypto/associated-data.ts';
import { encodeBase64url } from '../../crypto/base64url.ts';
import { DEFAULT_ENC } from '../../crypto/content-encryption.ts';
import type { CompactJwe } from '../../crypto/jwe.ts';
import { isIntegrated } from '../../crypto/kem-algorithms.ts';
import {
  GCM_KEY_WRAPS,
  gcmWrapped,
  type KeyManagement,
  parseKeyManagement,
  type WrappedCek,
  wrapForPublicKey,
  wrapKeyJwk,
} from '../../crypto/key-management.ts';
import { AgentError, invalid } from '../../errors.ts';
import type { Ports, Run } from '../perform.ts';
import type { CacheSlot, WrappedContentKey } from '../ports/data-keys.ts';
import { tokenIdOf } from './named-key.ts';
import { type Holder, unlessRefused, unwrapByPrivateKey } from './private-half.ts';

/** A content key with its wrap, and a fresh iv for one message under it. */
export interface ContentKey {
  readonly cek: Buffer;
  readonly iv: Buffer;
  readonly wrapped: WrappedCek;
}

/** The ceiling that no policy lifts: a random iv per wrap (SP 800-38D section 8.3). */
export const requireBelowCeiling = (ports: Ports, key: KeyRecord): void => {
  const ceiling = algorithm(primaryVersion(key)?.algorithm ?? '')?.maxUses;
  if (ceiling !== undefined && ports.keys.uses(key.tenant, key.keyId) >= ceiling) {
    throw new AgentError('KEY_LIMIT', { metadata: { key: key.keyId, limit: String(ceiling) } });
  }
};

/** Wraps a content key, which is for `enc`, for a version; the iv is fresh, for an AES-GCM that wants one. */
export const wrapCek = async (
  ports: Ports,
  run: Run,
  version: KeyVersionRecord,
  { cek, iv, enc }: { readonly cek: Buffer; readonly iv: Buffer; readonly enc: string },
): Promise<WrappedCek> => {
  if (GCM_KEY_WRAPS.has(version.jose)) {
    const input = { iv, aad: Buffer.alloc(0), data: cek }; // RFC 7518 section 4.7: no associated data
    return gcmWrapped(iv, await ports.token.gcmEncrypt(tokenIdOf(version), input, run.token));
  }
  const jwk = version.publicJwk;
  if (jwk === undefined) throw new TypeError(`version ${version.version} has no public key`);
  if (isIntegrated(version.jose)) {
    throw invalid('key', `its primary version is for ${version.jose}, which is read but not written; rotate the key`);
  }
  const key = ports.publicKeys.get(jwk, (whole) => wrapKeyJwk(version.jose, whole));
  return wrapForPublicKey(version.jose, { key, jwk }, cek, enc);
};

/** A fresh content key, wrapped by `wrap`. */
export const freshContentKey = async (
  ports: Ports,
  wrap: (cek: Buffer, iv: Buffer) => Promise<WrappedCek> | WrappedCek,
): Promise<ContentKey> => {
  const { cekBytes, ivBytes } = DEFAULT_ENC;
  const bytes = await ports.random.take(cekBytes + 2 * ivBytes);
  const cek = bytes.subarray(0, cekBytes);
  try {
    const wrapped = await wrap(cek, bytes.subarray(cekBytes, cekBytes + ivBytes));
    return { cek, iv: bytes.subarray(cekBytes + ivBytes), wrapped };
  } catch (thrown) {
    cek.fill(0);
    throw thrown;
  }
};

/** The content key for one more message of `bytes` under the primary version: a kept one, where policy allows it. */
export const contentKeyFor = async (
  ports: Ports,
  run: Run,
  key: KeyRecord,
  version: KeyVersionRecord,
  bytes: number,
): Promise<ContentKey> => {
  const use = { tenant: key.tenant, keyId: key.keyId, version: version.version, bytes };
  const slot: CacheSlot<WrappedContentKey> | undefined = ports.dataKeys.toEncrypt(use);
  if (slot !== undefined && 'found' in slot) {
    const { cek, encryptedKey, members } = slot.found;
    run.note({ contentKey: 'cached' });
    return { cek, iv: await ports.random.take(DEFAULT_ENC.ivBytes), wrapped: { encryptedKey, members } };
  }
  const made = await freshContentKey(ports, (cek, iv) =>
    wrapCek(ports, run, version, { cek, iv, enc: DEFAULT_ENC.name }),
  );
  slot?.keep({ cek: made.cek, ...made.wrapped });
  return made;
};

const unwrapByGcm = (
  ports: Ports,
  run: Run,
  version: KeyVersionRecord,
  { iv, tag }: KeyManagement & { kind: 'gcm' },
  encryptedKey: Buffer,
): Promise<Buffer> => {
  const input = { iv, aad: Buffer.alloc(0), data: Buffer.concat([encryptedKey, tag]) };
  return ports.token.gcmDecrypt(tokenIdOf(version), input, run.token);
};

/** The content key of a JWE, or undefined where it does not open. Failures of the token itself are thrown. */
export const unwrapCek = async (
  ports: Ports,
  run: Run,
  holder: Holder,
  jwe: CompactJwe,
): Promise<Buffer | undefined> => {
  const { version } = holder;
  const management = parseKeyManagement(jwe, version.jose, version.publicJwk?.['crv']);
  const cek = await (management.kind === 'gcm'
    ? unlessRefused(unwrapByGcm(ports, run, version, management, jwe.encryptedKey))
    : unwrapByPrivateKey(ports, run, holder, management, jwe));
  if (cek?.length === jwe.enc.cekBytes) return cek;
  cek?.fill(0);
  return undefined;
};

/** Header members that say nothing about how the content key was wrapped. */
const NOT_OF_THE_WRAP: ReadonlySet<string> = new Set(['crit', 'typ', 'cty', AAD_PARAMETER]);

/** One name for the encrypted key and all that it was wrapped with: equal names have the same content key. */
export const wrapName = (jwe: CompactJwe): string => {
  const members = Object.entries(jwe.header.members).filter(([name]) => !NOT_OF_THE_WRAP.has(name));
  return hash('sha256', JSON.stringify([encodeBase64url(jwe.encryptedKey), ...members]), 'base64url');
};
