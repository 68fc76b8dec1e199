// The token for the rest of the agent, from before its first start: the token room's Token begins once its process has
// logged in, the agent has to live before that. Invariant: until then every call is HSM_UNAVAILABLE with the reason.
import { setTimeout as sleep } from 'node:timers/promises';
import type { Purpose } from '../../proto/documents/algorithms.ts';
import { AgentError } from '../errors.ts';
import type { TokenCall, TokenPort } from '../operations/ports/token.ts';
import { jittered, RECOVERY_SHARE } from '../token/backoff.ts';
import { needsPerson, TokenStartError } from '../token/start-error.ts';
import type { Token, TokenHealth } from '../token/token.ts';
import type { PinGuard } from './pin-guard.ts';
import type { SessionShare } from './session-share.ts';

export interface TokenSlotOptions {
  /** Its name on this host. */
  readonly name: string;
  /** One attempt: spawns, logs in, tests. */
  readonly open: () => Promise<Token>;
  readonly pin: PinGuard;
  /** Undefined where nobody but this host says how many sessions it has. */
  readonly share?: SessionShare | undefined;
  readonly events: { waiting(event: { part: string; token: string; reason: unknown; waitMs: number }): void };
  /** Longest wait between two attempts, while no person is needed. */
  readonly maxWaitMs: number;
  /** From 0 to 1; tests replace it. */
  readonly random?: () => number;
}

type Gcm = { iv: Buffer; aad: Buffer; data: Buffer };

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 30_000; // for what waits for a person

export class TokenSlot implements TokenPort {
  readonly #options: TokenSlotOptions;
  readonly #closing = new AbortController();
  #wake = new AbortController();
  #token: Token | undefined;
  #failure: unknown;
  #running: Promise<unknown> | undefined;

  constructor(options: TokenSlotOptions) {
    this.#options = options;
  }

  /** Resolves when the token is there, however long it takes; `failed` is called after each attempt that was not it. */
  start(failed: () => void): Promise<void> {
    const running = this.#start(failed);
    this.#running = running.catch(() => undefined); // whoever called `start` is told; `close` only waits
    return running;
  }

  get share(): SessionShare | undefined {
    return this.#options.share;
  }

  get token(): Token | undefined {
    return this.#token;
  }

  health(): TokenHealth {
    const share = this.#options.share?.describe();
    if (this.#token !== undefined) {
      const health = this.#token.health();
      if (share === undefined) return health;
      return { ...health, detail: health.state === 'paused' ? share : `${health.detail}; ${share}` };
    }
    const detail = this.#failure instanceof Error ? this.#failure.message : 'the token process is starting';
    return { healthy: false, state: 'starting', detail };
  }

  /** On an operator's word: try now. */
  async retry(): Promise<void> {
    this.#options.pin.reconsider();
    this.#wake.abort();
    await this.tryOtherPin();
  }

