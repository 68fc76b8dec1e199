// What the worker threads do: signing, key derivation and FN-DSA, which would hold up the event loop. Invariant: the secret bytes of
// a task are wiped when it is done, whatever happens.
import { sign } from 'node:crypto';
import { falcon512padded, falcon1024padded } from '@noble/post-quantum/falcon.js';
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
  | {
      readonly kind: 'verify';
      readonly algorithm: string;
      readonly publicKey: Uint8Array<ArrayBuffer>;
      readonly message: Uint8Array<ArrayBuffer>;
      readonly signature: Uint8Array<ArrayBuffer>;
    }
  | { readonly kind: 'derive'; readonly algorithm: string; readonly seed: Uint8Array<ArrayBuffer> };

/** The signature; one byte, 1 where it verifies; or the private bytes, of FN-DSA with the public key behind them. */
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

/** OpenSSL has no FN-DSA. */
const FN_DSA = new Map<string, typeof falcon512padded>([
  ['FN-DSA-512', falcon512padded],
  ['FN-DSA-1024', falcon1024padded],
]);

const fnDsa = (id: string): typeof falcon512padded => {
  const scheme = FN_DSA.get(id);
  if (scheme === undefined) throw new TypeError(`${id} is not FN-DSA`);
  return scheme;
};

const deriveFnDsa = (id: string, seed: Uint8Array): Uint8Array<ArrayBuffer> => {
  const { secretKey, publicKey } = fnDsa(id).keygen(seed);
  const both = new Uint8Array(secretKey.length + publicKey.length);
  both.set(secretKey);
  both.set(publicKey, secretKey.length);
  secretKey.fill(0);
  return both;
};

const derive = (id: string, seed: Uint8Array): Uint8Array<ArrayBuffer> => {
  if (FN_DSA.has(id)) return deriveFnDsa(id, seed);
  const { seedBytes } = rowOf(id);
  const scheme = SLH_DSA.get(id);
  if (scheme === undefined || seed.length !== seedBytes) throw new TypeError(`${id} is not derived here`);
  const { secretKey } = scheme.keygen(seed);
  const bytes = Uint8Array.from(secretKey);
  secretKey.fill(0);
  return bytes;
};

const copyOf = (bytes: Uint8Array): Uint8Array<ArrayBuffer> => Uint8Array.from(bytes);

const signWith = (id: string, material: Uint8Array, message: Uint8Array, context: Uint8Array): Uint8Array => {
  if (FN_DSA.has(id)) return fnDsa(id).sign(message, material);
  const key = pqPrivateKey(rowOf(id), material);
  return sign(null, message, { key, ...(context.length > 0 && { context }) });
};

/** noble throws on some encodings that cannot be signatures or keys. */
const isValid = (id: string, signature: Uint8Array, message: Uint8Array, publicKey: Uint8Array): boolean => {
  const scheme = fnDsa(id);
  try {
    return scheme.verify(signature, message, publicKey);
  } catch {
    return false;
  }
};

export const performTask = (task: SlowTask): Uint8Array<ArrayBuffer> => {
  if (task.kind === 'derive') {
    try {
      return derive(task.algorithm, task.seed);
    } finally {
      task.seed.fill(0);
    }
  }
  if (task.kind === 'verify') {
    return Uint8Array.of(isValid(task.algorithm, task.signature, task.message, task.publicKey) ? 1 : 0);
  }
  try {
    return copyOf(signWith(task.algorithm, task.material, task.message, task.context));
  } finally {
    task.material.fill(0);
  }
};
