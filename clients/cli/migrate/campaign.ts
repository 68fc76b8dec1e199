// A campaign: every file that is not under the current version of its key is moved there, once. Invariant: whatever the
// moment of a kill, each name leads to a whole file, and the next run finishes what is left.
import { readFile, stat } from 'node:fs/promises';
import type { MortiseError } from '../../typescript/index.ts';
import { CliError } from '../exit-codes.ts';
import { MAX_DATA_BYTES } from '../files.ts';
import { type Ciphertext, readCiphertext } from './ciphertext.ts';
import type { Journal, JournalState, Left, Replacing } from './journal.ts';
import { type Method, type MoveInput, type Mover, Unverified } from './move.ts';
import {
  Changed,
  dropSecondName,
  identityOf,
  NotReplaceable,
  putInPlace,
  refuseChanged,
  removeIfThere,
  sha256Of,
  temporaryOf,
  writeBeside,
} from './replace.ts';
import type { Outdated, Reason, Targets } from './targets.ts';
import type { Clock, Throttle } from './throttle.ts';

export interface CampaignOptions {
  readonly campaign: string;
  readonly run: number;
  readonly method: Method;
  readonly to: string | undefined;
  readonly associatedData: Buffer | undefined;
  /** Suffix of the file with the associated data of the file without it. */
  readonly aadSuffix: string | undefined;
  /** Suffix of a detached JWS beside its message. */
  readonly messageSuffix: string;
  readonly keptSuffix: string | undefined;
  /** Have the agent open each new ciphertext before the old one goes. */
  readonly verify: boolean;
}

export interface Progress {
  done: number;
  moved: number;
  current: number;
  /** Not moved, though they are ciphertexts of the tenant's keys or cannot be judged. */
  failed: number;
  unrecognised: number;
}

/** Failures after which going on makes no sense: every other file would fail as well. */
const FATAL: ReadonlySet<string> = new Set(['UNAUTHENTICATED', 'TOKEN_EXPIRED', 'TOKEN_REPLAYED', 'UNIMPLEMENTED']);
const FATAL_ERRNO: ReadonlySet<string> = new Set(['ENOSPC', 'EDQUOT', 'EROFS', 'EIO', 'EMFILE']);
/** Attempts at one call before the run ends, to be taken up later. */
const MAX_ATTEMPTS = 12;
const MAX_AAD_BYTES = 16 * 1024;

/** Why a file stays as it is. */
class Stays extends Error {
  readonly reason: Reason;
  readonly code: string | undefined;

  constructor(reason: Reason, message: string, code?: string) {
    super(message);
    this.reason = reason;
    this.code = code;
  }
}

/** Calls whose latencies can be compared; of a container they depend on its size alone. */
const kindOf = ({ form }: Ciphertext, size: bigint): string | undefined =>
  form === 'container' ? undefined : `${form} ${size.toString(2).length}`;

const isMortiseError = (error: unknown): error is MortiseError => (error as Error | null)?.name === 'MortiseError';

export class Campaign {
  readonly progress: Progress = { done: 0, moved: 0, current: 0, failed: 0, unrecognised: 0 };
  readonly #journal: Journal;
  readonly #pending: JournalState['pending'];
  /** Files that were moved, in whichever run. */
  readonly #moved: Set<string>;
  readonly #options: CampaignOptions;
  readonly #mover: Mover;
  readonly #targets: Targets;
  readonly #throttle: Throttle;
  readonly #clock: Clock;
  readonly #signal: AbortSignal;
  readonly #stop = new AbortController();

  constructor(input: {
    readonly journal: Journal;
    readonly state: JournalState;
    readonly options: CampaignOptions;
    readonly mover: Mover;
    readonly targets: Targets;
    readonly throttle: Throttle;
    readonly clock: Clock;
    readonly signal: AbortSignal;
  }) {
    this.#journal = input.journal;
    this.#pending = input.state.pending;
    this.#moved = new Set(input.state.moved.keys());
    this.#options = input.options;
    this.#mover = input.mover;
    this.#targets = input.targets;
    this.#throttle = input.throttle;
    this.#clock = input.clock;
    this.#signal = AbortSignal.any([input.signal, this.#stop.signal]);
  }

  /** Settles what a killed run was about to put in place. */
  async recover(): Promise<void> {
    for (const { path, newSha256 } of this.#pending.values()) {
      const { campaign, keptSuffix } = this.#options;
      await removeIfThere(temporaryOf(path, campaign));
      if (keptSuffix !== undefined) await dropSecondName(path, keptSuffix);
      const now = await sha256Of(path).catch((error: NodeJS.ErrnoException) => {
        if (error.code === 'ENOENT') return undefined;
        throw error;
      });
      if (now === newSha256) await this.#noteMoved(path, newSha256);
      if (now === undefined) {
        const detail = 'it was about to be replaced when a run ended, and is not there any more';
        await this.#journal.append({ t: 'left', run: this.#options.run, path, reason: 'gone', detail });
      }
    }
  }

