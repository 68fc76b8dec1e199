// DecryptDataKey: the data key in a JWE that GenerateDataKey or ReEncrypt made. Other ciphertexts are not opened.
import { AgentError, invalid } from '../errors.ts';
import { MAX_ASSOCIATED_DATA_BYTES, requireSize } from './jose/checks.ts';
import { DATA_KEY_BYTES, DATA_KEY_TYPE, isWrappedDataKey } from './jose/data-key.ts';
import { openJwe } from './jose/open-jwe.ts';
import { readRecipients } from './jose/recipients.ts';
import { type Performed, type Ports, perform } from './perform.ts';
import type { Call } from './ports/call.ts';

export interface DecryptDataKeyInput {
  readonly wrappedDataKey: string;
  /** Empty means that the kid names it. */
  readonly key: string;
  readonly associatedData: Buffer;
}

export interface DecryptDataKeyOutput {
  readonly dataKey: Buffer;
}

export const decryptDataKey = (
  ports: Ports,
  call: Call,
  input: DecryptDataKeyInput,
): Promise<Performed<DecryptDataKeyOutput>> =>
  perform(ports, call, 'decrypt-data-key', async (run) => {
    requireSize('associated_data', input.associatedData.length, MAX_ASSOCIATED_DATA_BYTES);
    const recipients = readRecipients(input.wrappedDataKey, 'wrapped_data_key');
    if (!isWrappedDataKey(recipients)) throw invalid('wrapped_data_key', `header "typ" is not "${DATA_KEY_TYPE}"`);
    const { key, associatedData } = input;
    const { plaintext: dataKey } = await openJwe(ports, run, { recipients, key, associatedData });
    if (DATA_KEY_BYTES.includes(dataKey.length)) return { dataKey };
    dataKey.fill(0); // anybody can make such a JWE for a public key
    throw new AgentError('INVALID_CIPHERTEXT');
  });
