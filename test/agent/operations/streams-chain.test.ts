// What the chain promises of a stream: records at both ends before anything that depends on them, one use, one share of
// the tenant, a fresh opening, and an end that is known.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { beforeEach, describe, test } from 'node:test';
import { AgentError, type Code } from '../../../agent/errors.ts';
import { decryptStream } from '../../../agent/operations/streams/decrypt-stream.ts';
import { type EncryptStreamOpening, encryptStream } from '../../../agent/operations/streams/encrypt-stream.ts';
import { FakeToken } from '../../fakes/token.ts';
import { aCall, CryptoWorld } from './crypto-world.ts';
import { collect, fresh, type Message, StreamsWorld, sent } from './streams-world.ts';

const none = Buffer.alloc(0);
const token = new FakeToken();
let world: CryptoWorld;
let streams: StreamsWorld;

const opening = (change: Partial<EncryptStreamOpening> = {}): EncryptStreamOpening => ({
  freshness: fresh(),
  key: 'vault',
  associatedData: none,
  ...change,
});
const code =
  (expected: Code, about = /./) =>
  (thrown: unknown) => {
    assert.ok(thrown instanceof AgentError, String(thrown));
    assert.equal(thrown.code, expected, thrown.message);
    assert.match(thrown.message, about);
    return true;
  };
const outcomes = (): string[] => world.records.map(({ outcome }) => outcome);
const run = (messages: Iterable<Message<EncryptStreamOpening>>, call = aCall()) =>
  collect(streams.run(encryptStream, messages, call));

beforeEach(async () => {
  world = new CryptoWorld(token);
  await world.add({ keyId: 'vault', algorithm: 'AES-256', purpose: 'encrypt' });
  streams = new StreamsWorld(world);
});

