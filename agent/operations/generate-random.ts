// GenerateRandom: bytes of the token's generator mixed with the operating system's, fresh for the call.
import { invalid } from '../errors.ts';
import { type Performed, type Ports, perform } from './perform.ts';
import type { Call } from './ports/call.ts';

const MAX_RANDOM_BYTES = 64 * 1024;

export interface GenerateRandomInput {
  readonly length: number;
}

export interface GenerateRandomOutput {
  readonly random: Buffer;
}

export const generateRandom = (
  ports: Ports,
  call: Call,
  { length }: GenerateRandomInput,
): Promise<Performed<GenerateRandomOutput>> =>
  perform(ports, call, 'generate-random', async (run) => {
    if (!Number.isInteger(length) || length < 1 || length > MAX_RANDOM_BYTES) {
      throw invalid('length', `from 1 to ${MAX_RANDOM_BYTES}`);
    }
    return { random: await ports.random.fresh(length, run.token) };
  });
