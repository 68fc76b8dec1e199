// The signed bytes of a stream: hashed as they come, or held whole for algorithms that sign the message itself.
// Invariant: what is held stays below the limit of the unary calls.
import { createHash, type Hash } from 'node:crypto';
import { encodeBase64url } from '../../crypto/base64url.ts';
import { jwsSigningInput } from '../../crypto/jws.ts';
import type { SignatureAlgorithm } from '../../crypto/signature-algorithms.ts';
import type { SignedData } from '../../crypto/software-verify.ts';
import { AgentError } from '../../errors.ts';
import { requireContext } from '../jose/signed-input.ts';

export interface SignedStreamOptions {
  readonly algorithm: SignatureAlgorithm;
  /** Absent for a raw signature. */
  readonly jws?: { readonly protectedSegment: string; readonly encoded: boolean };
  /** Context string of a raw signature; absent means none. */
  readonly context?: Buffer | undefined;
  /** Most bytes of a message that has to be held whole. */
  readonly wholeLimit: number;
}

const NOTHING = Buffer.alloc(0);

export class SignedStream {
  readonly #options: SignedStreamOptions;
  readonly #hash: Hash | undefined;
  readonly #held: Buffer[] = [];
  #heldBytes = 0;
  /** Up to two bytes that do not fill a group of base64url. */
  #carry = NOTHING;

  constructor(options: SignedStreamOptions) {
    requireContext(options.algorithm, options.context);
    this.#options = options;
    const { digest } = options.algorithm;
    if (digest === undefined) return;
    this.#hash = createHash(digest);
    if (options.jws !== undefined) this.#hash.update(`${options.jws.protectedSegment}.`, 'ascii');
  }

  update(data: Buffer): void {
    if (this.#hash === undefined) this.#hold(data);
    else if (this.#options.jws?.encoded === true) this.#updateEncoded(this.#hash, data);
    else this.#hash.update(data);
  }

  /** The digest, or the message where the algorithm signs it whole. */
  final(): SignedData {
    const { jws, context } = this.#options;
    const rest = context && { context };
    if (this.#hash !== undefined) {
      this.#hash.update(encodeBase64url(this.#carry), 'ascii');
      return { digest: this.#hash.digest(), ...rest };
    }
    const message = Buffer.concat(this.#held);
    const input = jws === undefined ? message : jwsSigningInput(jws.protectedSegment, message, jws.encoded);
    return { message: input, ...rest };
  }

  #hold(data: Buffer): void {
    this.#heldBytes += data.length;
    const { algorithm, wholeLimit } = this.#options;
    if (this.#heldBytes > wholeLimit) {
      const description = `${algorithm.jose} signs the message whole; the limit is ${wholeLimit} bytes`;
      const fields = [{ field: 'data', description }];
      throw new AgentError('TOO_LARGE', { message: `data: ${description}`, fields });
    }
    this.#held.push(data);
  }

  /** Groups of three bytes, so that the pieces of base64url join to that of the whole. */
  #updateEncoded(hash: Hash, data: Buffer): void {
    const bytes = this.#carry.length === 0 ? data : Buffer.concat([this.#carry, data]);
    const whole = bytes.length - (bytes.length % 3);
    hash.update(bytes.toString('base64url', 0, whole), 'ascii');
    this.#carry = Buffer.from(bytes.subarray(whole));
  }
}
