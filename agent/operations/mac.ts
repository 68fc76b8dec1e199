// Mac: HMAC over a message by the primary version of a key, in the token.
import { MAX_TOKEN_DATA_BYTES, requireSize } from './jose/checks.ts';
import { tokenIdOf } from './jose/named-key.ts';
import { type Performed, type Ports, perform } from './perform.ts';
import type { Call } from './ports/call.ts';

export interface MacInput {
  readonly key: string;
  readonly message: Buffer;
}

export interface MacOutput {
  readonly mac: Buffer;
}

export const mac = (ports: Ports, call: Call, input: MacInput): Promise<Performed<MacOutput>> =>
  perform(ports, call, 'mac', async (run) => {
    requireSize('message', input.message.length, MAX_TOKEN_DATA_BYTES);
    const version = await run.apply(run.key(input.key));
    return { mac: await ports.token.mac(tokenIdOf(version), version.jose, input.message, run.token) };
  });
