// One token process: spawned with a minimal environment, given its configuration and then the PIN over a socketpair, told
// to stop or killed. It knows nothing of calls. Invariant: no PIN is sent before the token was found.
import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Duplex, Readable } from 'node:stream';
import type { TokenEvents } from './events.ts';
import {
  decodeFields,
  encodeFrame,
  type Frame,
  FrameReader,
  ProtocolError,
  readU32,
  u32,
  writeFrame,
} from './protocol.ts';
import { CONTROL, CONTROL_FD, SESSION_FD } from './requests.ts';
import { TokenStartError } from './start-error.ts';
import { parseFailure, parseReady, type Ready, type StartConfig } from './start-message.ts';

const MAIN = join(import.meta.dirname, 'process', 'main.ts');
const SMALL_HEAP = '--max-semi-space-size=1'; // MB; it makes little garbage, and what the start grew would stay resident
const MAX_LINE = 500;
const MAX_LINES = 200; // of one process and stream; a library that logs each call must not fill the log

export interface Exit {
  readonly code: number | null;
  readonly signal: string | null;
}

export interface ChildOptions {
  readonly config: StartConfig;
  readonly sessions: number;
  readonly environment: Readonly<Record<string, string>>;
  readonly events: TokenEvents;
}

const copyLines = (stream: Readable, name: 'stdout' | 'stderr', events: TokenEvents): void => {
  let left = MAX_LINES;
  createInterface({ input: stream }).on('line', (line) => {
    if (left <= 0) return;
    left -= 1;
    events.tokenOutput({ stream: name, line: line.slice(0, MAX_LINE) });
  });
};

export class Child {
  readonly pid: number;
  readonly exited: Promise<Exit>;
  /** Set by the owner once the token is ready. */
  onSessionFailed: (index: number, detail: string) => void = () => {};
  onSessionEnded: (index: number) => void = () => {};
  onBroken: (error: Error) => void = () => {};
  readonly #process: ChildProcess;
  readonly #control: Duplex;
  /** What the last question of the start awaits. */
  #asked: PromiseWithResolvers<Ready | undefined> = Promise.withResolvers();
  #ended: TokenStartError | undefined;
  #ending: Promise<void> | undefined;

