// Hands the PIN out of its file for each start of the token process. Invariant: a PIN that the token refused is not
// handed out again by this process, however often it is asked: tokens lock after a few wrong PINs.
import { createHmac, createSecretKey, randomBytes } from 'node:crypto';
import { AgentError } from '../errors.ts';

export interface PinGuardOptions {
  /** A fresh buffer each time, which its taker wipes. */
  readonly read: () => Promise<Buffer>;
  /** Time between two looks for another PIN; a command is dearer than a file. None where absent. */
  readonly quietMs?: number;
}

export class PinGuard {
  readonly #read: () => Promise<Buffer>;
  // Told apart by a keyed hash, so that a PIN of four digits is not to be found from what stays in memory.
  readonly #key = createSecretKey(randomBytes(32));
  #last: string | undefined;
  #refused: string | undefined;
  #locked = false;
  readonly #quietMs: number;
  #lookedAt = Number.NEGATIVE_INFINITY;
  #looking = false;

  constructor({ read, quietMs = 0 }: PinGuardOptions) {
    this.#read = read;
    this.#quietMs = quietMs;
  }

  /** Was a PIN refused that is not known to be replaced? */
  get isRefused(): boolean {
    return this.#refused !== undefined;
  }

  /** The PIN; rejects where it is the one that was refused, or cannot be read. */
  async take(): Promise<Buffer> {
    const pin = await this.#read();
    this.#last = this.#fingerprint(pin);
    if (this.#last !== this.#refused) return pin;
    pin.fill(0);
    throw new AgentError('HSM_UNAVAILABLE', { message: 'the PIN is still the one that the token refused' });
  }

  /** The token refused the PIN that was handed out last, or is locked (then the PIN may have been right). */
  refused({ locked }: { readonly locked: boolean }): void {
    this.#lookedAt = performance.now();
    this.#refused = this.#last;
    this.#locked = locked;
  }

  /** An operator asks for another try. A PIN that was wrong stays wrong; one of a locked token may be right by now. */
  reconsider(): void {
    this.#lookedAt = Number.NEGATIVE_INFINITY;
    if (this.#locked) this.#refused = undefined;
  }

  /** Is there a PIN in the file that has not been refused? Looks at most once in `quietMs`. */
  async hasOther(): Promise<boolean> {
    const now = performance.now();
    if (this.#looking || now - this.#lookedAt < this.#quietMs) return false;
    this.#looking = true;
    this.#lookedAt = now;
    try {
      const pin = await this.#read();
      const other = this.#fingerprint(pin) !== this.#refused;
      pin.fill(0);
      return other;
    } catch {
      return false; // a file that cannot be read has no PIN; the start of the token process says why
    } finally {
      this.#looking = false;
    }
  }

  #fingerprint(pin: Buffer): string {
    return createHmac('sha256', this.#key).update(pin).digest('base64');
  }
}