describe('records', () => {
  const plaintext = randomBytes(40_000);

  /** Holds each append back until the test lets it go. */
  const holdAppends = () => {
    const held: { outcome: string; go(): void; fail(): void }[] = [];
    const append = streams.ports.audit.append;
    const audit = {
      append: async (event: Parameters<typeof append>[0]) => {
        const gate = Promise.withResolvers<void>();
        held.push({ outcome: event.outcome, go: gate.resolve, fail: () => gate.reject(new Error('disk full')) });
        await gate.promise;
        return append(event);
      },
    };
    streams.ports = { ...streams.ports, audit };
    return held;
  };
  /** Whether a promise has settled after everything that can run has run. */
  const isSettled = async (promise: Promise<unknown>): Promise<boolean> => {
    let settled = false;
    promise.then(
      () => (settled = true),
      () => (settled = true),
    );
    for (let turn = 0; turn < 20; turn += 1) await new Promise(setImmediate);
    return settled;
  };

  test('nothing leaves before the record of the beginning, nor the last piece before that of the end', async () => {
    const held = holdAppends();
    const outputs = streams.run(encryptStream, sent(opening(), plaintext, 16_384));
    const begun = outputs.next();
    assert.equal(await isSettled(begun), false);
    assert.deepEqual(
      held.map(({ outcome }) => outcome),
      ['intent'],
    );
    held[0]?.go();
    assert.ok('begun' in ((await begun).value as object));
    const pieces: Buffer[] = [];
    let next = outputs.next();
    while (await isSettled(next)) {
      const { value } = await next;
      assert.ok(value !== undefined && 'data' in value);
      pieces.push(...value.data);
      next = outputs.next();
    }
    // Header, prefix and the two full chunks are out, the one that makes it whole is not.
    assert.equal(Buffer.concat(pieces).length, 4096 + 56 + 2 * 16_400);
    assert.deepEqual(
      held.map(({ outcome }) => outcome),
      ['intent', 'ok'],
    );
    held[1]?.go();
    const last = await next;
    assert.ok(last.value !== undefined && 'data' in last.value);
    assert.ok('done' in ((await outputs.next()).value as object));
    assert.equal((await outputs.next()).done, true);
  });

  test('a beginning that cannot be recorded gives nothing out', async () => {
    const held = holdAppends();
    const next = streams.run(encryptStream, sent(opening(), plaintext)).next();
    await isSettled(next);
    held[0]?.fail();
    await isSettled(next);
    held[1]?.fail(); // that of the refusal
    await assert.rejects(next, code('AUDIT_UNAVAILABLE'));
  });

  test('an end that cannot be recorded leaves the ciphertext without its last chunk', async () => {
    const held = holdAppends();
    const whole = collect(streams.run(encryptStream, sent(opening(), plaintext)));
    await isSettled(whole);
    held[0]?.go();
    await isSettled(whole);
    held[1]?.fail();
    await assert.rejects(whole, code('AUDIT_UNAVAILABLE'));
    assert.deepEqual(outcomes(), ['intent']);
  });

  test('where policy lets decryption go on unrecorded, it does, and says so once', async () => {
    const { data } = await streams.encrypt(plaintext, { key: 'vault' });
    const audit = { append: () => Promise.reject(new Error('disk full')) };
    const policy = { ...streams.ports.policy, whenAuditUnavailable: () => 'process-only' as const };
    streams.ports = { ...streams.ports, audit, policy };
    const opened = await streams.decrypt(data);
    assert.ok(opened.data.equals(plaintext));
    assert.deepEqual(
      opened.begun?.begun.warnings.map((row) => row.code),
      ['AUDIT_SUSPENDED'],
    );
    await assert.rejects(streams.encrypt(plaintext, { key: 'vault' }), code('AUDIT_UNAVAILABLE'));
  });

  test('a reader that stops half-way leaves a record of how far it came, and its share', async () => {
    for (let turn = 0; turn < 3; turn += 1) {
      const outputs = streams.run(encryptStream, sent(opening(), plaintext, 16_384));
      await outputs.next();
      await outputs.next();
      await assert.rejects(outputs.return(), code('CANCELLED'));
    }
    assert.deepEqual(outcomes(), ['intent', 'CANCELLED', 'intent', 'CANCELLED', 'intent', 'CANCELLED']);
    assert.equal(world.lastRecord.detail?.['bytesSent'], 4096 + 56);
    await run(sent(opening(), plaintext));
  });

  test('a call that is aborted while it waits for data ends with the reason, and is recorded', async () => {
    const abort = new AbortController();
    async function* silent(): AsyncGenerator<Message<EncryptStreamOpening>> {
      yield { opening: opening() };
      yield { data: plaintext };
      await new Promise(() => undefined);
    }
    const outputs = streams.run(encryptStream, silent(), aCall('acme', { signal: abort.signal }));
    for (let count = 0; count < 3; count += 1) await outputs.next();
    const waiting = outputs.next();
    abort.abort(new AgentError('SHUTTING_DOWN'));
    await assert.rejects(waiting, code('SHUTTING_DOWN'));
    assert.deepEqual(outcomes(), ['intent', 'SHUTTING_DOWN']);
    assert.equal(world.lastRecord.detail?.['bytesReceived'], plaintext.length);
  });

  test('is one use of the key, whatever its size', async () => {
    await streams.encrypt(randomBytes(500_000), { key: 'vault' });
    assert.equal(world.uses, 1);
  });
});

describe('openings', () => {
  test('are asked for once, with tenant and principal', async () => {
    const freshness = fresh();
    await run(sent(opening({ freshness }), none));
    assert.deepEqual(streams.openings, [{ tenant: 'acme', principal: 'app', ...freshness }]);
  });

  test('that are refused reach no key, and are recorded', async () => {
    const openings = { take: () => Promise.reject(new AgentError('OPENING_REFUSED')) };
    streams.ports = { ...streams.ports, openings };
    await assert.rejects(run(sent(opening(), none)), code('OPENING_REFUSED'));
    assert.deepEqual(outcomes(), ['OPENING_REFUSED']);
    assert.equal(world.uses, 0);
  });

  test('without a nonce of 16 to 64 bytes and a time are no openings', async () => {
    const wrong = [
      undefined,
      { nonce: randomBytes(15), timestamp: Date.now() },
      { nonce: randomBytes(65), timestamp: Date.now() },
      { nonce: randomBytes(16), timestamp: undefined },
    ];
    for (const freshness of wrong) {
      await assert.rejects(run(sent(opening({ freshness }), none)), code('INVALID_REQUEST'));
    }
    assert.equal(streams.openings.length, 0);
    assert.equal(world.records.length, wrong.length);
  });
});

