// ReEncrypt: from a JWE under one key to a Compact JWE under another, or under the primary version of the same. Invariant:
// the plaintext is in this process only, and wiped before the answer.
import { kidOf } from '../../proto/documents/key-record.ts';
import { MAX_ASSOCIATED_DATA_BYTES, requireSize } from './jose/checks.ts';
import { contentKeyFor, requireBelowCeiling } from './jose/content-key.ts';
import { DATA_KEY_TYPE, isWrappedDataKey } from './jose/data-key.ts';
import { type Opened, openJwe } from './jose/open-jwe.ts';
import { noteSource, type SourceUsed, sidesOf } from './jose/parts.ts';
import { readRecipients } from './jose/recipients.ts';
import { sealJwe } from './jose/seal-jwe.ts';
import { type Part, type Performed, type Ports, perform, type Run } from './perform.ts';
import type { Call } from './ports/call.ts';

export interface ReEncryptInput {
  readonly jwe: string;
  /** Empty means that a kid of the JWE names it. */
  readonly sourceKey: string;
  /** Empty means the source key. */
  readonly targetKey: string;
  readonly associatedData: Buffer;
  /** Undefined means the same as before. */
  readonly newAssociatedData: Buffer | undefined;
}

export interface ReEncryptOutput extends SourceUsed {
  readonly jwe: string;
}

interface Sealing {
  readonly target: Part;
  readonly associatedData: Buffer;
  readonly isDataKey: boolean;
}

const sealUnder = async (
  ports: Ports,
  run: Run,
  name: string,
  plaintext: Buffer,
  { target, associatedData, isDataKey }: Sealing,
): Promise<string> => {
  const key = run.key(name, 'target_key', target);
  requireBelowCeiling(ports, key);
  const version = await run.apply(key, target);
  const content = await contentKeyFor(ports, run, key, version, plaintext.length);
  const kid = kidOf(key.tenant, key.keyId, version.version);
  const type = isDataKey ? { type: DATA_KEY_TYPE } : {};
  return sealJwe(content, { alg: version.jose, kid, plaintext, associatedData, ...type });
};

export const reEncrypt = (ports: Ports, call: Call, input: ReEncryptInput): Promise<Performed<ReEncryptOutput>> =>
  perform(ports, call, 're-encrypt', async (run) => {
    const { associatedData, newAssociatedData = associatedData } = input;
    requireSize('associated_data', associatedData.length, MAX_ASSOCIATED_DATA_BYTES);
    requireSize('new_associated_data', newAssociatedData.length, MAX_ASSOCIATED_DATA_BYTES);
    const recipients = readRecipients(input.jwe);
    const isDataKey = isWrappedDataKey(recipients);
    const sides = sidesOf(run, {
      read: isDataKey ? 'decrypt-data-key' : 'decrypt',
      write: isDataKey ? 'generate-data-key' : 'encrypt',
      sameKey: input.targetKey === '',
    });
    const { plaintext, key, version }: Opened = await openJwe(ports, run, {
      recipients,
      key: input.sourceKey,
      keyField: 'source_key',
      associatedData,
      part: sides.source,
    });
    try {
      const source = noteSource(run, key, version);
      const name = input.targetKey === '' ? key.keyId : input.targetKey;
      const sealing = { target: sides.target, associatedData: newAssociatedData, isDataKey };
      return { jwe: await sealUnder(ports, run, name, plaintext, sealing), ...source };
    } finally {
      plaintext.fill(0);
    }
  });
