// X25519 (RFC 7748) of raw keys. Invariant: a public key of small order agrees on nothing, as section 6.1 wants it.
import { createPublicKey, diffieHellman, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { x25519PrivateKey } from '../../proto/documents/pq-kems.ts';
import { AgentError } from '../errors.ts';
import { encodeBase64url } from './base64url.ts';

const publicKey = (bytes: Buffer): KeyObject =>
  createPublicKey({ key: { kty: 'OKP', crv: 'X25519', x: encodeBase64url(bytes) }, format: 'jwk' });

/** The shared secret, or undefined where the other side's key is of small order. */
export const x25519 = (own: Buffer, other: Buffer): Buffer | undefined => {
  try {
    return diffieHellman({ privateKey: x25519PrivateKey(own), publicKey: publicKey(other) });
  } catch {
    return undefined; // OpenSSL refuses an all-zero secret
  }
};

/** A secret with a fresh ephemeral key, whose public half goes to the other side. Throws where theirs is of small order. */
export const agreeX25519 = (
  other: Buffer,
): { readonly secret: Buffer; readonly epk: { readonly kty: 'OKP'; readonly crv: 'X25519'; readonly x: string } } => {
  const ephemeral = generateKeyPairSync('x25519');
  const { x = '' } = ephemeral.publicKey.export({ format: 'jwk' });
  try {
    const secret = diffieHellman({ privateKey: ephemeral.privateKey, publicKey: publicKey(other) });
    return { secret, epk: { kty: 'OKP', crv: 'X25519', x } };
  } catch (cause) {
    throw new AgentError('INVALID_REQUEST', { message: 'the X25519 public key is of small order', cause });
  }
};
