// All twelve SLH-DSA parameter sets and ML-DSA, OpenSSL and noble against each other.
import { after, test } from 'node:test';
import { PostQuantum } from '../../agent/crypto/post-quantum/post-quantum.ts';
import { crossCheck, NOBLE } from '../support/noble-signatures.ts';

const postQuantum = new PostQuantum({ clock: { now: () => Date.now() } });
after(() => postQuantum.close());

for (const id of NOBLE.keys()) {
  test(`${id}: OpenSSL and noble make the same key of a seed and verify each other's signatures`, () =>
    crossCheck(postQuantum, id));
}
