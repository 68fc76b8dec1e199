// Decrypt: a JWE of any serialization, under the version that its kid names or under one of the versions of the key
// given.
import { invalid } from '../errors.ts';
import { MAX_ASSOCIATED_DATA_BYTES, requireSize } from './jose/checks.ts';
import { isWrappedDataKey } from './jose/data-key.ts';
import { openJwe } from './jose/open-jwe.ts';
import { readRecipients } from './jose/recipients.ts';
import { type Performed, type Ports, perform } from './perform.ts';
import type { Call } from './ports/call.ts';

export interface DecryptInput {
  readonly jwe: string;
  /** Empty means that the kid names it. */
  readonly key: string;
  readonly associatedData: Buffer;
}

export interface DecryptOutput {
  readonly plaintext: Buffer;
}

export const decrypt = (ports: Ports, call: Call, input: DecryptInput): Promise<Performed<DecryptOutput>> =>
  perform(ports, call, 'decrypt', async (run) => {
    requireSize('associated_data', input.associatedData.length, MAX_ASSOCIATED_DATA_BYTES);
    const recipients = readRecipients(input.jwe);
    if (isWrappedDataKey(recipients)) throw invalid('jwe', 'a wrapped data key is for DecryptDataKey');
    const { key, associatedData } = input;
    const { plaintext } = await openJwe(ports, run, { recipients, key, associatedData });
    return { plaintext };
  });
