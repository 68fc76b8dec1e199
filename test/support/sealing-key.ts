// A key of the key store for tests that have no token to keep it, the same in every process.
import { createSecretKey } from 'node:crypto';
import type { SealingKey } from '../../agent/keys/sealing-key.ts';

export const TEST_SEALING_KEY: SealingKey = {
  key: createSecretKey(Buffer.alloc(32, 'test sealing key')),
  wrapped: Buffer.from('not wrapped'),
};
