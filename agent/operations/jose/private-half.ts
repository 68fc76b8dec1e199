// The private side of key management, wherever the private key is: in the token, wrapped, or a half in each. Invariant:
// private bytes and agreed secrets are in this process only while they are used, and a refusal of the token is told by
// `undefined` or hidden by the KEM, never by an error of its own.
import { algorithm } from '../../../proto/documents/algorithms.ts';
import type { KeyRecord, KeyVersionRecord } from '../../../proto/documents/key-record.ts';
import { unwrapByAgreement } from '../../crypto/ecdh-es.ts';
import { unwrapUnderSecret } from '../../crypto/kem-key-wrap.ts';
import type { KeyManagement } from '../../crypto/key-management.ts';
import {
  classicalPublicOf,
  decapsulateWith,
  decapsulateWithSeed,
  pqcWithSeed,
  RSA_SECRET_BYTES,
} from '../../crypto/pq-kem.ts';
import { x25519 } from '../../crypto/x25519.ts';
import { AgentError } from '../../errors.ts';
import type { Ports, Run } from '../perform.ts';
import type { HeldSeed } from '../ports/vault.ts';
import { tokenIdOf } from './named-key.ts';

/** A version and the record that it is of, which the vault asks for; keys of the token alone may come without. */
export interface Holder {
  readonly key: KeyRecord | undefined;
  readonly version: KeyVersionRecord;
}

const isRefusal = (thrown: unknown): boolean => thrown instanceof AgentError && thrown.code === 'INVALID_CIPHERTEXT';

/** What the token answers, or undefined where it refuses the ciphertext. */
export const unlessRefused = async (work: Promise<Buffer>): Promise<Buffer | undefined> => {
  try {
    return await work;
  } catch (thrown) {
    if (isRefusal(thrown)) return undefined;
    throw thrown;
  }
};

/** Runs `use` with the private bytes of a wrapped key, or half; the record says where they were in memory before. */
export const withSeed = <T>(
  ports: Ports,
  run: Run,
  { key, version }: Holder,
  use: (seed: Buffer, held: HeldSeed) => Promise<T> | T,
): Promise<T> => {
  if (key === undefined) throw new TypeError('a wrapped key is unwrapped by its record');
  return ports.vault.withSeed(key, version, run.token, (seed, held) => {
    if (held.isKept) run.note({ privateKey: 'cached' });
    return use(seed, held);
  });
};

/** ECDH with the private key in the token, or X25519 with a wrapped one. Undefined where the key's owner refuses. */
export const agree = (ports: Ports, run: Run, holder: Holder, point: Buffer): Promise<Buffer | undefined> => {
  const { version } = holder;
  if (version.custody === 'hsm') return unlessRefused(ports.token.ecdh(tokenIdOf(version), point, run.token));
  return withSeed(ports, run, holder, (seed) => x25519(seed, point));
};

type KemManagement = KeyManagement & { kind: 'kem' };

/** The classical half of a key that is not wrapped whole, asked of the token. */
const classicalInToken = (ports: Ports, run: Run, version: KeyVersionRecord) => (ciphertext: Buffer) => {
  const isRsa = algorithm(version.algorithm)?.components?.classical.startsWith('RSA-') === true;
  const tokenId = tokenIdOf(version);
  return unlessRefused(
    isRsa
      ? ports.token.oaepDecrypt(tokenId, ciphertext, run.token, RSA_SECRET_BYTES)
      : ports.token.ecdh(tokenId, ciphertext, run.token),
  );
};

const kemSecret = (
  ports: Ports,
  run: Run,
  holder: Holder,
  { algorithm: alg, ciphertext }: KemManagement,
): Promise<Buffer> => {
  const { version } = holder;
  const classicalPublic = classicalPublicOf(alg.kem, version.publicJwk ?? {});
  if (version.custody === 'hsm') {
    const classical = classicalInToken(ports, run, version);
    const pqc = (text: Buffer) => ports.token.decapsulate(tokenIdOf(version), text, run.token);
    return decapsulateWith(alg.kem, ciphertext, { pqc, classical, classicalPublic });
  }
  return withSeed(ports, run, holder, (seed, { expand }) => {
    if (version.custody !== 'split') return decapsulateWithSeed(alg.kem, ciphertext, { seed, classicalPublic, expand });
    const classical = classicalInToken(ports, run, version);
    const pqc = pqcWithSeed(alg.kem, seed, expand);
    return decapsulateWith(alg.kem, ciphertext, { pqc, classical, classicalPublic });
  });
};

/** What reaches the content: the CEK, or the message key of integrated encryption. Undefined where it does not open. */
export const unwrapByPrivateKey = async (
  ports: Ports,
  run: Run,
  holder: Holder,
  management: Exclude<KeyManagement, { kind: 'gcm' }>,
  { encryptedKey, enc }: { readonly encryptedKey: Buffer; readonly enc: { readonly name: string } },
): Promise<Buffer | undefined> => {
  switch (management.kind) {
    case 'oaep':
      return unlessRefused(ports.token.oaepDecrypt(tokenIdOf(holder.version), encryptedKey, run.token));
    case 'agreement': {
      const secret = await agree(ports, run, holder, management.ecdh.point);
      return secret && unwrapByAgreement(secret, management.ecdh, encryptedKey);
    }
    case 'kem': {
      const secret = await kemSecret(ports, run, holder, management);
      return unwrapUnderSecret(management.algorithm, enc.name, secret, encryptedKey);
    }
  }
};
