// Encrypt: a Compact JWE under the primary version of a key. AES keys wrap the CEK in the token; RSA and EC keys need
// only their public half, in software.
import { algorithm } from '../../proto/documents/algorithms.ts';
import { type KeyRecord, type KeyVersionRecord, kidOf } from '../../proto/documents/key-record.ts';
import { primaryVersion } from '../../proto/documents/key-states.ts';
import { GCM_KEY_WRAPS, gcmWrapped, type WrappedCek, wrapForPublicKey } from '../crypto/key-management.ts';
import { AgentError } from '../errors.ts';
import { MAX_ASSOCIATED_DATA_BYTES, MAX_DATA_BYTES, requireSize } from './jose/checks.ts';
import { tokenIdOf } from './jose/named-key.ts';
import { sealJwe } from './jose/seal-jwe.ts';
import { type Performed, type Ports, perform, type Run } from './perform.ts';
import type { Call } from './ports.ts';

export interface EncryptInput {
  readonly key: string;
  readonly plaintext: Buffer;
  /** Empty means none. */
  readonly associatedData: Buffer;
}

export interface EncryptOutput {
  readonly jwe: string;
}

/** The ceiling that no policy lifts: a random iv per wrap (SP 800-38D section 8.3). */
export const requireBelowCeiling = (ports: Ports, key: KeyRecord): void => {
  const ceiling = algorithm(primaryVersion(key)?.algorithm ?? '')?.maxUses;
  if (ceiling !== undefined && ports.keys.uses(key.tenant, key.keyId) >= ceiling) {
    throw new AgentError('KEY_LIMIT', { metadata: { key: key.keyId, limit: String(ceiling) } });
  }
};

export const wrapCek = async (
  ports: Ports,
  run: Run,
  version: KeyVersionRecord,
  cek: Buffer,
  iv: Buffer,
): Promise<WrappedCek> => {
  if (GCM_KEY_WRAPS.has(version.jose)) {
    const input = { iv, aad: Buffer.alloc(0), data: cek }; // RFC 7518 section 4.7: no associated data
    return gcmWrapped(iv, await ports.token.gcmEncrypt(tokenIdOf(version), input, run.token));
  }
  const jwk = version.publicJwk;
  if (jwk === undefined) throw new TypeError(`version ${version.version} has no public key`);
  return wrapForPublicKey(version.jose, { key: ports.publicKeys.get(jwk), jwk }, cek);
};

export const encrypt = (ports: Ports, call: Call, input: EncryptInput): Promise<Performed<EncryptOutput>> =>
  perform(ports, call, 'encrypt', async (run) => {
    requireSize('plaintext', input.plaintext.length, MAX_DATA_BYTES);
    requireSize('associated_data', input.associatedData.length, MAX_ASSOCIATED_DATA_BYTES);
    const key = run.key(input.key);
    requireBelowCeiling(ports, key);
    const version = await run.apply(key);
    const jwe = await sealJwe(ports.random, {
      alg: version.jose,
      kid: kidOf(key.tenant, key.keyId, version.version),
      plaintext: input.plaintext,
      associatedData: input.associatedData,
      wrap: (cek, iv) => wrapCek(ports, run, version, cek, iv),
    });
    return { jwe };
  });
