// The token protocol takes what it wrote and refuses everything else, whole, within its bounds and without a crash.
import assert from 'node:assert/strict';
import { Duplex } from 'node:stream';
import { test } from 'node:test';
import fc from 'fast-check';
import { AgentError } from '../../../agent/errors.ts';
import { Channel, type Failure } from '../../../agent/token/channel.ts';
import { PendingCall } from '../../../agent/token/pending-call.ts';
import {
  decodeFields,
  encodeFrame,
  type Frame,
  FrameReader,
  HEADER_BYTES,
  MAX_FRAME_BYTES,
  nextId,
  ProtocolError,
  readU32,
  u32,
} from '../../../agent/token/protocol.ts';
import { parsePublicJwk } from '../../../agent/token/public-jwk.ts';
import { FAILED_KIND, OK_KIND, READY_KIND, REQUEST_NAMES, request } from '../../../agent/token/requests.ts';
import { parseFailure, parseReady, parseStartConfig } from '../../../agent/token/start-message.ts';
import { callOf } from '../../contract/token.ts';

const TIMES = Buffer.concat([u32(5), u32(4), u32(1)]);

const copy = (frame: Frame): { id: number; kind: number; body: string } => ({
  ...frame,
  body: frame.body.toString('hex'),
});
const bytes = fc.uint8Array({ maxLength: 300 }).map((array) => Buffer.from(array));

test('frames come out as they went in, however the stream is cut', () => {
  const frame = fc.record({ id: fc.nat(), kind: fc.nat(255), fields: fc.array(bytes, { maxLength: 4 }) });
  fc.assert(
    fc.property(
      fc.array(frame, { minLength: 1, maxLength: 8 }),
      fc.array(fc.nat(200), { maxLength: 50 }),
      (frames, cuts) => {
        const stream = Buffer.concat(frames.map(({ id, kind, fields }) => encodeFrame(id, kind, fields)));
        const expected = frames.map(({ id, kind, fields }) =>
          copy({ id, kind, body: encodeFrame(id, kind, fields).subarray(HEADER_BYTES) }),
        );
        const reader = new FrameReader();
        const seen: object[] = [];
        let at = 0;
        for (const cut of [...cuts, stream.length]) {
          reader.push(Buffer.from(stream.subarray(at, at + cut)), (one) => seen.push(copy(one)));
          at += cut;
        }
        assert.deepEqual(seen, expected);
        assert.equal(reader.heldBytes, 0);
      },
    ),
    { numRuns: 200 },
  );
});

test('fields are split exactly: no more, no fewer, none over its limit', () => {
  fc.assert(
    fc.property(fc.array(bytes, { maxLength: 5 }), (fields) => {
      const body = encodeFrame(1, 1, fields).subarray(HEADER_BYTES);
      const limits = fields.map((field) => field.length);
      assert.deepEqual(
        decodeFields(body, limits).map((field) => Buffer.from(field)),
        fields,
      );
      assert.throws(() => decodeFields(body, [...limits, 0]), ProtocolError);
      if (fields.length > 0) {
        assert.throws(() => decodeFields(body, limits.slice(1)), ProtocolError);
        if ((limits[0] as number) > 0) {
          assert.throws(() => decodeFields(body, [(limits[0] as number) - 1, ...limits.slice(1)]), ProtocolError);
        }
        assert.throws(() => decodeFields(body.subarray(0, body.length - 1), limits), ProtocolError);
      }
    }),
    { numRuns: 200 },
  );
});

test('any bytes are frames or a ProtocolError, and no more is held than one frame', () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 64 }), { maxLength: 20 }), (chunks) => {
      const reader = new FrameReader();
      try {
        for (const chunk of chunks)
          reader.push(Buffer.from(chunk), (frame) => assert.ok(frame.body.length <= MAX_FRAME_BYTES));
      } catch (thrown) {
        assert.ok(thrown instanceof ProtocolError);
      }
      assert.ok(reader.heldBytes <= MAX_FRAME_BYTES + 4);
    }),
    { numRuns: 500 },
  );
});

