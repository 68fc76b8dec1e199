// The journal of a campaign: JSON lines, each on the disk before what follows from it. Invariant: a file is replaced only
// after its old and new hash are here, so that whatever the moment of a kill, the next run can tell which one is in place.
import { createReadStream } from 'node:fs';
import { type FileHandle, open, readFile, stat, truncate, unlink } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { CliError } from '../exit-codes.ts';
import type { Form } from './ciphertext.ts';
import type { Reason } from './targets.ts';

export const JOURNAL_VERSION = 1;

export interface Begin {
  readonly t: 'begin';
  readonly version: typeof JOURNAL_VERSION;
  readonly campaign: string;
  readonly tenant: string;
  /** What has to be the same when the campaign goes on. */
  readonly options: Readonly<Record<string, unknown>>;
  readonly time: string;
}
export interface RunBegun {
  readonly t: 'run';
  readonly run: number;
  readonly time: string;
  readonly files: number;
}
/** Everything is known, the new file is on the disk under its temporary name; next it takes the place of the old. */
export interface Replacing {
  readonly t: 'replacing';
  readonly path: string;
  readonly form: Form;
  readonly method: string;
  readonly from: readonly string[];
  readonly to: readonly string[];
  readonly oldSha256: string;
  readonly newSha256: string;
  readonly bytes: number;
  /** Of a list. */
  readonly lines?: { readonly moved: number; readonly current: number; readonly left: number };
}
/** How far the new file of a list is; with `lines` 0 it begins anew. */
export interface Checkpoint {
  readonly t: 'list';
  readonly path: string;
  readonly oldSha256: string;
  readonly lines: number;
  readonly bytes: number;
  readonly moved: number;
  readonly current: number;
  readonly left: number;
  readonly from: readonly string[];
  readonly to: readonly string[];
}
export interface Moved {
  readonly t: 'moved';
  readonly path: string;
  readonly newSha256: string;
}
export interface Left {
  readonly t: 'left';
  readonly run: number;
  readonly path: string;
  /** Of a list, from 1. */
  readonly line?: number;
  readonly form?: Form;
  readonly reason: Reason;
  readonly detail?: string;
  readonly code?: string;
  readonly sha256?: string;
}
export interface Ended {
  readonly t: 'end';
  readonly run: number;
  readonly complete: boolean;
  readonly time: string;
}
export interface Stated {
  readonly t: 'statement';
  readonly path: string;
  readonly sha256: string;
}
export type Entry = Begin | RunBegun | Checkpoint | Replacing | Moved | Left | Ended | Stated;

/** What the journal says so far. */
export interface JournalState {
  readonly begin: Begin | undefined;
  readonly runs: number;
  readonly files: number;
  /** Hash of each file that was moved, as it was then. */
  readonly moved: ReadonlyMap<string, string>;
  /** Of those that were about to be replaced when a run ended. */
  readonly pending: ReadonlyMap<string, Replacing>;
  /** Lists that a run has begun and not finished. */
  readonly lists: ReadonlyMap<string, Checkpoint>;
  /** Of the latest run, by reason. */
  readonly left: Readonly<Record<string, number>>;
  readonly ended: Ended | undefined;
  readonly stated: Stated | undefined;
  readonly lastTime: string | undefined;
}

const parseLine = (line: string, at: string): Entry => {
  try {
    const value: unknown = JSON.parse(line);
    if (typeof value === 'object' && value !== null && 't' in value) return value as Entry;
  } catch {
    // told below
  }
  throw new CliError('usage', `${at} is not a line of a migration journal`);
};

/** The lines in order. The last one may be cut off by a kill and is then left out. */
export async function* readEntries(path: string): AsyncGenerator<Entry> {
  const { size } = await stat(path);
  let [number, done] = [0, 0];
  for await (const line of createInterface({ input: createReadStream(path) })) {
    number += 1;
    done += Buffer.byteLength(line) + 1;
    if (done > size) return; // no line end: it was never whole
    yield parseLine(line, `${path}:${number}`);
  }
}