  /** Looks whether a locked-out token has been given another PIN, and tries it. */
  async tryOtherPin(): Promise<void> {
    const { pin } = this.#options;
    if (this.#token === undefined) {
      if (this.#failure !== undefined && pin.isRefused && (await pin.hasOther())) this.#wake.abort();
    } else if (this.#token.health().state === 'locked-out' && (await pin.hasOther())) this.#token.unlock();
  }

  /** Kills the token process, at once and for good: the caller is about to exit. */
  kill(): void {
    const pid = this.#token?.pid();
    if (pid !== undefined) process.kill(pid, 'SIGKILL');
  }

  async close(): Promise<void> {
    this.share?.close();
    this.#closing.abort();
    this.#wake.abort();
    await this.#running;
    await this.#token?.close();
  }

  canHold(algorithm: string, purpose: Purpose): ReturnType<TokenPort['canHold']> {
    return this.#token?.canHold(algorithm, purpose) ?? { ok: false, why: 'the token is not there yet' };
  }
  async generate(...args: Parameters<TokenPort['generate']>): ReturnType<TokenPort['generate']> {
    return this.#need().generate(...args);
  }
  async find(label: string, call: TokenCall): ReturnType<TokenPort['find']> {
    return this.#need().find(label, call);
  }
  async list(labelPrefix: string, call: TokenCall): ReturnType<TokenPort['list']> {
    return this.#need().list(labelPrefix, call);
  }
  async describe(tokenId: string, call: TokenCall): ReturnType<TokenPort['describe']> {
    return this.#need().describe(tokenId, call);
  }
  async destroy(tokenId: string, call: TokenCall): Promise<void> {
    return this.#need().destroy(tokenId, call);
  }
  async gcmEncrypt(tokenId: string, input: Gcm, call: TokenCall): Promise<Buffer> {
    return this.#need().gcmEncrypt(tokenId, input, call);
  }
  async gcmDecrypt(tokenId: string, input: Gcm, call: TokenCall): Promise<Buffer> {
    return this.#need().gcmDecrypt(tokenId, input, call);
  }
  wrappingKeyId(): string {
    return this.#need().wrappingKeyId();
  }
  async generateWrappingKey(
    ...args: Parameters<TokenPort['generateWrappingKey']>
  ): ReturnType<TokenPort['generateWrappingKey']> {
    return this.#need().generateWrappingKey(...args);
  }
  async wrap(...args: Parameters<TokenPort['wrap']>): Promise<Buffer> {
    return this.#need().wrap(...args);
  }
  async unwrap(...args: Parameters<TokenPort['unwrap']>): Promise<Buffer> {
    return this.#need().unwrap(...args);
  }
  async sign(...args: Parameters<TokenPort['sign']>): Promise<Buffer> {
    return this.#need().sign(...args);
  }
  async mac(tokenId: string, jose: string, data: Buffer, call: TokenCall): Promise<Buffer> {
    return this.#need().mac(tokenId, jose, data, call);
  }
  async oaepDecrypt(...args: Parameters<TokenPort['oaepDecrypt']>): Promise<Buffer> {
    return this.#need().oaepDecrypt(...args);
  }
  async ecdh(tokenId: string, point: Buffer, call: TokenCall): Promise<Buffer> {
    return this.#need().ecdh(tokenId, point, call);
  }
  async decapsulate(tokenId: string, ciphertext: Buffer, call: TokenCall): Promise<Buffer> {
    return this.#need().decapsulate(tokenId, ciphertext, call);
  }
  async rewrap(...args: Parameters<TokenPort['rewrap']>): Promise<Buffer> {
    return this.#need().rewrap(...args);
  }
  async create(...args: Parameters<TokenPort['create']>): ReturnType<TokenPort['create']> {
    return this.#need().create(...args);
  }
  async random(length: number, call: TokenCall): Promise<Buffer> {
    return this.#need().random(length, call);
  }

  #need(): Token {
    if (this.#token !== undefined) return this.#token;
    throw new AgentError('HSM_UNAVAILABLE', { cause: this.#failure });
  }

  async #start(failed: () => void): Promise<void> {
    const { maxWaitMs, name, random = Math.random } = this.#options;
    for (let fullMs = FIRST_WAIT_MS; ; fullMs *= 2) {
      if (this.#closing.signal.aborted) throw new AgentError('SHUTTING_DOWN');
      try {
        this.#token = await this.#options.open();
        this.#failure = undefined;
        if (this.share !== undefined) await this.#token.limitSessions(this.share.limit); // it may be another since
        return;
      } catch (thrown) {
        if (thrown instanceof TokenStartError) notePin(this.#options.pin, thrown.reason);
        this.#failure = thrown;
        failed();
        const person = thrown instanceof TokenStartError && needsPerson(thrown.reason);
        fullMs = Math.min(fullMs, person ? LONGEST_WAIT_MS : Math.max(FIRST_WAIT_MS, maxWaitMs * RECOVERY_SHARE));
        const waitMs = jittered(fullMs, random);
        this.#options.events.waiting({ part: 'token', token: name, reason: thrown, waitMs });
        await sleep(waitMs, undefined, { signal: this.#wake.signal }).catch(() => undefined); // woken: try now
        this.#wake = new AbortController();
      }
    }
  }
}

/** Remembers a PIN that the token did not take. */
export const notePin = (pin: PinGuard, reason: string): void => {
  if (reason === 'pin-refused' || reason === 'pin-locked') pin.refused({ locked: reason === 'pin-locked' });
};
