// EME-OAEP decoding (RFC 8017 section 7.1.2, step 3) with SHA-256 and MGF1-SHA-256 for modules that only offer the raw
// RSA operation. Invariant: until the one verdict at the end no branch, index or length depends on decrypted bytes, so
// neither error nor time tells which check failed (Manger's attack).
import { hash } from 'node:crypto';

const HASH_BYTES = 32;
/** Hash of the empty label. */
const LABEL_HASH = hash('sha256', Buffer.alloc(0), 'buffer');

/** 1 where a === b, else 0; both are bytes. */
const equal = (a: number, b: number): number => ((a ^ b) - 1) >>> 31;
/** a where choice is 1, b where it is 0. */
const select = (choice: number, a: number, b: number): number => (~(choice - 1) & a) | ((choice - 1) & b);

/** XORs MGF1(seed) over `target` (RFC 8017 appendix B.2.1). */
const mask = (target: Buffer, seed: Buffer): void => {
  const input = Buffer.allocUnsafeSlow(seed.length + 4);
  seed.copy(input);
  for (let block = 0, at = 0; at < target.length; block += 1) {
    input.writeUInt32BE(block, seed.length);
    const digest = hash('sha256', input, 'buffer');
    for (let byte = 0; byte < HASH_BYTES && at < target.length; byte += 1, at += 1) {
      target[at] = (target[at] as number) ^ (digest[byte] as number);
    }
    digest.fill(0);
  }
  input.fill(0);
};

/**
 * The message in `encoded`, which is as long as the modulus and is wiped. Undefined where anything is wrong.
 * A message of any length from 0 to k - 66 comes back as a copy.
 */
export const decodeOaep = (encoded: Buffer): Buffer | undefined => {
  if (encoded.length < 2 * HASH_BYTES + 2) throw new TypeError('the modulus is too short for OAEP with SHA-256');
  const seed = encoded.subarray(1, 1 + HASH_BYTES);
  const block = encoded.subarray(1 + HASH_BYTES);
  mask(seed, block);
  mask(block, seed);
  let good = equal(encoded[0] as number, 0);
  let difference = 0;
  for (let at = 0; at < HASH_BYTES; at += 1) difference |= (block[at] as number) ^ (LABEL_HASH[at] as number);
  good &= equal(difference, 0);
  let looking = 1;
  let end = 0;
  for (let at = HASH_BYTES; at < block.length; at += 1) {
    const isOne = equal(block[at] as number, 1);
    const isZero = equal(block[at] as number, 0);
    end = select(looking & isOne, at, end);
    good &= select(looking & (1 - isOne), isZero, 1);
    looking &= 1 - isOne;
  }
  good &= 1 - looking;
  // A copy of everything behind the separator is made in either case; the verdict is the only branch.
  const message = Buffer.from(block.subarray(select(good, end, HASH_BYTES) + 1));
  encoded.fill(0);
  if (good === 1) return message;
  message.fill(0);
  return undefined;
};
