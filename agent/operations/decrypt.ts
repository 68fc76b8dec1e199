// Decrypt: a Compact JWE under the version that its kid names, or under one of the versions of the key given. Invariant:
// a CEK that cannot be reached is replaced by a random one and the content is opened all the same (RFC 7516 section
// 11.5), so every cryptographic failure ends at the same place with the same error.
import type { KeyVersionRecord } from '../../proto/documents/key-record.ts';
import { matchesAssociatedData } from '../crypto/associated-data.ts';
import { decryptContent } from '../crypto/content-encryption.ts';
import { unwrapByAgreement } from '../crypto/ecdh-es.ts';
import { type CompactJwe, parseCompactJwe } from '../crypto/jwe.ts';
import { type KeyManagement, parseKeyManagement } from '../crypto/key-management.ts';
import { AgentError, invalid } from '../errors.ts';
import { MAX_ASSOCIATED_DATA_BYTES, MAX_JOSE_BYTES, refuseForbidden, requireSize } from './jose/checks.ts';
import { namedKey, tokenIdOf, versionsToTry } from './jose/named-key.ts';
import { type Performed, type Ports, perform, type Run } from './perform.ts';
import type { Call } from './ports.ts';

export interface DecryptInput {
  readonly jwe: string;
  /** Empty means that the kid names it. */
  readonly key: string;
  readonly associatedData: Buffer;
}

export interface DecryptOutput {
  readonly plaintext: Buffer;
}

const unwrapInToken = async (
  ports: Ports,
  run: Run,
  tokenId: string,
  management: KeyManagement,
  encryptedKey: Buffer,
): Promise<Buffer | undefined> => {
  switch (management.kind) {
    case 'gcm': {
      const data = Buffer.concat([encryptedKey, management.tag]);
      return ports.token.gcmDecrypt(tokenId, { iv: management.iv, aad: Buffer.alloc(0), data }, run.token);
    }
    case 'oaep':
      return ports.token.oaepDecrypt(tokenId, encryptedKey, run.token);
    case 'agreement': {
      const secret = await ports.token.ecdh(tokenId, management.ecdh.point, run.token);
      return unwrapByAgreement(secret, management.ecdh, encryptedKey);
    }
  }
};

/** The CEK, or random bytes in its place. Failures of the token itself are thrown. */
export const cekOf = async (ports: Ports, run: Run, version: KeyVersionRecord, jwe: CompactJwe): Promise<Buffer> => {
  const management = parseKeyManagement(jwe, version.jose, version.publicJwk?.['crv']);
  const standIn = await ports.random.take(jwe.enc.cekBytes); // drawn in every case, so a failure costs no more
  let cek: Buffer | undefined;
  try {
    cek = await unwrapInToken(ports, run, tokenIdOf(version), management, jwe.encryptedKey);
  } catch (thrown) {
    if (!(thrown instanceof AgentError) || thrown.code !== 'INVALID_CIPHERTEXT') throw thrown;
  }
  if (cek?.length === jwe.enc.cekBytes) {
    standIn.fill(0);
    return cek;
  }
  cek?.fill(0);
  return standIn;
};

const open = async (
  ports: Ports,
  run: Run,
  version: KeyVersionRecord,
  jwe: CompactJwe,
  associatedData: Buffer,
): Promise<Buffer | undefined> => {
  const cek = await cekOf(ports, run, version, jwe);
  const plaintext = decryptContent(jwe.enc, cek, jwe.protectedSegment, jwe);
  cek.fill(0);
  if (matchesAssociatedData(jwe.header, associatedData)) return plaintext;
  plaintext?.fill(0);
  return undefined;
};

export const decrypt = (ports: Ports, call: Call, input: DecryptInput): Promise<Performed<DecryptOutput>> =>
  perform(ports, call, 'decrypt', async (run) => {
    requireSize('jwe', input.jwe.length, MAX_JOSE_BYTES);
    requireSize('associated_data', input.associatedData.length, MAX_ASSOCIATED_DATA_BYTES);
    const jwe = parseCompactJwe(input.jwe);
    const { alg, kid } = jwe.header;
    refuseForbidden(alg);
    const named = namedKey(run, { key: input.key, kid, field: 'jwe' });
    const numbers = versionsToTry(named, (row) => row.jose === alg);
    if (numbers.length === 0) throw invalid('jwe', `no version of the key is for "${alg}"`);
    for (const number of numbers) {
      const version = run.process(named.key, number);
      if (version.jose !== alg) throw invalid('jwe', `header "alg" is not "${version.jose}", that of the key version`);
      const plaintext = await open(ports, run, version, jwe, input.associatedData);
      if (plaintext !== undefined) return { plaintext };
    }
    throw new AgentError('INVALID_CIPHERTEXT');
  });
