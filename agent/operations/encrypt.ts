// Encrypt: a Compact JWE under the primary version of a key. AES keys wrap the CEK in the token; RSA and EC keys need
// only their public half, in software.
import { kidOf } from '../../proto/documents/key-record.ts';
import { MAX_ASSOCIATED_DATA_BYTES, MAX_DATA_BYTES, requireSize } from './jose/checks.ts';
import { contentKeyFor, requireBelowCeiling } from './jose/content-key.ts';
import { sealJwe } from './jose/seal-jwe.ts';
import { type Performed, type Ports, perform } from './perform.ts';
import type { Call } from './ports/call.ts';

export interface EncryptInput {
  readonly key: string;
  readonly plaintext: Buffer;
  /** Empty means none. */
  readonly associatedData: Buffer;
}

export interface EncryptOutput {
  readonly jwe: string;
}

export const encrypt = (ports: Ports, call: Call, input: EncryptInput): Promise<Performed<EncryptOutput>> =>
  perform(ports, call, 'encrypt', async (run) => {
    const { plaintext, associatedData } = input;
    requireSize('plaintext', plaintext.length, MAX_DATA_BYTES);
    requireSize('associated_data', associatedData.length, MAX_ASSOCIATED_DATA_BYTES);
    const key = run.key(input.key);
    requireBelowCeiling(ports, key);
    const version = await run.apply(key);
    const content = await contentKeyFor(ports, run, key, version, plaintext.length);
    const kid = kidOf(key.tenant, key.keyId, version.version);
    return { jwe: sealJwe(content, { alg: version.jose, kid, plaintext, associatedData }) };
  });
