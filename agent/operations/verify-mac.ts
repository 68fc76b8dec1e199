// VerifyMac: computes the HMAC in the token again and compares in constant time. Only full-length MACs are compared.
import { timingSafeEqual } from 'node:crypto';
import { invalid } from '../errors.ts';
import { MAX_TOKEN_DATA_BYTES, requireSize } from './jose/checks.ts';
import { tokenIdOf } from './jose/named-key.ts';
import { type Performed, type Ports, perform } from './perform.ts';
import type { Call } from './ports/call.ts';

export interface VerifyMacInput {
  readonly key: string;
  readonly message: Buffer;
  readonly mac: Buffer;
  /** 0 means the primary version. */
  readonly version: number;
}

export interface VerifyMacOutput {
  readonly valid: boolean;
}

export const verifyMac = (ports: Ports, call: Call, input: VerifyMacInput): Promise<Performed<VerifyMacOutput>> =>
  perform(ports, call, 'verify-mac', async (run) => {
    requireSize('message', input.message.length, MAX_TOKEN_DATA_BYTES);
    const key = run.key(input.key);
    const version = run.process(key, input.version === 0 ? undefined : input.version);
    const bytes = Number(version.jose.slice(2)) / 8; // HS256, HS384, HS512
    if (input.mac.length !== bytes)
      throw invalid('mac', `${version.jose} has ${bytes} bytes; truncated MACs are refused`);
    const expected = await ports.token.mac(tokenIdOf(version), version.jose, input.message, run.token);
    const valid = expected.length === bytes && timingSafeEqual(expected, input.mac);
    if (!valid) run.outcome('SIGNATURE_INVALID');
    return { valid };
  });