export const readJournal = async (path: string): Promise<JournalState> => {
  const moved = new Map<string, string>();
  const pending = new Map<string, Replacing>();
  const lists = new Map<string, Checkpoint>();
  let left: Record<string, number> = {};
  let state: Omit<JournalState, 'moved' | 'pending' | 'lists' | 'left'> = {
    begin: undefined,
    runs: 0,
    files: 0,
    ended: undefined,
    stated: undefined,
    lastTime: undefined,
  };
  for await (const entry of readEntries(path)) {
    if (entry.t === 'begin') state = { ...state, begin: entry, lastTime: entry.time };
    else if (entry.t === 'run') {
      state = { ...state, runs: entry.run, files: entry.files, ended: undefined, lastTime: entry.time };
      left = {};
    } else if (entry.t === 'list') lists.set(entry.path, entry);
    else if (entry.t === 'replacing') {
      lists.delete(entry.path);
      pending.set(entry.path, entry);
    } else if (entry.t === 'moved') {
      pending.delete(entry.path);
      moved.set(entry.path, entry.newSha256);
    } else if (entry.t === 'left') {
      pending.delete(entry.path);
      left[entry.reason] = (left[entry.reason] ?? 0) + 1;
    } else if (entry.t === 'end') state = { ...state, ended: entry, lastTime: entry.time };
    else if (entry.t === 'statement') state = { ...state, stated: entry };
  }
  return { ...state, moved, pending, lists, left };
};

/** Cuts off what a kill left of a last line. */
const mend = async (path: string): Promise<void> => {
  const { size } = await stat(path);
  if (size === 0) return;
  const file = await open(path, 'r');
  try {
    const chunk = Buffer.alloc(64 * 1024);
    for (let end = size; end > 0; ) {
      const start = Math.max(0, end - chunk.length);
      const { bytesRead } = await file.read(chunk, 0, end - start, start);
      const at = chunk.subarray(0, bytesRead).lastIndexOf('\n');
      if (at >= 0) return await truncate(path, start + at + 1);
      end = start;
    }
    await truncate(path, 0);
  } finally {
    await file.close();
  }
};

/** Process that runs the campaign; undefined where none does. */
export const runnerOf = async (journal: string): Promise<number | undefined> => {
  const text = await readFile(`${journal}.lock`, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  const pid = Number(text);
  if (text === undefined || !Number.isSafeInteger(pid) || pid <= 0) return undefined;
  try {
    process.kill(pid, 0);
    return pid;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM' ? pid : undefined;
  }
};

export class Journal {
  readonly #file: FileHandle;
  readonly #path: string;
  #last: Promise<unknown> = Promise.resolve();
  #queue: string[] = [];
  #flush: Promise<void> | undefined;

  private constructor(path: string, file: FileHandle) {
    this.#path = path;
    this.#file = file;
  }

  /** Opens it to write, for this process alone. */
  static async open(path: string): Promise<Journal> {
    const runner = await runnerOf(path);
    if (runner !== undefined && runner !== process.pid) {
      throw new CliError('failure', `process ${runner} runs this campaign already`);
    }
    await unlink(`${path}.lock`).catch(ignoreMissing); // of a run that was killed
    const lock = await open(`${path}.lock`, 'wx', 0o600).catch((cause: NodeJS.ErrnoException) => {
      throw new CliError('failure', `cannot lock ${path}: ${cause.message}`, cause);
    });
    await lock.writeFile(String(process.pid));
    await lock.close();
    const file = await open(path, 'a', 0o600);
    await mend(path);
    return new Journal(path, file);
  }

  /** On the disk when it resolves; entries of the same moment share the write. */
  append(entry: Entry): Promise<void> {
    this.#queue.push(`${JSON.stringify(entry)}\n`);
    this.#flush ??= this.#last.then(() => this.#write());
    return this.#flush;
  }

  async close(): Promise<void> {
    await this.#flush;
    await this.#last;
    await this.#file.close();
    await unlink(`${this.#path}.lock`).catch(ignoreMissing);
  }

  async #write(): Promise<void> {
    const lines = this.#queue.splice(0).join('');
    const written = this.#file.appendFile(lines).then(() => this.#file.datasync());
    this.#last = written.catch(() => undefined); // whoever appended is told
    this.#flush = undefined;
    await written;
  }
}

const ignoreMissing = (error: NodeJS.ErrnoException): void => {
  if (error.code !== 'ENOENT') throw error;
};
