// The agent's end of one session's channel. Questions of a turn of the event loop leave in one write; answers come in
// the order of the questions. Invariant: anything else on the wire means that the process is broken.
import type { Duplex } from 'node:stream';
import { AgentError, type Code } from '../errors.ts';
import type { PendingCall } from './pending-call.ts';
import {
  decodeFields,
  type Frame,
  FrameReader,
  frameBytes,
  nextId,
  ProtocolError,
  readU32,
  u32,
  writeFrame,
} from './protocol.ts';
import {
  FAILED_FIELDS,
  FAILED_KIND,
  FAILURE_CODES,
  FORGET_KIND,
  HOLD_KIND,
  LEAVE_KIND,
  OK_KIND,
  READY_KIND,
  TIMES_BYTES,
} from './requests.ts';

export interface ChannelListener {
  ready(channel: Channel): void;
  /** A call was answered, well or badly; the channel has room. */
  answered(call: PendingCall, failure: Failure | undefined): void;
  /** The process sent what no sound process sends. */
  broken(error: Error): void;
}

export interface Failure {
  readonly error: AgentError;
  /** The library recovers only in a new process. */
  readonly restart: boolean;
}

interface InFlight {
  readonly id: number;
  readonly call: PendingCall;
}

/** The detail of a failure is for the log; the caller reads the table's text. */
const failureOf = (body: Buffer): Failure & { readonly micros: number } => {
  const [micros, code, detail, restart] = decodeFields(body, FAILED_FIELDS) as [Buffer, Buffer, Buffer, Buffer];
  const name = code.toString('latin1');
  if (!FAILURE_CODES.has(name)) throw new ProtocolError('a code that is not in the table');
  const cause = new Error(detail.toString('utf8'));
  return { error: new AgentError(name as Code, { cause }), restart: readU32(restart) === 1, micros: readU32(micros) };
};

/** A turn's questions, as a rule; a buffer of this size is used again, because making one costs as much as a call. */
const TURN_BYTES = 16 * 1024;
const EMPTY = Buffer.alloc(0);

export class Channel {
  readonly index: number;
  isReady = false;
  /** Takes no more calls until it is idle, because a creation waits for it. */
  isReserved = false;
  /** When it last had something to do, by `performance.now()`. */
  lastUsed = performance.now();
  /** Ticks of the hang check since the first call in flight became the first. */
  ticks = 0;
  readonly #socket: Duplex;
  readonly #listener: ChannelListener;
  readonly #reader = new FrameReader();
  readonly #inFlight: InFlight[] = [];
  /** Frames that wait for the end of the turn. */
  #unsent: Buffer = EMPTY;
  #unsentEnd = 0;
  #spare: Buffer | undefined;
  #lastId = 0;
  #holdMicros = 0;
  #isClosed = false;
  readonly #onData = (chunk: Buffer): void => this.#read(chunk);
  readonly #onError = (): void => {}; // the exit of the process tells the rest

