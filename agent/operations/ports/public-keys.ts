// Where key objects of public keys come from.

import type { KeyObject } from 'node:crypto';
import type { PublicJwk } from '../../../proto/documents/key-record.ts';

export interface PublicKeysPort {
  /** The public key of a key version as a key object, from a bounded cache. `keyJwk`: the JWK that OpenSSL takes for it. */
  get(jwk: PublicJwk, keyJwk?: (whole: PublicJwk) => PublicJwk): KeyObject;
}