test('a length over the limit is refused before anything is held for it', () => {
  for (const length of [MAX_FRAME_BYTES + 1, 0xffff_ffff, 0, 4]) {
    const reader = new FrameReader();
    assert.throws(() => reader.push(Buffer.concat([u32(length), Buffer.alloc(20)]), () => {}), ProtocolError);
  }
  assert.throws(() => encodeFrame(1, 1, [Buffer.alloc(MAX_FRAME_BYTES)]), ProtocolError);
});

test('what was read is wiped', () => {
  const chunk = encodeFrame(1, 1, [Buffer.from('secret')]);
  const reader = new FrameReader();
  const first = Buffer.from(chunk.subarray(0, 12));
  const second = Buffer.from(chunk.subarray(12));
  let count = 0;
  reader.push(first, () => {
    count += 1;
  });
  reader.push(second, (frame) => {
    assert.ok(frame.body.includes('secret'));
    count += 1;
  });
  assert.equal(count, 1);
  assert.ok(first.every((byte) => byte === 0) && second.every((byte) => byte === 0));
});

test('numbers are four bytes, and ids go round', () => {
  assert.equal(readU32(u32(0xffff_ffff)), 0xffff_ffff);
  assert.throws(() => readU32(Buffer.alloc(3)), ProtocolError);
  assert.equal(nextId(0xffff_ffff), 1);
  assert.equal(nextId(7), 8);
});

test('every request has a kind of its own, and its fields fit a frame', () => {
  assert.equal(new Set(REQUEST_NAMES.map((name) => request(name).kind)).size, REQUEST_NAMES.length);
  for (const name of REQUEST_NAMES) {
    const { creates, repeatable } = request(name);
    assert.equal(repeatable, !creates, `${name}: what makes or destroys objects is not repeated, all else is`);
  }
});

/** A channel whose other end is in the hands of the test. */
const rogueChannel = (): {
  channel: Channel;
  say(data: Buffer): void;
  readonly broken: Error[];
  readonly answered: (Failure | undefined)[];
} => {
  const socket = new Duplex({ read: () => {}, write: (_chunk, _encoding, done) => done() });
  const broken: Error[] = [];
  const answered: (Failure | undefined)[] = [];
  const channel = new Channel({
    index: 0,
    socket,
    listener: {
      ready: () => {},
      answered: (call, failure) => {
        answered.push(failure);
        if (failure !== undefined) call.reject(failure.error);
      },
      broken: (error) => broken.push(error),
    },
  });
  return { channel, say: (data) => socket.emit('data', Buffer.from(data)), broken, answered };
};
const ask = (channel: Channel, name: (typeof REQUEST_NAMES)[number] = 'random'): Promise<Buffer[] | AgentError> =>
  new Promise((resolve) => {
    const fields = request(name).fields.map(() => u32(1));
    const call = callOf();
    channel.send(
      new PendingCall({ name, fields, call, waitUntil: call.deadline, resolve, reject: resolve, onSettled: () => {} }),
    );
  });

test('answers are taken in order, good and bad', async () => {
  const { channel, say, broken } = rogueChannel();
  say(encodeFrame(0, READY_KIND, []));
  const [one, two] = [ask(channel), ask(channel)];
  say(encodeFrame(1, OK_KIND, [TIMES, Buffer.from('ok')]));
  const text = Buffer.from('C_GenerateRandom: CKR_RANDOM_NO_RNG');
  say(encodeFrame(2, FAILED_KIND, [u32(5), Buffer.from('HSM_UNSUPPORTED'), text, u32(0)]));
  assert.deepEqual(await one, [Buffer.from('ok')]);
  const failed = await two;
  assert.ok(failed instanceof AgentError);
  assert.equal(failed.code, 'HSM_UNSUPPORTED');
  assert.ok(!failed.message.includes('CKR'), 'the detail must not be in the public message');
  assert.deepEqual(broken, []);
});