  constructor(options: ChildOptions) {
    const channels = Array.from({ length: options.sessions }, () => 'pipe' as const);
    this.#process = spawn(process.execPath, [SMALL_HEAP, MAIN], {
      stdio: ['ignore', 'pipe', 'pipe', 'pipe', ...channels],
      env: options.environment,
      cwd: '/',
      detached: true, // a Ctrl-C in a terminal is for the agent, which drains first
    });
    this.#process.on('error', () => {}); // before anything below can throw
    if (this.#process.stdio === undefined) throw new Error('no file descriptors are left'); // EMFILE, ENFILE
    this.pid = this.#process.pid ?? -1;
    copyLines(this.#process.stdout as Readable, 'stdout', options.events);
    copyLines(this.#process.stderr as Readable, 'stderr', options.events);
    this.#control = this.#process.stdio[CONTROL_FD] as Duplex;
    for (const socket of this.#process.stdio.slice(CONTROL_FD)) {
      socket?.on('error', () => {}); // the exit of the process tells the rest
    }
    this.#readControl();
    this.#asked.promise.catch(() => {}); // it may end before anybody asks
    const end = (detail: string, cause?: Error): void => {
      this.#ended ??= new TokenStartError('exited', detail, cause);
      this.#asked.reject(this.#ended);
    };
    this.exited = new Promise((resolve) => {
      this.#process.once('error', (error) => {
        end('the token process could not be spawned', error);
        if (this.#process.pid === undefined) resolve({ code: null, signal: null });
      });
      this.#process.once('exit', (code, signal) => {
        end(`the token process ended ${signal === null ? `with code ${code}` : `by ${signal}`}`);
        resolve({ code, signal });
      });
    });
  }

  /** Has it look for the token, again where it was not there before. Rejects with TokenStartError. */
  async find(config: StartConfig, timeoutMs: number): Promise<void> {
    await this.#ask(encodeFrame(0, CONTROL.find.kind, [Buffer.from(JSON.stringify(config))]), timeoutMs);
  }

  /** Hands over the PIN, which is wiped. Rejects with TokenStartError. */
  async logIn(pin: Buffer, timeoutMs: number): Promise<Ready> {
    // Of a fixed size: V8 keeps small buffers in its heap, where the collector moves them and leaves copies.
    const room = Buffer.allocUnsafeSlow(2 * CONTROL.logIn.fields[0]);
    let frame: Buffer;
    try {
      if (pin.length > CONTROL.logIn.fields[0]) throw new TokenStartError('pin-form', 'the PIN is too long');
      frame = room.subarray(0, writeFrame(room, 0, { id: 0, kind: CONTROL.logIn.kind, fields: [pin] }));
    } finally {
      pin.fill(0);
    }
    const ready = await this.#ask(frame, timeoutMs);
    if (ready === undefined) throw new TokenStartError('token-failed', 'the token process was found twice');
    return ready;
  }

  /** The frame is wiped. */
  async #ask(frame: Buffer, timeoutMs: number): Promise<Ready | undefined> {
    this.#asked = Promise.withResolvers();
    if (this.#ended !== undefined) this.#asked.reject(this.#ended);
    this.#control.write(frame, () => frame.fill(0));
    const timer = setTimeout(() => {
      this.#asked.reject(new TokenStartError('timed-out', `the token did not answer within ${timeoutMs} ms`));
    }, timeoutMs);
    try {
      return await this.#asked.promise;
    } finally {
      clearTimeout(timer);
    }
  }

  channel(index: number): Duplex {
    return this.#process.stdio[SESSION_FD + index] as Duplex;
  }
  openSession(index: number): void {
    this.#control.write(encodeFrame(0, CONTROL.session.kind, [u32(index)]));
  }

  /** Asks for an orderly end; the channels must have been ended. */
  stop(): void {
    this.#control.write(encodeFrame(0, CONTROL.stop.kind, []));
  }
  /** Stops it, and kills it where it does not end in time. Asked again, it is told nothing more. */
  end(timeoutMs: number): Promise<void> {
    this.#ending ??= this.#end(timeoutMs);
    return this.#ending;
  }
  async #end(timeoutMs: number): Promise<void> {
    this.stop();
    const timer = setTimeout(() => this.kill(), timeoutMs);
    await this.exited;
    clearTimeout(timer);
  }
  kill(): void {
    this.#process.kill('SIGKILL'); // by handle: the id cannot have been reused while it was not reaped
  }

  #readControl(): void {
    const reader = new FrameReader();
    this.#control.on('data', (chunk: Buffer) => {
      try {
        reader.push(chunk, (frame) => this.#take(frame));
      } catch (thrown) {
        const error = thrown instanceof Error ? thrown : new ProtocolError(String(thrown));
        this.#asked.reject(new TokenStartError('token-failed', 'the token process sent nonsense', error));
        this.kill();
        this.onBroken(error);
      }
    });
  }

  #take(frame: Frame): void {
    if (frame.kind === CONTROL.found.kind) this.#asked.resolve(undefined);
    else if (frame.kind === CONTROL.ready.kind) {
      this.#asked.resolve(parseReady(decodeFields(frame.body, CONTROL.ready.fields)[0] as Buffer));
    } else if (frame.kind === CONTROL.failed.kind) {
      const { reason, detail } = parseFailure(decodeFields(frame.body, CONTROL.failed.fields)[0] as Buffer);
      this.#asked.reject(new TokenStartError(reason, detail));
    } else if (frame.kind === CONTROL.sessionFailed.kind) {
      const [index, detail] = decodeFields(frame.body, CONTROL.sessionFailed.fields) as [Buffer, Buffer];
      this.onSessionFailed(readU32(index), detail.toString('utf8'));
    } else if (frame.kind === CONTROL.sessionEnded.kind) {
      this.onSessionEnded(readU32(decodeFields(frame.body, CONTROL.sessionEnded.fields)[0] as Buffer));
    } else throw new ProtocolError(`a control frame of kind ${frame.kind}`);
  }
}
