// Random bytes: the token's generator XOR the operating system's, so the result is as good as the better of the two
// (the XOR construction of SP 800-90C). Invariant: no byte is handed out twice, and no byte stays behind in the pool.
import { randomBytes } from 'node:crypto';
import type { Clock } from '../clock.ts';
import { AgentError, asAgentError } from '../errors.ts';

const POOL_BYTES = 8 * 1024; // about 150 encryptions; one round trip to the token for all of them
const LOW_BYTES = POOL_BYTES / 2; // refill in the background from here on
const POOL_TAKE_BYTES = 1024; // larger takes go past the pool
const REFILL_WAIT_MS = 2000; // how long callers of an empty pool may wait for the token
const RETRY_TOKEN_MS = 1000; // after a failure of the token, how long refills go without it

/** A queue of the token, as the operations have it. */
interface RandomCall {
  readonly tenant: string;
  readonly deadline: number;
  readonly signal: AbortSignal;
}

/** The token's generator. */
export interface RandomSource {
  random(length: number, call: RandomCall): Promise<Buffer>;
}

export interface RandomEvents {
  /** A chunk was made from one source alone. */
  randomSourceFailed(event: { source: 'token' | 'operating-system'; cause: unknown }): void;
}

export interface RandomPoolOptions {
  readonly token: RandomSource;
  readonly clock: Clock;
  readonly events: RandomEvents;
  /** The operating system's generator; tests replace it. */
  readonly system?: (length: number) => Buffer;
}

const xorInto = (target: Buffer, other: Buffer): void => {
  for (let index = 0; index < target.length; index += 1) {
    target[index] = (target[index] as number) ^ (other[index] as number);
  }
};

export class RandomPool {
  readonly #token: RandomSource;
  readonly #clock: Clock;
  readonly #events: RandomEvents;
  readonly #system: (length: number) => Buffer;
  readonly #closed = new AbortController();
  #pool = Buffer.alloc(0);
  #refill: Promise<void> | undefined;
  #skipTokenUntil = 0;

  constructor({ token, clock, events, system = randomBytes }: RandomPoolOptions) {
    this.#token = token;
    this.#clock = clock;
    this.#events = events;
    this.#system = system;
  }

  /** Bytes for CEKs, seeds and nonces. With the token gone they are the operating system's alone, and an event says so. */
  async take(length: number): Promise<Buffer> {
    if (length > POOL_TAKE_BYTES) throw new RangeError(`at most ${POOL_TAKE_BYTES} bytes at once, not ${length}`);
    while (this.#pool.length < length) {
      this.#requireOpen();
      await this.#startRefill();
    }
    this.#requireOpen();
    const taken = this.#cut(length);
    if (this.#pool.length < LOW_BYTES) this.#startRefill().catch(() => undefined); // the next take that waits reports it
    return taken;
  }

  /** Bytes straight from both sources, in the queue of the call; fails where either fails. */
  async fresh(length: number, call: RandomCall): Promise<Buffer> {
    this.#requireOpen();
    const bytes = await this.#fromToken(length, call);
    const system = this.#system(length);
    xorInto(bytes, system);
    system.fill(0);
    return bytes;
  }

  async close(): Promise<void> {
    this.#closed.abort();
    await this.#refill?.catch(() => undefined); // takes that wait for it get SHUTTING_DOWN
    this.#pool.fill(0);
    this.#pool = Buffer.alloc(0);
  }

  #requireOpen(): void {
    if (this.#closed.signal.aborted) throw new AgentError('SHUTTING_DOWN');
  }

  /** Moves bytes out of the pool and wipes the place where they were. */
  #cut(length: number): Buffer {
    const cut = this.#pool.subarray(0, length);
    const copy = Buffer.from(cut);
    cut.fill(0);
    this.#pool = this.#pool.subarray(length);
    return copy;
  }

  #startRefill(): Promise<void> {
    this.#refill ??= this.#mixChunk().finally(() => {
      this.#refill = undefined;
    });
    return this.#refill;
  }

  async #mixChunk(): Promise<void> {
    const token = await this.#tokenChunk();
    let system: Buffer | undefined;
    try {
      system = this.#system(POOL_BYTES); // drawn after the token has answered, so the token cannot know it
    } catch (cause) {
      this.#events.randomSourceFailed({ source: 'operating-system', cause });
      if (token === undefined) throw new AgentError('HSM_UNAVAILABLE', { message: 'no source of random bytes', cause });
    }
    if (token !== undefined && system !== undefined) {
      xorInto(token, system);
      system.fill(0);
    }
    const old = this.#pool;
    this.#pool = Buffer.concat([old, (token ?? system) as Buffer]);
    old.fill(0);
    (token ?? system)?.fill(0);
  }

  async #tokenChunk(): Promise<Buffer | undefined> {
    const now = this.#clock.now();
    if (now < this.#skipTokenUntil) return undefined;
    try {
      const { signal } = this.#closed;
      return await this.#fromToken(POOL_BYTES, { tenant: '_platform', deadline: now + REFILL_WAIT_MS, signal });
    } catch (thrown) {
      this.#skipTokenUntil = this.#clock.now() + RETRY_TOKEN_MS;
      this.#events.randomSourceFailed({ source: 'token', cause: asAgentError(thrown) });
      return undefined;
    }
  }

  async #fromToken(length: number, call: RandomCall): Promise<Buffer> {
    const bytes = await this.#token.random(length, call);
    if (bytes.length !== length) throw new AgentError('HSM_UNAVAILABLE', { message: 'short answer of the generator' });
    // A generator that is stuck repeats itself; all-zero is what a driver that "succeeded" without output leaves.
    if (length >= 16 && bytes.every((byte) => byte === bytes[0])) {
      throw new AgentError('HSM_UNAVAILABLE', { message: 'the generator of the token is stuck' });
    }
    return bytes; // ours: the token hands out a buffer for each call
  }
}
