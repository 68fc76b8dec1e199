// A bearer token in a file that something else keeps fresh. Invariant: the token is that of the file as it is now; its
// content is never part of an error.
import { closeSync, fstatSync, openSync, readSync, statSync } from 'node:fs';
import { MortiseError } from './errors.ts';

/** A JWT in a header; more is a wrong file. */
const MAX_BYTES = 64 * 1024;

/**
 * A token in a file, such as a projected service-account token of Kubernetes. The file is read again whenever it has
 * changed, so a rotation needs no restart.
 */
export class TokenFile {
  readonly #path: string;
  #seen: string | undefined;
  #token = '';

  constructor(path: string) {
    this.#path = path;
  }

  /** The token as the file has it now. @throws {MortiseError} UNAUTHENTICATED where it cannot be read */
  read(): string {
    try {
      // A projected file is a symbolic link that is swapped: `stat` follows it to what is there now.
      if (this.#seen === undefined || this.#seen !== versionOf(statSync(this.#path))) this.#load();
    } catch (cause) {
      const why = (cause as NodeJS.ErrnoException).code ?? (cause as Error).message;
      throw new MortiseError('UNAUTHENTICATED', {
        message: `cannot read the token file ${this.#path} (${why})`,
        cause,
      });
    }
    return this.#token;
  }

  /** Has the file read again with the next call. */
  forget(): void {
    this.#seen = undefined;
  }

  #load(): void {
    const file = openSync(this.#path, 'r');
    try {
      const found = fstatSync(file);
      const bytes = Buffer.alloc(MAX_BYTES + 1);
      const length = readSync(file, bytes, 0, bytes.length, 0);
      if (length > MAX_BYTES) throw new RangeError('longer than a token can be');
      this.#token = bytes.toString('latin1', 0, length).trim();
      this.#seen = versionOf(found);
    } finally {
      closeSync(file);
    }
  }
}

const versionOf = ({ mtimeMs, size, ino }: { mtimeMs: number; size: number; ino: number }): string =>
  `${mtimeMs} ${size} ${ino}`;