  /** Resolves with whether every file was looked at. Throws what ends a run. */
  async run(files: AsyncIterable<string>, shown: (progress: Progress) => void): Promise<boolean> {
    const tasks = new Set<Promise<void>>();
    let failure: unknown;
    try {
      for await (const path of files) {
        await this.#throttle.take(this.#signal);
        const task: Promise<void> = this.#file(path)
          .catch((error: unknown) => {
            failure ??= error;
            this.#stop.abort();
          })
          .finally(() => {
            tasks.delete(task);
            this.#throttle.release();
            shown(this.progress);
          });
        tasks.add(task);
      }
    } catch (error) {
      if (!this.#signal.aborted) failure ??= error;
    }
    await Promise.all(tasks); // what was begun is finished, so that nothing has to be taken back
    if (failure !== undefined) throw failure;
    return !this.#signal.aborted;
  }

  async #file(path: string): Promise<void> {
    let form: Ciphertext['form'] | undefined;
    try {
      const found = await readCiphertext(path);
      form = found?.form;
      await this.#moveFile(path, found);
      this.progress.moved += 1;
    } catch (error) {
      if (this.#signal.aborted && !(error instanceof Stays)) return; // neither done nor failed: the next run has it
      await this.#leave(path, form, this.#reasonOf(error));
    }
    this.progress.done += 1;
  }

  async #moveFile(path: string, found: Ciphertext | undefined): Promise<void> {
    if (found === undefined) throw new Stays('unrecognised', '');
    const assessed = await this.#patiently(undefined, () => this.#targets.assess(found));
    if (assessed.state === 'left') throw new Stays(assessed.reason, assessed.detail);
    const old = await identityOf(path);
    const oldSha256 = await sha256Of(path);
    const input = await this.#inputOf(path, found, assessed);
    const temporary = temporaryOf(path, this.#options.campaign);
    const { method, sha256, bytes } = await this.#patiently(kindOf(found, old.size), async () => {
      const made = await this.#mover.move(input);
      return { method: made.method, ...(await writeBeside(temporary, old, made.pieces)) };
    });
    try {
      const isNew = await readCiphertext(temporary);
      const { verify } = this.#options;
      await this.#patiently(undefined, () => this.#mover.verify(isNew, input, { open: verify }));
      await refuseChanged(path, old);
      const { form } = found;
      const to = isNew?.keys.flatMap(({ kid }) => kid ?? []) ?? [];
      const about = { path, form, method, from: assessed.from, to, oldSha256, newSha256: sha256, bytes };
      await this.#journal.append({ t: 'replacing', ...about } satisfies Replacing);
      await putInPlace(temporary, path, this.#options.keptSuffix);
    } catch (error) {
      await removeIfThere(temporary);
      throw error;
    }
    await this.#noteMoved(path, sha256);
  }

  async #noteMoved(path: string, newSha256: string): Promise<void> {
    await this.#journal.append({ t: 'moved', path, newSha256 });
    this.#moved.add(path);
  }

  async #inputOf(path: string, found: Ciphertext, what: Outdated): Promise<MoveInput> {
    const { method, to, associatedData, aadSuffix } = this.#options;
    const own = aadSuffix === undefined ? undefined : await this.#beside(`${path}${aadSuffix}`, MAX_AAD_BYTES);
    const message = found.form === 'jws' && found.detached ? await this.#messageOf(path) : undefined;
    return { path, found, what, method, to, associatedData: own ?? associatedData, message };
  }

  async #messageOf(path: string): Promise<Buffer> {
    const { messageSuffix } = this.#options;
    const message = path.endsWith(messageSuffix)
      ? await this.#beside(path.slice(0, -messageSuffix.length), MAX_DATA_BYTES)
      : undefined;
    if (message !== undefined) return message;
    throw new Stays('no-message', `a detached JWS needs its data: the file without "${messageSuffix}"`);
  }

  async #beside(path: string, limit: number): Promise<Buffer | undefined> {
    try {
      if ((await stat(path)).size > limit) throw new Stays('too-large', `${path} has more than ${limit} bytes`);
      return await readFile(path);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw error;
    }
  }

  /** Waits and tries again while the agent is busy or away; measures what succeeds. */
  async #patiently<T>(kind: string | undefined, act: () => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt += 1) {
      const startedAt = this.#clock.now();
      try {
        const result = await act();
        if (kind !== undefined) this.#throttle.done(kind, this.#clock.now() - startedAt);
        return result;
      } catch (error) {
        if (!isMortiseError(error) || !error.retryable || attempt >= MAX_ATTEMPTS) throw error;
        await this.#clock.sleep(this.#throttle.busy(error.retryAfterMs), this.#signal);
      }
    }
  }

  #reasonOf(error: unknown): Stays {
    if (error instanceof Stays) return error;
    if (error instanceof NotReplaceable) return new Stays('not-replaceable', error.message);
    if (error instanceof Changed) return new Stays('changed', error.message);
    if (error instanceof Unverified) return new Stays('failed', error.message);
    if (isMortiseError(error)) {
      if (error.retryable || FATAL.has(error.code)) throw error;
      const refused = ['POLICY_DENIED', 'FIPS_ONLY', 'PERMISSION_DENIED', 'ALGORITHM_FORBIDDEN'].includes(error.code);
      return new Stays(refused ? 'refused' : 'failed', error.message, error.code);
    }
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === undefined || FATAL_ERRNO.has(code) || error instanceof CliError) throw error;
    return new Stays('failed', message, code);
  }

  async #leave(path: string, form: Ciphertext['form'] | undefined, { reason, message, code }: Stays): Promise<void> {
    const { progress } = this;
    if (reason === 'current') progress.current += 1;
    else if (reason === 'unrecognised') progress.unrecognised += 1;
    else progress.failed += 1;
    if (reason === 'current' && this.#moved.has(path)) return; // it stands in the journal as moved
    const sha256 = reason === 'unrecognised' ? undefined : await sha256Of(path).catch(() => undefined);
    const about = {
      ...(form && { form }),
      ...(message && { detail: message }),
      ...(code && { code }),
      ...(sha256 && { sha256 }),
    };
    await this.#journal.append({ t: 'left', run: this.#options.run, path, reason, ...about } satisfies Left);
  }
}
