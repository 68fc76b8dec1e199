// Seals a MAC key of the audit log to the registry: a compact JWE that nobody else opens, bound to host and epoch.
import type { KeyObject } from 'node:crypto';
import { CompactEncrypt, calculateJwkThumbprint, importJWK } from 'jose';
import { AgentError } from '../errors.ts';

const ALG = 'ECDH-ES+A256KW';

export const sealMacKey = async (what: {
  readonly key: KeyObject;
  readonly host: string;
  readonly epoch: number;
  /** The registry's public key as JSON; undefined where none is pinned. */
  readonly jwk: string | undefined;
}): Promise<string> => {
  const { key, host, epoch, jwk } = what;
  if (jwk === undefined) {
    throw new AgentError('REGISTRY_UNAVAILABLE', { message: 'no key of the registry is pinned to seal MAC keys to' });
  }
  const recipient = JSON.parse(jwk);
  const bytes = key.export();
  try {
    return await new CompactEncrypt(bytes)
      .setProtectedHeader({
        alg: ALG,
        enc: 'A256GCM',
        kid: await calculateJwkThumbprint(recipient),
        mortise: `${host}/${epoch}`,
      })
      .encrypt(await importJWK(recipient, ALG));
  } finally {
    bytes.fill(0);
  }
};
