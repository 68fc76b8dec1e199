// The control channel until the token is ready: the agent has it look for the token, as often as it is not there, and then
// gives the PIN. Invariant: frames are read by blocking reads, each whole and none ahead, into a buffer that is wiped.
import { readSync, writeSync } from 'node:fs';
import { decodeFields, encodeFrame, type Frame, frameAt, frameEnd, MAX_FRAME_BYTES } from '../protocol.ts';
import { CONTROL, CONTROL_FD } from '../requests.ts';
import { isAbsence, TokenStartError } from '../start-error.ts';
import { parseStartConfig, type StartConfig, shortened } from '../start-message.ts';
import { type FoundToken, type OpenToken, openToken, TokenFinder } from './open.ts';

const LENGTH_BYTES = 4;
const [PIN_BYTES] = CONTROL.logIn.fields;

const fill = (into: Buffer, from: number, to: number): void => {
  for (let have = from; have < to; ) {
    const count = readSync(CONTROL_FD, into, have, to - have, null);
    if (count === 0) throw new Error('the agent closed the control channel');
    have += count;
  }
};

/** The next frame; `take` gets views of a buffer that is wiped when it returns. */
const readFrame = <T>(take: (frame: Frame) => T): T => {
  const length = Buffer.alloc(LENGTH_BYTES);
  fill(length, 0, LENGTH_BYTES);
  const end = frameEnd(length, 0, LENGTH_BYTES) ?? MAX_FRAME_BYTES;
  // Never small: V8 keeps small buffers in its heap, where the collector moves them and leaves copies of a PIN.
  const input = Buffer.allocUnsafeSlow(Math.max(end, 2 * PIN_BYTES));
  try {
    length.copy(input);
    fill(input, LENGTH_BYTES, end);
    return take(frameAt(input, 0, end));
  } finally {
    input.fill(0);
  }
};

const send = (kind: number, fields: readonly Buffer[]): void => {
  const frame = encodeFrame(0, kind, fields);
  for (let at = 0; at < frame.length; ) at += writeSync(CONTROL_FD, frame, at, frame.length - at);
};

type Told = { readonly config: StartConfig } | { readonly pin: Buffer } | 'stop';

const told = (): Told =>
  readFrame((frame) => {
    if (frame.kind === CONTROL.stop.kind) return 'stop';
    if (frame.kind === CONTROL.find.kind) {
      return { config: parseStartConfig(decodeFields(frame.body, CONTROL.find.fields)[0] as Buffer) };
    }
    if (frame.kind !== CONTROL.logIn.kind) throw new Error(`a control frame of kind ${frame.kind} before the login`);
    const pin = decodeFields(frame.body, CONTROL.logIn.fields)[0] as Buffer;
    const own = Buffer.alloc(PIN_BYTES).subarray(0, pin.length); // nor is this small
    pin.copy(own);
    return { pin: own };
  });

/** Undefined where it was told to stop, or failed for another reason than that the token is not there. */
export const shakeHands = (): { readonly config: StartConfig; readonly token: OpenToken } | undefined => {
  const finder = new TokenFinder();
  let found: FoundToken | undefined;
  for (;;) {
    const what = told();
    if (what === 'stop') return undefined;
    try {
      if ('config' in what) {
        found = finder.find(what.config);
        send(CONTROL.found.kind, []);
      } else if (found !== undefined) return { config: found.config, token: openToken(found, what.pin) };
      else throw new Error('a PIN before the token was found');
    } catch (thrown) {
      if (!(thrown instanceof TokenStartError)) throw thrown;
      const { reason } = thrown;
      const detail = shortened(thrown.message.slice(0, -thrown.advice.length - 2)); // may name each token there is
      send(CONTROL.failed.kind, [Buffer.from(JSON.stringify({ reason, detail }))]);
      if (found === undefined && isAbsence(reason)) continue;
      process.exitCode = 1;
      return undefined;
    }
  }
};
