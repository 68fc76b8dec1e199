// One token process: spawned with a minimal environment, given its configuration and the PIN over a socketpair, told to
// stop or killed. It knows nothing of calls.
import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Duplex, Readable } from 'node:stream';
import type { TokenEvents } from './events.ts';
import { decodeFields, encodeFrame, type Frame, FrameReader, ProtocolError, readU32, u32 } from './protocol.ts';
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
  readonly #started = Promise.withResolvers<Ready>();

  constructor(options: ChildOptions) {
    const channels = Array.from({ length: options.sessions }, () => 'pipe' as const);
    this.#process = spawn(process.execPath, [SMALL_HEAP, MAIN], {
      stdio: ['ignore', 'pipe', 'pipe', 'pipe', ...channels],
      env: options.environment,
      cwd: '/',
      detached: true, // a Ctrl-C in a terminal is for the agent, which drains first
    });
    this.pid = this.#process.pid ?? -1;
    copyLines(this.#process.stdout as Readable, 'stdout', options.events);
    copyLines(this.#process.stderr as Readable, 'stderr', options.events);
    this.#control = this.#process.stdio[CONTROL_FD] as Duplex;
    for (const socket of this.#process.stdio.slice(CONTROL_FD)) {
      socket?.on('error', () => {}); // the exit of the process tells the rest
    }
    this.#readControl();
    this.#started.promise.catch(() => {}); // it may end before anybody waits for it
    this.exited = new Promise((resolve) => {
      this.#process.once('error', (error) => {
        this.#started.reject(new TokenStartError('exited', 'the token process could not be spawned', error));
        if (this.#process.pid === undefined) resolve({ code: null, signal: null });
      });
      this.#process.once('exit', (code, signal) => {
        const how = signal === null ? `with code ${code}` : `by ${signal}`;
        this.#started.reject(new TokenStartError('exited', `the token process ended ${how}`));
        resolve({ code, signal });
      });
    });
  }

  /** Hands over configuration and PIN; both buffers are wiped. Rejects with TokenStartError. */
  async start(config: StartConfig, pin: Buffer, timeoutMs: number): Promise<Ready> {
    const frame = encodeFrame(0, CONTROL.start.kind, [Buffer.from(JSON.stringify(config)), pin]);
    pin.fill(0);
    this.#control.write(frame, () => frame.fill(0));
    const timer = setTimeout(() => {
      this.#started.reject(new TokenStartError('timed-out', `the token was not ready within ${timeoutMs} ms`));
    }, timeoutMs);
    try {
      return await this.#started.promise;
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
        this.#started.reject(new TokenStartError('token-failed', 'the token process sent nonsense', error));
        this.onBroken(error);
      }
    });
  }

  #take(frame: Frame): void {
    if (frame.kind === CONTROL.ready.kind) {
      this.#started.resolve(parseReady(decodeFields(frame.body, CONTROL.ready.fields)[0] as Buffer));
    } else if (frame.kind === CONTROL.failed.kind) {
      const { reason, detail } = parseFailure(decodeFields(frame.body, CONTROL.failed.fields)[0] as Buffer);
      this.#started.reject(new TokenStartError(reason, detail));
    } else if (frame.kind === CONTROL.sessionFailed.kind) {
      const [index, detail] = decodeFields(frame.body, CONTROL.sessionFailed.fields) as [Buffer, Buffer];
      this.onSessionFailed(readU32(index), detail.toString('utf8'));
    } else if (frame.kind === CONTROL.sessionEnded.kind) {
      this.onSessionEnded(readU32(decodeFields(frame.body, CONTROL.sessionEnded.fields)[0] as Buffer));
    } else throw new ProtocolError(`a control frame of kind ${frame.kind}`);
  }
}
