// A file with one ciphertext or signature a line, as a database exports them. Invariant: the new file has the same lines in
// the same order, those that cannot be moved as they were; every so many lines what is done is on the disk and in the
// journal, so that a killed run goes on behind them.
import { createReadStream } from 'node:fs';
import { type FileHandle, open, stat } from 'node:fs/promises';
import { MAX_JOSE_BYTES } from '../files.ts';
import { parseJose } from './ciphertext.ts';
import type { Checkpoint, Journal } from './journal.ts';
import type { Method, Mover } from './move.ts';
import type { Patience } from './patience.ts';
import { finishBeside, type Identity, NotReplaceable, removeIfThere, sha256Of } from './replace.ts';
import { reasonOf, Stays } from './stays.ts';
import type { Targets } from './targets.ts';

const CHECKPOINT_LINES = 64;
const MAX_NAMED = 100; // key versions in the journal's line on a list

/** Each line with its end. */
export async function* linesOf(path: string): AsyncGenerator<Buffer> {
  let rest: Buffer = Buffer.alloc(0);
  for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) {
    const data = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    let start = 0;
    for (let at = data.indexOf(0x0a); at >= 0; at = data.indexOf(0x0a, start)) {
      yield data.subarray(start, at + 1);
      start = at + 1;
    }
    rest = data.subarray(start);
    if (rest.length > MAX_JOSE_BYTES) throw new NotReplaceable('it has a line that is longer than any JOSE text');
  }
  if (rest.length > 0) yield rest;
}

export interface ListInput {
  readonly path: string;
  readonly old: Identity;
  readonly temporary: string;
  /** Where an earlier run has come to. */
  readonly checkpoint: Checkpoint | undefined;
  readonly run: number;
  readonly method: Method;
  readonly to: string | undefined;
  readonly associatedData: Buffer | undefined;
  readonly verify: boolean;
}

export class ListMove {
  readonly #input: ListInput;
  readonly #journal: Journal;
  readonly #mover: Mover;
  readonly #targets: Targets;
  readonly #patience: Patience;
  #done: Omit<Checkpoint, 't'>;

  constructor(input: ListInput & { journal: Journal; mover: Mover; targets: Targets; patience: Patience }) {
    this.#input = input;
    this.#journal = input.journal;
    this.#mover = input.mover;
    this.#targets = input.targets;
    this.#patience = input.patience;
    this.#done = {
      path: input.path,
      oldSha256: '',
      lines: 0,
      bytes: 0,
      moved: 0,
      current: 0,
      left: 0,
      from: [],
      to: [],
    };
  }

  /** Writes the new file beside the old, whole and on the disk. Throws Stays where nothing was to be moved. */
  async write(): Promise<Omit<Checkpoint, 't'> & { readonly newSha256: string }> {
    const { path, temporary, old } = this.#input;
    const file = await this.#open(await sha256Of(path));
    try {
      await this.#lines(file);
      if (this.#done.moved > 0) await finishBeside(file, old);
    } finally {
      await file.close();
    }
    const { moved, left } = this.#done;
    if (moved > 0) return { ...this.#done, newSha256: await sha256Of(temporary) };
    await removeIfThere(temporary);
    throw left > 0 ? new Stays('failed', `${left} of its lines could not be moved`) : new Stays('current', '');
  }

  async #open(oldSha256: string): Promise<FileHandle> {
    const { temporary, checkpoint } = this.#input;
    const there = await stat(temporary).catch(() => undefined); // none, or none that helps
    if (checkpoint?.oldSha256 === oldSha256 && there !== undefined && there.size >= checkpoint.bytes) {
      const { t: _, ...done } = checkpoint;
      this.#done = done;
      const file = await open(temporary, 'r+');
      await file.truncate(done.bytes);
      return file;
    }
    await removeIfThere(temporary);
    this.#done = { ...this.#done, oldSha256 };
    const file = await open(temporary, 'wx', 0o600);
    await this.#journal.append({ t: 'list', ...this.#done });
    return file;
  }

  async #lines(file: FileHandle): Promise<void> {
    const { lines: skip } = this.#done;
    let number = 0;
    try {
      for await (const line of linesOf(this.#input.path)) {
        number += 1;
        if (number <= skip) continue;
        this.#patience.signal.throwIfAborted();
        const bytes = await this.#line(line, number);
        await file.write(bytes, 0, bytes.length, this.#done.bytes);
        this.#done = { ...this.#done, lines: number, bytes: this.#done.bytes + bytes.length };
        if (number % CHECKPOINT_LINES === 0) await this.#checkpoint(file);
      }
    } catch (error) {
      await this.#checkpoint(file);
      throw error;
    }
  }

  async #checkpoint(file: FileHandle): Promise<void> {
    await file.datasync();
    await this.#journal.append({ t: 'list', ...this.#done });
  }

  async #line(line: Buffer, number: number): Promise<Buffer> {
    try {
      return await this.#move(line);
    } catch (error) {
      const { reason, message: detail, code } = reasonOf(error);
      if (reason === 'current') this.#count('current');
      else if (reason !== 'unrecognised') {
        this.#count('left');
        const { path, run } = this.#input;
        await this.#journal.append({ t: 'left', run, path, line: number, reason, detail, ...(code && { code }) });
      }
      return line;
    }
  }

  async #move(line: Buffer): Promise<Buffer> {
    const { path, method, to, associatedData, verify: open } = this.#input;
    const found = parseJose(line.toString('utf8'));
    if (found === undefined) throw new Stays('unrecognised', '');
    const what = await this.#patience.call(undefined, () => this.#targets.assess(found));
    if (what.state === 'left') throw new Stays(what.reason, what.detail);
    if (found.form === 'jws' && found.detached) throw new Stays('no-message', 'a detached JWS in a list has no data');
    await this.#patience.pace();
    const input = { path, found, what, method, to, associatedData, message: undefined };
    const made = await this.#patience.call(`line ${found.form} ${line.length.toString(2).length}`, async () => {
      const pieces: Uint8Array[] = [];
      for await (const piece of (await this.#mover.move(input)).pieces) pieces.push(piece);
      return Buffer.concat(pieces);
    });
    const isNew = parseJose(made.toString('utf8'));
    await this.#patience.call(undefined, () => this.#mover.verify(isNew, input, { open }));
    this.#count('moved');
    const names = (before: readonly string[], more: readonly string[]): readonly string[] =>
      [...new Set([...before, ...more])].slice(0, MAX_NAMED);
    const { from, to: reached } = this.#done;
    const kids = isNew?.keys.flatMap(({ kid }) => kid ?? []) ?? [];
    this.#done = { ...this.#done, from: names(from, what.from), to: names(reached, kids) };
    return made;
  }

  #count(name: 'moved' | 'current' | 'left'): void {
    this.#done = { ...this.#done, [name]: this.#done[name] + 1 };
  }
}
