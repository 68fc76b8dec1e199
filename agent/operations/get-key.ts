// GetKey: the record of a key, in any state.
import { type KeyOutput, viewKey } from './key-change.ts';
import { type Performed, type Ports, perform } from './perform.ts';
import type { Call } from './ports/call.ts';

export interface GetKeyInput {
  readonly key: string;
}

export const getKey = (ports: Ports, call: Call, input: GetKeyInput): Promise<Performed<KeyOutput>> =>
  perform(ports, call, 'get-key', (run) => ({ key: viewKey(ports, run.key(input.key)) }));
