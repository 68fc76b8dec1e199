// Reads passphrases: from a file, or from the terminal with the echo off. Never from arguments or the environment,
// which other processes can read.
import { openSync } from 'node:fs';
import { ReadStream, WriteStream } from 'node:tty';
import { CliError } from './exit-codes.ts';
import { readInput } from './files.ts';
import type { Io } from './io.ts';

const MAX_PASSPHRASE_BYTES = 1024;
const LIMIT = { bytes: MAX_PASSPHRASE_BYTES, advice: 'a passphrase file holds one line' };
const [ENTER, NEWLINE, CTRL_C, CTRL_D, BACKSPACE, DELETE, CTRL_U] = [0x0d, 0x0a, 0x03, 0x04, 0x08, 0x7f, 0x15];

/** The first line of the file, without its end; the caller wipes it. */
const readPassphraseFile = async (io: Io, path: string): Promise<Buffer> => {
  const bytes = await readInput(io, path, LIMIT);
  const end = bytes.findIndex((byte) => byte === NEWLINE || byte === ENTER);
  return end < 0 ? bytes : bytes.subarray(0, end);
};

/** Takes one byte of what is typed; true when the line is complete. */
const take = (typed: number[], byte: number): boolean => {
  switch (byte) {
    case ENTER:
    case NEWLINE:
    case CTRL_D:
      return true;
    case CTRL_C:
      throw new CliError('failure', 'cancelled');
    case CTRL_U:
      typed.length = 0;
      return false;
    case BACKSPACE:
    case DELETE:
      // One character may be several bytes of UTF-8.
      while (typed.length > 0 && ((typed.at(-1) as number) & 0xc0) === 0x80) typed.pop();
      typed.pop();
      return false;
    default:
      if (typed.length >= MAX_PASSPHRASE_BYTES) throw new CliError('usage', 'the passphrase is too long');
      typed.push(byte);
      return false;
  }
};

/** Resolves when a line is complete. The stream stays open: its end belongs to the caller, who resets the terminal. */
const readLine = (terminal: ReadStream, typed: number[]): Promise<void> =>
  new Promise((resolve, reject) => {
    terminal.once('error', reject).once('end', resolve);
    terminal.on('data', (chunk: Buffer) => {
      try {
        for (const byte of chunk) if (take(typed, byte)) return resolve();
      } catch (error) {
        reject(error);
      }
    });
  });

/** Asks on the controlling terminal, whatever standard input and output are connected to. */
const prompt = async (question: string): Promise<Buffer> => {
  let fd: number;
  try {
    fd = openSync('/dev/tty', 'r');
  } catch (cause) {
    throw new CliError('usage', `no terminal to ask for the ${question}; use --passphrase-file`, cause);
  }
  const typed: number[] = [];
  const input = new ReadStream(fd);
  const output = new WriteStream(openSync('/dev/tty', 'w')); // each stream closes the descriptor that it has
  try {
    input.setRawMode(true); // before the question, so that nothing typed in answer to it is ever echoed
    output.write(`${question}: `);
    await readLine(input, typed);
    output.write('\r\n');
    return Buffer.from(typed);
  } finally {
    typed.fill(0);
    input.setRawMode(false);
    input.destroy();
    output.destroy();
  }
};

/** A passphrase that exists: to open a key file. */
export const askPassphrase = async (io: Io, subject: string, file: string | undefined): Promise<Buffer> =>
  file === undefined ? prompt(`Passphrase of ${subject}`) : readPassphraseFile(io, file);

/** A passphrase that is to be: asked for twice. */
export const choosePassphrase = async (io: Io, subject: string, file: string | undefined): Promise<Buffer> => {
  if (file !== undefined) return readPassphraseFile(io, file);
  const first = await prompt(`New passphrase of ${subject}`);
  const second = await prompt('Once more');
  if (!first.equals(second)) throw new CliError('usage', 'the two passphrases differ');
  second.fill(0);
  return first;
};
