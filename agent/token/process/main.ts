// The token process: the only one that loads the vendor library. It takes its configuration and the PIN from the
// control channel, answers whether the token is ready, starts a worker thread for each session that the agent asks
// for, and ends when told to or when the channel closes. Nothing secret is in its environment or arguments.
import { readSync } from 'node:fs';
import { Socket } from 'node:net';
import { Worker } from 'node:worker_threads';
import { returnMemory } from '../../resident.ts';
import {
  decodeFields,
  encodeFrame,
  type Frame,
  FrameReader,
  frameAt,
  frameEnd,
  MAX_FRAME_BYTES,
  readU32,
  u32,
} from '../protocol.ts';
import { CONTROL, CONTROL_FD, SESSION_FD } from '../requests.ts';
import { TokenStartError } from '../start-error.ts';
import { parseStartConfig, type StartConfig, shortened } from '../start-message.ts';
import { harden } from './harden.ts';
import { type OpenToken, openToken, withheldNumbers } from './open.ts';
import type { WorkerData } from './worker.ts';

const [, PIN_BYTES] = CONTROL.start.fields;
/** A worker needs nothing but the compiled code: with it, the stripper of types is not loaded once more, 17 MB. */
const WORKER_ENV = Object.fromEntries(Object.entries(process.env).filter(([name]) => name === 'NODE_COMPILE_CACHE'));

const SETTLE_MS = 1000;

/** The first frame, by blocking reads into a buffer that can be wiped. */
const readStart = (): { config: StartConfig; pin: Buffer } => {
  const input = Buffer.allocUnsafeSlow(MAX_FRAME_BYTES);
  let have = 0;
  try {
    for (;;) {
      const count = readSync(CONTROL_FD, input, have, input.length - have, null);
      if (count === 0) throw new Error('the agent closed the control channel');
      have += count;
      const end = frameEnd(input, 0, have);
      if (end === undefined || end > have) continue;
      const frame = frameAt(input, 0, end);
      if (frame.kind !== CONTROL.start.kind) throw new Error('the first frame is not the start');
      const [json, pin] = decodeFields(frame.body, CONTROL.start.fields) as [Buffer, Buffer];
      // Not of the PIN's own size: V8 keeps small buffers in its heap, where the collector moves them and leaves copies.
      const own = Buffer.alloc(PIN_BYTES).subarray(0, pin.length);
      pin.copy(own);
      return { config: parseStartConfig(json), pin: own };
    }
  } finally {
    input.fill(0);
  }
};

class TokenProcess {
  readonly #control: Socket;
  readonly #config: StartConfig;
  readonly #token: OpenToken;
  readonly #workers = new Map<number, Worker>();
  /** Starts come in groups; then there is nothing to do for a while. */
  readonly #settle = setTimeout(returnMemory, SETTLE_MS).unref();
  #stopping = false;

  constructor(control: Socket, config: StartConfig, token: OpenToken) {
    this.#control = control;
    this.#config = config;
    this.#token = token;
  }

  serve(): void {
    const reader = new FrameReader();
    this.#control.on('data', (chunk: Buffer) => reader.push(chunk, (frame) => this.#take(frame)));
    // The agent is gone. Workers may hang in the library, so there is no orderly way out.
    this.#control.on('close', () => {
      if (!this.#stopping) process.kill(process.pid, 'SIGKILL');
    });
    this.#send(CONTROL.ready.kind, [Buffer.from(JSON.stringify(this.#token.ready))]);
  }

  #send(kind: number, fields: readonly Buffer[]): void {
    this.#control.write(encodeFrame(0, kind, fields));
  }

  #take(frame: Frame): void {
    if (frame.kind === CONTROL.session.kind) {
      this.#startSession(readU32(decodeFields(frame.body, CONTROL.session.fields)[0] as Buffer));
    } else if (frame.kind === CONTROL.stop.kind) {
      this.#stopping = true;
      this.#stopWhenIdle();
    } else throw new Error(`no control frame is of kind ${frame.kind}`);
  }

  #startSession(index: number): void {
    const { module: _, ...token } = this.#token;
    const data: WorkerData = {
      fd: SESSION_FD + index,
      library: this.#config.library,
      slot: token.slot,
      loginSession: token.loginSession,
      withheld: withheldNumbers(this.#config.disabledMechanisms),
      profile: token.profile,
      oaep: token.oaep,
      gcmIv: token.gcmIv,
    };
    const worker = new Worker(new URL('./worker.ts', import.meta.url), { workerData: data, env: WORKER_ENV });
    this.#workers.set(index, worker);
    worker.once('online', () => this.#settle.refresh());
    let why = 'the worker ended';
    worker.on('error', (error: Error) => {
      why = error.message;
    });
    worker.on('exit', (code) => {
      this.#workers.delete(index);
      if (this.#stopping) this.#stopWhenIdle();
      else if (code === 0) this.#send(CONTROL.sessionEnded.kind, [u32(index)]);
      else this.#send(CONTROL.sessionFailed.kind, [u32(index), Buffer.from(shortened(why, 300))]);
    });
  }

  /** The agent has closed the channels, so each worker ends when its last call is answered and its session closed. */
  #stopWhenIdle(): void {
    if (this.#workers.size > 0) return;
    const { module, loginSession } = this.#token;
    module.logout(loginSession);
    module.closeSession(loginSession);
    module.finalize();
    this.#control.end(() => process.exit(0));
  }
}

const main = (): void => {
  try {
    harden();
  } catch (thrown) {
    console.error(`the token process could not be hardened: ${thrown instanceof Error ? thrown.message : thrown}`);
  }
  const { config, pin } = readStart();
  try {
    const token = openToken(config, pin);
    const control = new Socket({ fd: CONTROL_FD, readable: true, writable: true });
    new TokenProcess(control, config, token).serve();
  } catch (thrown) {
    if (!(thrown instanceof TokenStartError)) throw thrown;
    const { reason } = thrown;
    const detail = thrown.message.slice(0, -thrown.advice.length - 2);
    const control = new Socket({ fd: CONTROL_FD, readable: true, writable: true });
    control.end(encodeFrame(0, CONTROL.failed.kind, [Buffer.from(JSON.stringify({ reason, detail }))]), () => {
      process.exit(1);
    });
  }
};

main();
