// From no token process to one that is logged in, one attempt at a time. Invariant: there is one process at most; the PIN is
// fetched anew for each login, when the token was found, handed over and wiped.
import { Child, type ChildOptions, type Exit } from './child.ts';
import type { TokenEvents } from './events.ts';
import { isAbsence, TokenStartError } from './start-error.ts';
import type { Ready, StartConfig } from './start-message.ts';

export interface StarterOptions {
  readonly child: ChildOptions;
  /** A fresh buffer each time; it is wiped. */
  readonly pin: () => Promise<Buffer>;
  /** For finding the token, and again for the login and the self-test. */
  readonly startTimeoutMs: number;
  readonly events: Pick<TokenEvents, 'tokenStarted'>;
  /** A process ended that never was ready. */
  readonly exited: (child: Child, exit: Exit) => void;
  readonly readCache: () => Promise<string | undefined>;
  readonly writeCache: (cache: string) => Promise<void>;
}

const MOST_LOOKS = 5; // of one process: a library may need to be loaded anew to see what came back

export class Starter {
  readonly #options: StarterOptions;
  #child: Child | undefined;
  #looks = 0;
  #stopped = false;

  constructor(options: StarterOptions) {
    this.#options = options;
  }

  /** Spawns the process of the next attempt, so that Node is up when it is wanted. */
  prepare(): void {
    try {
      this.#spawn();
    } catch {
      // the attempt spawns it, or says why not
    }
  }

  #spawn(): void {
    if (this.#child !== undefined || this.#stopped) return;
    try {
      this.#child = new Child(this.#options.child);
    } catch (cause) {
      throw new TokenStartError('exited', 'the token process could not be spawned', cause);
    }
    this.#looks = 0;
    this.#options.events.tokenStarted({ pid: this.#child.pid });
  }

  /** Rejects with TokenStartError. Then the process is gone, but where only the token is missing. */
  async attempt(): Promise<{ readonly child: Child; readonly ready: Ready }> {
    const { child: options, startTimeoutMs, readCache, writeCache } = this.#options;
    const rsaCache = await readCache();
    const config: StartConfig = { ...options.config, ...(rsaCache !== undefined && { rsaCache }) };
    this.#spawn();
    const child = this.#child;
    if (child === undefined) throw new TokenStartError('stopped', 'not started');
    await this.#look(child, config);
    let ready: Ready;
    try {
      ready = await child.logIn(await this.#fetchPin(), startTimeoutMs);
    } catch (thrown) {
      await this.#discard();
      throw thrown;
    }
    this.#child = undefined;
    this.#looks = 0;
    if (ready.rsaCache !== rsaCache) await writeCache(ready.rsaCache);
    return { child, ready };
  }

  /** Ends what there is, and starts nothing more. */
  async close(stopTimeoutMs: number): Promise<void> {
    this.#stopped = true;
    await this.#child?.end(stopTimeoutMs);
    await this.#discard(); // where no attempt is under way that does
  }

  async #look(child: Child, config: StartConfig): Promise<void> {
    try {
      await child.find(config, this.#options.startTimeoutMs);
    } catch (thrown) {
      this.#looks += 1;
      const stays = thrown instanceof TokenStartError && isAbsence(thrown.reason) && this.#looks < MOST_LOOKS;
      if (!stays) await this.#discard();
      throw thrown;
    }
  }

  async #fetchPin(): Promise<Buffer> {
    let pin: Buffer;
    try {
      pin = await this.#options.pin();
    } catch (cause) {
      throw new TokenStartError('pin-unavailable', 'the PIN cannot be read', cause);
    }
    if (!this.#stopped) return pin;
    pin.fill(0);
    throw new TokenStartError('stopped', 'not started');
  }

  async #discard(): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    this.#looks = 0;
    if (child === undefined) return;
    child.kill();
    this.#options.exited(child, await child.exited);
  }
}
