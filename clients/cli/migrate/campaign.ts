// A campaign: every file that is not under the current version of its key is moved there, once. Invariant: whatever the
// moment of a kill, each name leads to a whole file, and the next run finishes what is left.
import { readFile, stat } from 'node:fs/promises';
import { MAX_DATA_BYTES } from '../files.ts';
import { type Ciphertext, readCiphertext } from './ciphertext.ts';
import type { Journal, JournalState, Left, Replacing } from './journal.ts';
import { ListMove } from './list.ts';
import type { Method, MoveInput, Mover } from './move.ts';
import { Patience } from './patience.ts';
import {
  dropSecondName,
  type Identity,
  identityOf,
  putInPlace,
  refuseChanged,
  refuseLinked,
  removeIfThere,
  sha256Of,
  temporaryOf,
  writeBeside,
} from './replace.ts';
import { reasonOf, Stays } from './stays.ts';
import type { Outdated, Targets } from './targets.ts';
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

const MAX_AAD_BYTES = 16 * 1024;

/** Calls whose latencies can be compared; of a container they depend on its size alone. */
const kindOf = ({ form }: Ciphertext, size: bigint): string | undefined =>
  form === 'container' ? undefined : `${form} ${size.toString(2).length}`;

export class Campaign {
  readonly progress: Progress = { done: 0, moved: 0, current: 0, failed: 0, unrecognised: 0 };
  readonly #journal: Journal;
  readonly #pending: JournalState['pending'];
  readonly #lists: JournalState['lists'];
  /** Files that were moved, in whichever run. */
  readonly #moved: Set<string>;
  readonly #options: CampaignOptions;
  readonly #mover: Mover;
  readonly #targets: Targets;
  readonly #throttle: Throttle;
  readonly #patience: Patience;
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
    this.#lists = input.state.lists;
    this.#moved = new Set(input.state.moved.keys());
    this.#options = input.options;
    this.#mover = input.mover;
    this.#targets = input.targets;
    this.#throttle = input.throttle;
    this.#signal = AbortSignal.any([input.signal, this.#stop.signal]);
    this.#patience = new Patience({ throttle: input.throttle, clock: input.clock, signal: this.#signal });
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
      const old = await identityOf(path); // before it is read, so that no later write goes unseen
      const found = await readCiphertext(path);
      form = found?.form;
      if (found === undefined) throw new Stays('unrecognised', '');
      await (form === 'list' ? this.#moveList(path, old) : this.#moveFile(path, old, found));
      this.progress.moved += 1;
    } catch (error) {
      if (this.#signal.aborted && !(error instanceof Stays)) return; // neither done nor failed: the next run has it
      await this.#leave(path, form, reasonOf(error));
    }
    this.progress.done += 1;
  }

  async #moveFile(path: string, old: Identity, found: Ciphertext): Promise<void> {
    const assessed = await this.#patience.call(undefined, () => this.#targets.assess(found));
    if (assessed.state === 'left') throw new Stays(assessed.reason, assessed.detail);
    const oldSha256 = await sha256Of(path);
    const input = await this.#inputOf(path, found, assessed);
    const temporary = temporaryOf(path, this.#options.campaign);
    const { method, sha256, bytes } = await this.#patience.call(kindOf(found, old.size), async () => {
      const made = await this.#mover.move(input);
      return { method: made.method, ...(await writeBeside(temporary, old, made.pieces)) };
    });
    try {
      const isNew = await readCiphertext(temporary);
      const { verify } = this.#options;
      await this.#patience.call(undefined, () => this.#mover.verify(isNew, input, { open: verify }));
      const to = isNew?.keys.flatMap(({ kid }) => kid ?? []) ?? [];
      const about = { path, form: found.form, method, from: assessed.from, to, oldSha256, newSha256: sha256, bytes };
      await this.#replace(temporary, old, about);
    } catch (error) {
      await removeIfThere(temporary);
      throw error;
    }
  }

  async #moveList(path: string, old: Identity): Promise<void> {
    refuseLinked(old);
    const { campaign, run, method, to: target, verify } = this.#options;
    const temporary = temporaryOf(path, campaign);
    const own = { path, old, temporary, checkpoint: this.#lists.get(path), run, method, to: target, verify };
    const rooms = { journal: this.#journal, mover: this.#mover, targets: this.#targets, patience: this.#patience };
    const { associatedData } = this.#options;
    const done = await new ListMove({ ...own, ...rooms, associatedData }).write();
    const { from, to, oldSha256, newSha256, bytes, moved, current, left } = done;
    const lines = { moved, current, left };
    const about = { path, form: 'list' as const, method, from, to, oldSha256, newSha256, bytes, lines };
    try {
      await this.#replace(temporary, old, about);
    } catch (error) {
      await removeIfThere(temporary);
      throw error;
    }
    if (left > 0) this.progress.failed += 1;
  }

  async #replace(temporary: string, old: Identity, about: Omit<Replacing, 't'>): Promise<void> {
    const { path, newSha256 } = about;
    await refuseChanged(path, old);
    await this.#journal.append({ t: 'replacing', ...about });
    await putInPlace(temporary, path, this.#options.keptSuffix);
    await this.#noteMoved(path, newSha256);
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
