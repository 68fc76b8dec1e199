// What the worker threads do: signing and key derivation that would hold up the event loop. Invariant: the secret bytes of
// a task are wiped when it is done, whatever happens.
import { sign } from 'node:crypto';
import {
  slh_dsa_sha2_128f,
  slh_dsa_sha2_128s,
  slh_dsa_sha2_192f,
  slh_dsa_sha2_192s,
  slh_dsa_sha2_256f,
  slh_dsa_sha2_256s,
  slh_dsa_shake_128f,
  slh_dsa_shake_128s,
  slh_dsa_shake_192f,
  slh_dsa_shake_192s,
  slh_dsa_shake_256f,
  slh_dsa_shake_256s,
} from '@noble/post-quantum/slh-dsa.js';
import { PQ_SIGNATURES, type PqSignature, pqPrivateKey } from '../../../proto/documents/pq-signatures.ts';

export type SlowTask =
  | {
      readonly kind: 'sign';
      readonly algorithm: string;
      readonly material: Uint8Array<ArrayBuffer>;
      readonly message: Uint8Array<ArrayBuffer>;
      readonly context: Uint8Array<ArrayBuffer>;
    }
  | { readonly kind: 'derive'; readonly algorithm: string; readonly seed: Uint8Array<ArrayBuffer> };

/** The signature, or the private bytes. */
export type SlowAnswer = { readonly bytes: Uint8Array<ArrayBuffer> } | { readonly fault: string };

const rowOf = (id: string): PqSignature => {
  const row = PQ_SIGNATURES.get(id);
  if (row === undefined) throw new TypeError(`${id} is no post-quantum signature`);
  return row;
};

/** OpenSSL makes SLH-DSA keys of its own random bytes only, so the tree's root is computed by noble. */
const SLH_DSA = new Map([
  ['SLH-DSA-SHA2-128s', slh_dsa_sha2_128s],
  ['SLH-DSA-SHA2-128f', slh_dsa_sha2_128f],
  ['SLH-DSA-SHA2-192s', slh_dsa_sha2_192s],
  ['SLH-DSA-SHA2-192f', slh_dsa_sha2_192f],
  ['SLH-DSA-SHA2-256s', slh_dsa_sha2_256s],
  ['SLH-DSA-SHA2-256f', slh_dsa_sha2_256f],
  ['SLH-DSA-SHAKE-128s', slh_dsa_shake_128s],
  ['SLH-DSA-SHAKE-128f', slh_dsa_shake_128f],
  ['SLH-DSA-SHAKE-192s', slh_dsa_shake_192s],
  ['SLH-DSA-SHAKE-192f', slh_dsa_shake_192f],
  ['SLH-DSA-SHAKE-256s', slh_dsa_shake_256s],
  ['SLH-DSA-SHAKE-256f', slh_dsa_shake_256f],
]);

const derive = (id: string, seed: Uint8Array): Uint8Array<ArrayBuffer> => {
  const { seedBytes } = rowOf(id);
  const scheme = SLH_DSA.get(id);
  if (scheme === undefined || seed.length !== seedBytes) throw new TypeError(`${id} is not derived here`);
  const { secretKey } = scheme.keygen(seed);
  const bytes = Uint8Array.from(secretKey);
  secretKey.fill(0);
  return bytes;
};

const copyOf = (bytes: Uint8Array): Uint8Array<ArrayBuffer> => Uint8Array.from(bytes);

export const performTask = (task: SlowTask): Uint8Array<ArrayBuffer> => {
  if (task.kind === 'derive') {
    try {
      return derive(task.algorithm, task.seed);
    } finally {
      task.seed.fill(0);
    }
  }
  try {
    const key = pqPrivateKey(rowOf(task.algorithm), task.material);
    return copyOf(sign(null, task.message, { key, ...(task.context.length > 0 && { context: task.context }) }));
  } finally {
    task.material.fill(0);
  }
};
