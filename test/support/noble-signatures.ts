// Post-quantum signatures by @noble/post-quantum, against which the agent's own are checked.
import assert from 'node:assert/strict';
import { createPublicKey, randomBytes } from 'node:crypto';
import { ml_dsa44, ml_dsa65, ml_dsa87 } from '@noble/post-quantum/ml-dsa.js';
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
import type { PostQuantum } from '../../agent/crypto/post-quantum/post-quantum.ts';
import { PQ_SIGNATURES } from '../../proto/documents/pq-signatures.ts';

interface NobleSigner {
  keygen(seed: Uint8Array): { readonly publicKey: Uint8Array; readonly secretKey: Uint8Array };
  sign(message: Uint8Array, secretKey: Uint8Array, options?: { readonly context?: Uint8Array }): Uint8Array;
  verify(
    signature: Uint8Array,
    message: Uint8Array,
    publicKey: Uint8Array,
    options?: { readonly context?: Uint8Array },
  ): boolean;
}

export const NOBLE: ReadonlyMap<string, NobleSigner> = new Map<string, NobleSigner>([
  ['ML-DSA-44', ml_dsa44],
  ['ML-DSA-65', ml_dsa65],
  ['ML-DSA-87', ml_dsa87],
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

/** The same key out of a seed, and signatures of each side verified by the other, with and without a context. */
export const crossCheck = async (postQuantum: PostQuantum, id: string): Promise<void> => {
  const [noble, row] = [NOBLE.get(id), PQ_SIGNATURES.get(id)];
  assert.ok(noble && row, id);
  const call = { tenant: 'acme', deadline: Date.now() + 120_000, signal: new AbortController().signal };
  const message = randomBytes(100);
  const seed = randomBytes(row.seedBytes);
  const theirs = noble.keygen(seed);
  const { material, publicJwk } = await postQuantum.derive(id, seed, call);
  assert.equal(publicJwk['pub'], Buffer.from(theirs.publicKey).toString('base64url'));
  assert.equal(material.length, row.privateBytes);
  const key = createPublicKey({ key: { ...publicJwk }, format: 'jwk' });
  const slow = /SHAKE|s$/.test(id); // noble signs some sets for tens of seconds
  for (const context of [Buffer.alloc(0), Buffer.from('a context')]) {
    const wrong = Buffer.concat([context, Buffer.of(1)]);
    const ours = await postQuantum.sign({ algorithm: id, message, context }, call, (use) => use(Buffer.from(material)));
    assert.ok(noble.verify(ours, message, theirs.publicKey, { context }), `${id}: noble verifies`);
    assert.ok(!noble.verify(ours, message, theirs.publicKey, { context: wrong }), `${id}: the context counts`);
    assert.ok(await postQuantum.verify({ algorithm: id, key, message, context, signature: ours }));
    assert.ok(!(await postQuantum.verify({ algorithm: id, key, message, context: wrong, signature: ours })));
    if (slow) continue;
    const signature = Buffer.from(noble.sign(message, theirs.secretKey, { context }));
    assert.ok(await postQuantum.verify({ algorithm: id, key, message, context, signature }), `${id}: OpenSSL verifies`);
    assert.ok(!(await postQuantum.verify({ algorithm: id, key, message, context: wrong, signature })));
    signature.writeUInt8(signature.readUInt8(40) ^ 1, 40);
    assert.ok(!(await postQuantum.verify({ algorithm: id, key, message, context, signature })));
    const short = signature.subarray(1);
    assert.ok(!(await postQuantum.verify({ algorithm: id, key, message, context, signature: short })));
  }
};
