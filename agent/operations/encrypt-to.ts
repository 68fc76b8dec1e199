// EncryptTo: a Compact JWE for a public key that the caller brings. Nothing of the key is stored; the record names its
// thumbprint.
import { DEFAULT_ENC } from '../crypto/content-encryption.ts';
import { wrapForPublicKey } from '../crypto/key-management.ts';
import { MAX_JWK_BYTES, parsePublicJwk } from '../crypto/public-jwk.ts';
import { MAX_ASSOCIATED_DATA_BYTES, MAX_DATA_BYTES, requireSize } from './jose/checks.ts';
import { freshContentKey } from './jose/content-key.ts';
import { sealJwe } from './jose/seal-jwe.ts';
import { keyManagementOf } from './jose/targets.ts';
import { type Performed, type Ports, perform } from './perform.ts';
import type { Call } from './ports/call.ts';

export interface EncryptToInput {
  /** JSON. */
  readonly publicJwk: string;
  readonly plaintext: Buffer;
  readonly associatedData: Buffer;
}

export interface EncryptToOutput {
  readonly jwe: string;
}

export const encryptTo = (ports: Ports, call: Call, input: EncryptToInput): Promise<Performed<EncryptToOutput>> =>
  perform(ports, call, 'encrypt-to', async (run) => {
    requireSize('public_jwk', Buffer.byteLength(input.publicJwk), MAX_JWK_BYTES);
    requireSize('plaintext', input.plaintext.length, MAX_DATA_BYTES);
    requireSize('associated_data', input.associatedData.length, MAX_ASSOCIATED_DATA_BYTES);
    const recipient = parsePublicJwk(input.publicJwk);
    const alg = keyManagementOf(recipient);
    run.about({ requested: recipient.thumbprint, algorithm: alg });
    run.note({ thumbprint: recipient.thumbprint });
    run.decide({ algorithm: recipient.algorithm, jose: alg });
    const content = await freshContentKey(ports, (cek) => wrapForPublicKey(alg, recipient, cek, DEFAULT_ENC.name));
    const { plaintext, associatedData } = input;
    return { jwe: sealJwe(content, { alg, kid: recipient.kid ?? recipient.thumbprint, plaintext, associatedData }) };
  });