  constructor({ index, socket, listener }: { index: number; socket: Duplex; listener: ChannelListener }) {
    this.index = index;
    this.#socket = socket;
    this.#listener = listener;
    socket.on('data', this.#onData);
    socket.on('error', this.#onError);
  }

  get depth(): number {
    return this.#inFlight.length;
  }
  get head(): PendingCall | undefined {
    return this.#inFlight[0]?.call;
  }
  get isCreating(): boolean {
    return this.head?.row.creates === true;
  }

  send(call: PendingCall): void {
    this.#lastId = nextId(this.#lastId);
    if (this.#inFlight.length === 0) this.ticks = 0;
    this.#inFlight.push({ id: this.#lastId, call });
    this.#write(this.#lastId, call.row.kind, call.fields);
  }

  /** For how long the worker may hold answers of this and later calls for company. */
  hold(micros: number): void {
    if (micros === this.#holdMicros) return;
    this.#holdMicros = micros;
    this.#write(0, HOLD_KIND, [u32(micros)]);
  }

  /** The object behind this CKA_ID is gone: its handle may come to mean another. */
  forget(tokenId: Buffer): void {
    if (this.isReady) this.#write(0, FORGET_KIND, [tokenId]);
  }

  /** The worker closes its session and ends; the channel may have another one after that. Nothing may be in flight. */
  leave(): void {
    this.#write(0, LEAVE_KIND, []);
    this.isReady = false;
    this.ticks = 0;
  }

  /** The worker closes its session when it has read everything. */
  end(): void {
    this.#isClosed = true;
    this.#socket.end();
  }

  /** Lets the socket go to another channel, once the worker has left. */
  release(): void {
    this.#isClosed = true;
    this.#socket.off('data', this.#onData);
    this.#socket.off('error', this.#onError);
  }

  /** Gives up the calls in flight, for when the process or the worker is gone. */
  abandon(): PendingCall[] {
    this.#isClosed = true;
    this.#reader.wipe();
    return this.#inFlight.splice(0).map(({ call }) => call);
  }

  #write(id: number, kind: number, fields: readonly Buffer[]): void {
    if (this.#isClosed) return;
    if (this.#unsentEnd === 0) process.nextTick(() => this.#flush());
    this.#makeRoom(frameBytes(fields));
    this.#unsentEnd = writeFrame(this.#unsent, this.#unsentEnd, { id, kind, fields });
  }

  #makeRoom(bytes: number): void {
    const end = this.#unsentEnd;
    const full = this.#unsent;
    if (end + bytes <= full.length) return;
    const spare = this.#spare !== undefined && end + bytes <= this.#spare.length ? this.#spare : undefined;
    if (spare !== undefined) this.#spare = undefined;
    this.#unsent = spare ?? Buffer.allocUnsafeSlow(Math.max(TURN_BYTES, 2 * end, end + bytes));
    full.copy(this.#unsent, 0, 0, end);
    full.fill(0, 0, end);
  }

  #flush(): void {
    const bytes = this.#unsent.subarray(0, this.#unsentEnd);
    const kept = this.#unsent.length === TURN_BYTES ? this.#unsent : undefined;
    this.#unsent = EMPTY;
    this.#unsentEnd = 0;
    const wipe = (): void => {
      bytes.fill(0); // questions may hold plaintext
      this.#spare ??= kept;
    };
    if (this.#isClosed) wipe();
    else this.#socket.write(bytes, wipe);
  }

  #read(chunk: Buffer): void {
    try {
      this.#reader.push(chunk, (frame) => this.#take(frame));
    } catch (thrown) {
      this.#listener.broken(thrown instanceof Error ? thrown : new ProtocolError(String(thrown)));
    }
  }

  #take(frame: Frame): void {
    if (this.#isClosed && this.#inFlight.length === 0) return;
    if (!this.isReady) {
      if (frame.kind !== READY_KIND) throw new ProtocolError('an answer before the session was ready');
      this.isReady = true;
      this.ticks = 0;
      this.#listener.ready(this);
      return;
    }
    const first = this.#inFlight[0];
    if (first === undefined || frame.id !== first.id) throw new ProtocolError('an answer to no question');
    const { call } = first;
    if (frame.kind === OK_KIND) {
      const [times, ...fields] = decodeFields(frame.body, [TIMES_BYTES, ...call.row.answer]) as [Buffer, ...Buffer[]];
      if (times.length !== TIMES_BYTES) throw new ProtocolError('an answer without its times');
      call.serviceMs = times.readUInt32LE(0) / 1000;
      call.computingMs = times.readUInt32LE(4) / 1000;
      call.starvedMs = times.readUInt32LE(8) / 1000;
      const own = fields.map((field) => Buffer.from(field));
      this.#shift();
      call.resolve(own);
      this.#listener.answered(call, undefined);
    } else if (frame.kind === FAILED_KIND) {
      const failure = failureOf(frame.body);
      call.serviceMs = failure.micros / 1000;
      this.#shift();
      this.#listener.answered(call, failure);
    } else throw new ProtocolError(`an answer of kind ${frame.kind}`);
  }

  #shift(): void {
    this.#inFlight.shift();
    this.ticks = 0;
    if (this.#inFlight.length === 0) this.lastUsed = performance.now();
  }
}