describe('what a client may send', () => {
  const data = randomBytes(1000);
  const CASES: readonly [title: string, messages: Message<EncryptStreamOpening>[], code: Code, about: RegExp][] = [
    ['nothing', [], 'INVALID_REQUEST', /opening/],
    ['data before the opening', [{ data }], 'INVALID_REQUEST', /opening/],
    ['a message of no kind', [undefined], 'INVALID_REQUEST', /part/],
    ['two openings', [{ opening: opening() }, { opening: opening() }], 'INVALID_REQUEST', /only the first/],
    ['no end', [{ opening: opening() }, { data }], 'INVALID_REQUEST', /end: the stream ended without it/],
    ['an end of other bytes', [{ opening: opening() }, { data }, { end: 999 }], 'INVALID_REQUEST', /1000 bytes/],
    ['an end that is no number', [{ opening: opening() }, { end: Number.NaN }], 'INVALID_REQUEST', /end/],
    ['empty data', [{ opening: opening() }, { data: none }], 'INVALID_REQUEST', /at least 1 byte/],
    ['a message too large', [{ opening: opening() }, { data: Buffer.alloc(256 * 1024 + 1) }], 'TOO_LARGE', /262144/],
  ];
  for (const [title, messages, expected, about] of CASES) {
    test(`${title}: ${expected}, recorded`, async () => {
      await assert.rejects(run(messages), code(expected, about));
      assert.equal(outcomes().at(-1), expected);
      await run(sent(opening(), data)); // its share was given back
    });
  }

  test('more bytes than a stream may have', async () => {
    streams.ports = { ...streams.ports, streamLimits: { maxBytes: 1500, idleMs: 60_000 } };
    await assert.rejects(run(sent(opening(), randomBytes(1501), 1000)), code('TOO_LARGE', /1500/));
    await run(sent(opening(), randomBytes(1500), 1000));
  });

  test('nothing for too long', async () => {
    streams.ports = { ...streams.ports, streamLimits: { maxBytes: 1500, idleMs: 20 } };
    async function* silent(): AsyncGenerator<Message<EncryptStreamOpening>> {
      yield { opening: opening() };
      await new Promise(() => undefined);
    }
    await assert.rejects(collect(streams.run(encryptStream, silent())), code('DEADLINE_EXCEEDED', /nothing has come/));
    assert.deepEqual(outcomes(), ['intent', 'DEADLINE_EXCEEDED']);
  });

  test('more streams at once than the share of the tenant; another tenant has its own', async () => {
    await world.add({ keyId: 'vault', algorithm: 'AES-256', purpose: 'encrypt', tenant: 'globex' });
    const open = [0, 1].map(() => streams.run(encryptStream, sent(opening(), data)));
    for (const outputs of open) await outputs.next();
    await assert.rejects(run(sent(opening(), data)), code('OVERLOADED'));
    await run(sent(opening(), data), aCall('globex'));
    await collect(open[0] as (typeof open)[number]);
    await run(sent(opening(), data));
    await collect(open[1] as (typeof open)[number]);
  });

  test('is asked for only as fast as the output is taken', async () => {
    let asked = 0;
    function* counted(): Generator<Message<EncryptStreamOpening>> {
      for (const message of sent(opening(), randomBytes(10 * 16_384), 16_384)) {
        asked += 1;
        yield message;
      }
    }
    const outputs = streams.run(encryptStream, counted());
    for (let taken = 0; taken < 6; taken += 1) await outputs.next();
    assert.ok(asked <= 6, `asked for ${asked} messages while 6 outputs were taken`);
    await collect(outputs);
  });

  test('ends in a cut container are refused as ciphertext', async () => {
    const messages = sent({ freshness: fresh(), key: '', associatedData: none }, Buffer.from('4d434501', 'hex'));
    await assert.rejects(collect(streams.run(decryptStream, messages)), code('INVALID_CIPHERTEXT'));
    assert.deepEqual(outcomes(), ['INVALID_CIPHERTEXT']);
  });
});
