// A worker thread: one session, one channel, read by blocking calls without an event loop. Invariant: questions are
// answered in order, one at a time, and a session that failed is closed here, where nothing can be running on it.
import { readSync, writeSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import koffi from 'koffi';
import { CKR, ckrRow, codeOf } from '../ckr.ts';
import type { GcmIv, Profile } from '../profiles/profile.ts';
import {
  decodeFields,
  type Frame,
  frameAt,
  frameBytes,
  frameEnd,
  MAX_FRAME_BYTES,
  readU32,
  u32,
  writeFrame,
} from '../protocol.ts';
import {
  FAILED_KIND,
  FORGET_FIELDS,
  FORGET_KIND,
  HOLD_FIELDS,
  HOLD_KIND,
  LEAVE_KIND,
  OK_KIND,
  READY_KIND,
  REQUEST_NAMES,
  type RequestName,
  request,
  TIMES_BYTES,
} from '../requests.ts';
import { shortened } from '../start-message.ts';
import { Computing } from './computing.ts';
import { ForbiddenMechanism } from './mechanisms.ts';
import { Pkcs11Failure, Pkcs11Module } from './module.ts';
import { KeyObjects } from './objects.ts';
import { perform } from './perform.ts';
import type { Performer } from './performer.ts';
import { Refusal } from './refusal.ts';

/** What the main thread gives a worker. */
export interface WorkerData {
  readonly fd: number;
  readonly library: string;
  readonly slot: Uint8Array;
  /** The session that keeps the login. */
  readonly loginSession: Uint8Array;
  readonly withheld: ReadonlySet<number>;
  readonly profile: Profile;
  readonly oaep: 'native' | 'raw';
  readonly gcmIv: GcmIv;
  readonly kwp: string;
}

const HOLD_ANSWERS = 8; // a part of the depth, so that the worker is not idle while the agent reads them
const INPUT_BYTES = 64 * 1024;
const POLLIN = 1;

const BY_KIND = new Map(REQUEST_NAMES.map((name) => [request(name).kind, name]));

class SessionLoop {
  readonly #data: WorkerData;
  readonly #module: Pkcs11Module;
  readonly #keys = new KeyObjects();
  readonly #computing = new Computing();
  readonly #scratch = Buffer.allocUnsafeSlow(72 * 1024);
  readonly #poll: (fds: Buffer, count: number, timeoutMs: number) => number;
  readonly #pollFd = Buffer.alloc(8);
  readonly #times = Buffer.alloc(TIMES_BYTES);
  #session: Buffer | undefined;
  #input = Buffer.allocUnsafeSlow(INPUT_BYTES);
  #reply = Buffer.allocUnsafeSlow(128 * 1024);
  #replyEnd = 0;
  #held = 0;
  #heldSince = 0;
  /** How long a finished answer may wait for company, as the agent says. */
  #holdMs = 0;
  #leaving = false;

  constructor(data: WorkerData) {
    this.#data = data;
    this.#module = new Pkcs11Module({ path: data.library, withheld: data.withheld });
    this.#poll = koffi.load('libc.so.6').func('int poll(uint8_t *fds, ulong count, int timeout)');
    this.#pollFd.writeInt32LE(data.fd, 0);
    this.#pollFd.writeInt16LE(POLLIN, 4);
  }

  /** Reads until the agent closes the channel, or says to leave. */
  run(): void {
    this.#session = this.#module.openSession(Buffer.from(this.#data.slot));
    try {
      this.#read();
    } finally {
      for (const buffer of [this.#input, this.#reply, this.#scratch]) buffer.fill(0);
      this.#dropSession(); // also where this thread ends by an exception: the process may go on without it
    }
  }

  #read(): void {
    this.#answer({ id: 0, kind: READY_KIND, fields: [] });
    this.#flush();
    let have = 0;
    while (!this.#leaving) {
      const input = this.#input;
      const count = readSync(this.#data.fd, input, have, input.length - have, null);
      if (count === 0) break;
      have += count;
      let at = 0;
      let end = frameEnd(input, at, have);
      while (end !== undefined && end <= have) {
        this.#take(frameAt(input, at, end));
        at = end;
        end = frameEnd(input, at, have);
      }
      if (this.#replyEnd > 0 && !this.#moreIsWaiting()) this.#flush();
      input.copyWithin(0, at, have);
      input.fill(0, have - at, have); // questions hold plaintext
      have -= at;
      if (end !== undefined && end - at > input.length) {
        const larger = Buffer.allocUnsafeSlow(MAX_FRAME_BYTES + 4);
        input.copy(larger, 0, 0, have);
        input.fill(0);
        this.#input = larger;
      }
    }
    this.#flush();
  }

  #moreIsWaiting(): boolean {
    if (this.#isHeldForLong()) return false;
    return this.#poll(this.#pollFd, 1, 0) === 1;
  }

  #isHeldForLong(): boolean {
    return performance.now() - this.#heldSince >= this.#holdMs;
  }

  #take(frame: Frame): void {
    if (this.#held === 0) this.#heldSince = performance.now();
    if (frame.kind === FORGET_KIND) {
      this.#keys.forget((decodeFields(frame.body, FORGET_FIELDS)[0] as Buffer).toString('hex'));
      return;
    }
    if (frame.kind === HOLD_KIND) {
      this.#holdMs = readU32(decodeFields(frame.body, HOLD_FIELDS)[0] as Buffer) / 1000;
      return;
    }
    if (frame.kind === LEAVE_KIND) {
      this.#leaving = true;
      return;
    }
    const name = BY_KIND.get(frame.kind);
    if (name === undefined) throw new Error(`no request is of kind ${frame.kind}`);
    const startedAt = performance.now();
    const micros = (): number => Math.min(0xffff_ffff, Math.round((performance.now() - startedAt) * 1000));
    try {
      const fields = this.#perform(name, decodeFields(frame.body, request(name).fields));
      this.#answer({ id: frame.id, kind: OK_KIND, fields: [this.#timesOf(micros()), ...fields] });
      for (const field of fields) field.fill(0);
    } catch (thrown) {
      this.#scratch.fill(0); // a module may have written before it failed
      this.#answer({ id: frame.id, kind: FAILED_KIND, fields: [u32(micros()), ...this.#failure(thrown)] });
    }
    if (this.#held >= HOLD_ANSWERS || this.#isHeldForLong()) this.#flush();
  }

  #timesOf(micros: number): Buffer {
    const { computed, starved } = this.#computing.of(micros);
    const times = this.#times;
    times.writeUInt32LE(starved, times.writeUInt32LE(computed, times.writeUInt32LE(micros, 0)));
    return times;
  }

  /** Once more on a new session where the library lost the old one before it did anything. */
  #perform(name: RequestName, fields: readonly Buffer[]): readonly Buffer[] {
    // These take what is not found for what is not there.
    if ((name === 'find' || name === 'destroy') && this.#isLoginLost()) {
      throw new Pkcs11Failure(CKR.USER_NOT_LOGGED_IN, 'C_GetSessionInfo');
    }
    try {
      return perform(this.#performer(), name, fields);
    } catch (thrown) {
      const lost =
        thrown instanceof Pkcs11Failure &&
        (thrown.ckr === CKR.SESSION_HANDLE_INVALID || thrown.ckr === CKR.SESSION_CLOSED);
      if (!lost || !request(name).repeatable) throw thrown;
      this.#dropSession();
      return perform(this.#performer(), name, fields);
    }
  }

  #performer(): Performer {
    this.#session ??= this.#module.openSession(Buffer.from(this.#data.slot));
    const { profile, oaep, gcmIv, kwp } = this.#data;
    const session = { module: this.#module, handle: this.#session };
    return { session, keys: this.#keys, profile, oaep, gcmIv, kwp, scratch: this.#scratch };
  }

  /** The fields of a failed answer after its time; the session is dropped where the table says so. */
  #failure(thrown: unknown): Buffer[] {
    const text = (value: string): Buffer => Buffer.from(shortened(value, 300));
    if (thrown instanceof Pkcs11Failure) {
      const row = ckrRow(thrown.ckr);
      if (row.session === 'close') this.#dropSession();
      // A library that lost all may say so by the words for one session, and heal by C_Initialize alone.
      const isAllLost = thrown.method === 'C_OpenSession' && this.#isLoginLost();
      const restart = row.session === 'login' || row.session === 'restart' || isAllLost;
      return [Buffer.from(codeOf(thrown.ckr, thrown.method)), text(thrown.message), u32(restart ? 1 : 0)];
    }
    if (thrown instanceof Refusal) {
      const isLost = thrown.code === 'HSM_UNAVAILABLE' && this.#isLoginLost();
      return [Buffer.from(thrown.code), text(thrown.message), u32(isLost ? 1 : 0)];
    }
    if (thrown instanceof ForbiddenMechanism) return [Buffer.from('ALGORITHM_FORBIDDEN'), text(thrown.message), u32(0)];
    this.#dropSession(); // nobody knows what state this is
    return [Buffer.from('INTERNAL'), text(thrown instanceof Error ? thrown.message : String(thrown)), u32(0)];
  }

  /** To a session without login private objects do not exist: a token that dropped the login finds nothing, without an error. */
  #isLoginLost(): boolean {
    try {
      return !this.#module.isLoggedIn(Buffer.from(this.#data.loginSession));
    } catch (thrown) {
      if (!(thrown instanceof Pkcs11Failure)) throw thrown;
      return true;
    }
  }

  #dropSession(): void {
    const session = this.#session;
    this.#session = undefined;
    this.#keys.clear();
    if (session === undefined) return;
    try {
      this.#module.closeSession(session);
    } catch (thrown) {
      if (!(thrown instanceof Pkcs11Failure)) throw thrown; // a session that the library lost cannot be closed
    }
  }

  #answer(frame: { id: number; kind: number; fields: readonly Buffer[] }): void {
    const bytes = frameBytes(frame.fields);
    if (this.#replyEnd + bytes > this.#reply.length) {
      this.#flush();
      if (bytes > this.#reply.length) this.#reply = Buffer.allocUnsafeSlow(MAX_FRAME_BYTES + 4);
    }
    this.#replyEnd = writeFrame(this.#reply, this.#replyEnd, frame);
    this.#held += 1;
  }

  #flush(): void {
    let at = 0;
    while (at < this.#replyEnd) at += writeSync(this.#data.fd, this.#reply, at, this.#replyEnd - at);
    this.#reply.fill(0, 0, this.#replyEnd); // answers hold plaintext and secrets
    this.#replyEnd = 0;
    this.#held = 0;
  }
}

if (parentPort !== null) new SessionLoop(workerData as WorkerData).run();
