// The token process: the only one that loads the vendor library. Once the agent had it find the token and log in, it starts a worker thread for each session that the agent asks
// for, and ends when told to or when the channel closes. Nothing secret is in its environment or arguments.
import { Socket } from 'node:net';
import { Worker } from 'node:worker_threads';
import { returnMemory } from '../../resident.ts';
import { decodeFields, encodeFrame, type Frame, FrameReader, readU32, u32 } from '../protocol.ts';
import { CONTROL, CONTROL_FD, SESSION_FD } from '../requests.ts';
import { type StartConfig, shortened } from '../start-message.ts';
import { shakeHands } from './handshake.ts';
import { harden } from './harden.ts';
import { type OpenToken, withheldNumbers } from './open.ts';
import type { WorkerData } from './worker.ts';

/** A worker needs nothing but the compiled code: with it, the stripper of types is not loaded once more, 17 MB. */
const WORKER_ENV = Object.fromEntries(Object.entries(process.env).filter(([name]) => name === 'NODE_COMPILE_CACHE'));

const SETTLE_MS = 1000;

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
      kwp: token.kwp,
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
  const started = shakeHands();
  if (started === undefined) process.exit();
  const control = new Socket({ fd: CONTROL_FD, readable: true, writable: true });
  new TokenProcess(control, started.config, started.token).serve();
};

main();