const nonsense: readonly [string, Buffer][] = [
  ['an answer to no question', encodeFrame(9, OK_KIND, [TIMES, Buffer.alloc(1)])],
  ['an answer of an unknown kind', encodeFrame(1, 77, [])],
  ['a second greeting', encodeFrame(0, READY_KIND, [])],
  ['an answer with too few fields', encodeFrame(1, OK_KIND, [TIMES])],
  ['an answer without all of its times', encodeFrame(1, OK_KIND, [TIMES.subarray(4), Buffer.alloc(1)])],
  ['an answer with too many fields', encodeFrame(1, OK_KIND, [TIMES, Buffer.alloc(1), Buffer.alloc(1)])],
  ['an answer over its limit', encodeFrame(1, OK_KIND, [TIMES, Buffer.alloc(64 * 1024 + 1)])],
  [
    'a failure with a code of another room',
    encodeFrame(1, FAILED_KIND, [u32(5), Buffer.from('POLICY_DENIED'), u32(0), u32(0)]),
  ],
  [
    'a failure with a code that does not exist',
    encodeFrame(1, FAILED_KIND, [u32(5), Buffer.from('__proto__'), u32(0), u32(0)]),
  ],
];
for (const [what, frame] of nonsense) {
  test(`${what} shows a broken process`, () => {
    const { channel, say, broken, answered } = rogueChannel();
    say(encodeFrame(0, READY_KIND, []));
    void ask(channel);
    say(frame);
    assert.equal(broken.length, 1);
    assert.ok(broken[0] instanceof ProtocolError, String(broken[0]));
    assert.equal(answered.length, 0);
    assert.equal(channel.abandon().length, 1, 'the call must still be there to be repeated');
  });
}

test('an answer before the greeting shows a broken process', () => {
  const { say, broken } = rogueChannel();
  say(encodeFrame(1, OK_KIND, [TIMES]));
  assert.equal(broken.length, 1);
});

test('a process that says anything at all never crashes the agent', () => {
  const fields = fc.array(bytes, { maxLength: 5 });
  const frame = fc.record({ id: fc.nat(4), kind: fc.nat(4), fields });
  fc.assert(
    fc.property(fc.constantFrom(...REQUEST_NAMES), fc.array(frame, { maxLength: 6 }), (name, frames) => {
      const { channel, say, broken } = rogueChannel();
      say(encodeFrame(0, READY_KIND, []));
      void ask(channel, name);
      for (const { id, kind, fields: of } of frames) say(encodeFrame(id, kind, of));
      for (const error of broken) assert.ok(error instanceof ProtocolError, String(error));
    }),
    { numRuns: 500 },
  );
});

test('the JSON of the control channel and public keys are plain data or refused', () => {
  const anything = fc.oneof(
    fc.json().map((text) => Buffer.from(text)),
    bytes,
  );
  fc.assert(
    fc.property(anything, (input) => {
      for (const parse of [parseReady, parseFailure, parseStartConfig, parsePublicJwk]) {
        try {
          parse(input);
        } catch (thrown) {
          assert.ok(thrown instanceof ProtocolError, `${parse.name}: ${thrown}`);
        }
      }
    }),
    { numRuns: 500 },
  );
  const parsed = parsePublicJwk(
    Buffer.from('{"kty":"OKP","crv":"Ed25519","x":"AA","d":"private","__proto__":{"a":"b"}}'),
  );
  assert.deepEqual(parsed, { kty: 'OKP', crv: 'Ed25519', x: 'AA' });
  for (const bad of [
    '{"kty":"toString"}',
    '{"kty":"EC","crv":"P-256","x":"!","y":"AA"}',
    '{"kty":"RSA","n":5,"e":"AQAB"}',
  ]) {
    assert.throws(() => parsePublicJwk(Buffer.from(bad)), ProtocolError);
  }
});
