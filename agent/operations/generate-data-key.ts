// GenerateDataKey: a random key for the caller to encrypt with, and the same as the plaintext of a JWE of its own type.
import { kidOf } from '../../proto/documents/key-record.ts';
import { invalid } from '../errors.ts';
import { MAX_ASSOCIATED_DATA_BYTES, requireSize } from './jose/checks.ts';
import { contentKeyFor, requireBelowCeiling } from './jose/content-key.ts';
import { DATA_KEY_BYTES, DATA_KEY_TYPE } from './jose/data-key.ts';
import { sealJwe } from './jose/seal-jwe.ts';
import { type Performed, type Ports, perform } from './perform.ts';
import type { Call } from './ports/call.ts';

const DEFAULT_BYTES = 32;

export interface GenerateDataKeyInput {
  readonly key: string;
  /** 0 means 32. */
  readonly length: number;
  readonly wrappedOnly: boolean;
  readonly associatedData: Buffer;
}

export interface GenerateDataKeyOutput {
  /** Empty where only the wrapped form was asked for. */
  readonly dataKey: Buffer;
  readonly wrappedDataKey: string;
}

export const generateDataKey = (
  ports: Ports,
  call: Call,
  input: GenerateDataKeyInput,
): Promise<Performed<GenerateDataKeyOutput>> =>
  perform(ports, call, 'generate-data-key', async (run) => {
    const { associatedData, wrappedOnly } = input;
    const length = input.length === 0 ? DEFAULT_BYTES : input.length;
    if (!DATA_KEY_BYTES.includes(length)) throw invalid('length', `one of ${DATA_KEY_BYTES.join(', ')}`);
    requireSize('associated_data', associatedData.length, MAX_ASSOCIATED_DATA_BYTES);
    const key = run.key(input.key);
    requireBelowCeiling(ports, key);
    const version = await run.apply(key);
    run.note({ length, wrappedOnly });
    const content = await contentKeyFor(ports, run, key, version, length);
    const dataKey = await ports.random.take(length);
    const kid = kidOf(key.tenant, key.keyId, version.version);
    const sealing = { alg: version.jose, kid, type: DATA_KEY_TYPE, plaintext: dataKey, associatedData };
    const wrappedDataKey = sealJwe(content, sealing);
    if (!wrappedOnly) return { dataKey, wrappedDataKey };
    dataKey.fill(0);
    return { dataKey: Buffer.alloc(0), wrappedDataKey };
  });
