// Local streams through a whole agent on a SoftHSM token: the agent gives the key of one container, the client makes or
// opens its chunks. What one side wrote the other reads; what is refused, recorded and wiped.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { type AuditRecord, connect, type MortiseClient, MortiseError } from '../../clients/typescript/index.ts';
import { localStream, UploadGate } from '../../clients/typescript/local-stream.ts';
import { SourceReader } from '../../clients/typescript/source-reader.ts';
import { CHUNK_BYTES, SEALED_CHUNK_BYTES } from '../../proto/documents/chunked/chunks.ts';
import { chunkOffset } from '../../proto/documents/chunked/layout.ts';
import { type RunningAgent, startAgent } from '../support/agent.ts';

const MIB = 1024 * 1024;
const LENGTHS = [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 64 * CHUNK_BYTES, MIB + 77];
let agent: RunningAgent;
let client: MortiseClient;
/** Of a tenant whose policy keeps the keys in. */
let stranger: MortiseClient;

const clientOf = (tenant: string): MortiseClient =>
  connect({ socketPath: agent.socket, token: agent.bearer(tenant).slice('Bearer '.length), deadlineMs: 20_000 });
const code =
  (expected: string, about = /./) =>
  (error: unknown) => {
    assert.ok(error instanceof MortiseError, String(error));
    assert.equal(error.code, expected, error.message);
    assert.match(error.message, about);
    return true;
  };

before(async () => {
  agent = await startAgent({
    platform: { streams: { localKeys: true } },
    tenantPolicies: { globex: { streams: { localKeys: false } } },
  });
  client = clientOf('acme');
  stranger = clientOf('globex');
  await client.keys.create({ keyId: 'vault', purpose: 'encrypt', algorithm: 'AES-256' });
  await client.keys.create({ keyId: 'pq', purpose: 'encrypt', algorithm: 'ML-KEM-768' });
  await stranger.keys.create({ keyId: 'theirs', purpose: 'encrypt', algorithm: 'AES-256' });
});
after(async () => {
  client?.close();
  stranger?.close();
  await agent?.stop();
});

const whole = async (stream: AsyncIterable<Buffer>): Promise<Buffer> => {
  const pieces: Buffer[] = [];
  for await (const piece of stream) pieces.push(piece);
  return Buffer.concat(pieces);
};
const inPieces = function* (data: Buffer, bytes: number): Generator<Buffer> {
  for (let at = 0; at < data.length; at += bytes) yield data.subarray(at, at + bytes);
};
/** The records of a stream by its correlation id, up to the one of its end. */
const recordsOf = async (correlationId: string, of = client): Promise<AuditRecord[]> => {
  const found: AuditRecord[] = [];
  for await (const record of of.audit.tail({ from: 0, deadlineMs: 20_000 })) {
    if (record.correlationId !== correlationId) continue;
    found.push(record);
    if (record.outcome !== 'intent') break;
  }
  return found;
};
const detailOf = (record: AuditRecord | undefined): Record<string, unknown> => JSON.parse(record?.detail ?? '{}');
const chunksAt = (container: Buffer): number => 8 + container.readUInt32BE(4);

describe('one container, whoever makes it', () => {
  const SIDES = ['always', 'never'] as const;
  for (const length of LENGTHS) {
    test(`of ${length} bytes is read by agent and client`, async () => {
      const plaintext = randomBytes(length);
      const associatedData = Buffer.from('case 7');
      for (const local of SIDES) {
        const sealing = client.streams.encrypt('vault', inPieces(plaintext, 99_991), { associatedData, local });
        const container = await whole(sealing);
        assert.equal(sealing.isLocal, local === 'always');
        assert.deepEqual(sealing.envelope.keyUsed, { keyId: 'vault', version: 1 });
        for (const other of SIDES) {
          const opening = client.streams.decrypt(inPieces(container, 70_001), { associatedData, local: other });
          assert.ok((await whole(opening)).equals(plaintext), `made ${local}, opened ${other}`);
          assert.equal(opening.isLocal, other === 'always');
        }
      }
    });
  }

  test('is moved to a post-quantum key by the agent, and opened here again', async () => {
    const plaintext = randomBytes(300_000);
    const container = await whole(client.streams.encrypt('vault', [plaintext], { local: 'always' }));
    const moved = await whole(client.streams.reEncrypt([container], { targetKey: 'pq' }));
    assert.ok((await whole(client.streams.decrypt([moved], { local: 'always' }))).equals(plaintext));
    const range = client.streams.decryptRange(async (at, bytes) => container.subarray(at, at + bytes), {
      offset: 200_000,
      length: 10,
    });
    assert.ok((await whole(range)).equals(plaintext.subarray(200_000, 200_010)));
  });
});

test('two streams of one key have keys of their own, and say nothing alike', async () => {
  const seal = () => whole(client.streams.encrypt('vault', [Buffer.alloc(CHUNK_BYTES)], { local: 'always' }));
  const [one, two] = [await seal(), await seal()];
  const chunk = (container: Buffer): Buffer => container.subarray(chunksAt(container) + chunkOffset(0));
  assert.equal(one.length, two.length);
  assert.ok(!chunk(one).equals(chunk(two)));
  // A chunk of one in the place of the other's is refused here as it is by the agent.
  const mixed = Buffer.concat([two.subarray(0, chunksAt(two) + chunkOffset(0)), chunk(one)]);
  await assert.rejects(whole(client.streams.decrypt([mixed], { local: 'always' })), code('INVALID_CIPHERTEXT'));
});

test('the records say that the key was given, for which container, and the bytes as the word of the client', async () => {
  const plaintext = randomBytes(100_000);
  const container = await whole(
    client.streams.encrypt('vault', [plaintext], { local: 'always', correlationId: 'local-1' }),
  );
  await whole(client.streams.decrypt([container], { local: 'always', correlationId: 'local-2' }));
  const salt = container.subarray(chunksAt(container), chunksAt(container) + 24).toString('base64url');
  for (const [correlationId, operation] of [
    ['local-1', 'encrypt'],
    ['local-2', 'decrypt'],
  ] as const) {
    const records = await recordsOf(correlationId);
    assert.deepEqual(
      records.map((record) => [record.operation, record.outcome, detailOf(record)['localStream']]),
      [
        [operation, 'intent', salt],
        [operation, 'ok', salt],
      ],
    );
    const { bytesByClient, bytesSent } = detailOf(records[1]);
    assert.deepEqual([bytesByClient, bytesSent], [plaintext.length, 0]);
  }
});

describe('where policy keeps the keys in', () => {
  test('the agent works on the stream, with no refusal in the record, unless the client takes nothing else', async () => {
    const plaintext = randomBytes(500_000);
    const sealing = stranger.streams.encrypt('theirs', inPieces(plaintext, 99_991), { correlationId: 'auto-1' });
    const container = await whole(sealing);
    assert.equal(sealing.isLocal, false);
    const opening = stranger.streams.decrypt(inPieces(container, 70_001));
    assert.ok((await whole(opening)).equals(plaintext));
    assert.equal(opening.isLocal, false);
    const records = await recordsOf('auto-1', stranger);
    assert.deepEqual(
      records.map(({ outcome }) => outcome),
      ['intent', 'ok'],
    );
    assert.deepEqual(
      [detailOf(records[1])['bytesReceived'], detailOf(records[1])['localStream']],
      [500_000, undefined],
    );
    const denied = code('POLICY_DENIED', /keys of streams/);
    await assert.rejects(whole(stranger.streams.encrypt('theirs', [plaintext], { local: 'always' })), denied);
    await assert.rejects(whole(stranger.streams.decrypt([container], { local: 'always' })), denied);
  });

  test('a grant of the key that allows no data keys is enough to keep this one in', async () => {
    const grants = [{ principal: 'app', operations: ['encrypt', 'decrypt'] }];
    await client.keys.create({ keyId: 'granted', purpose: 'encrypt', algorithm: 'AES-256', grants });
    const sealing = client.streams.encrypt('granted', [randomBytes(10)]);
    await whole(sealing);
    assert.equal(sealing.isLocal, false);
    const demanded = whole(client.streams.encrypt('granted', [randomBytes(10)], { local: 'always' }));
    await assert.rejects(demanded, code('PERMISSION_DENIED', /generate-data-key/));
  });
});

describe('a local stream that is touched, cut or left', () => {
  const plaintext = randomBytes(3 * CHUNK_BYTES + 100);
  let container: Buffer;
  before(async () => {
    container = await whole(client.streams.encrypt('vault', [plaintext], { local: 'never' }));
  });

  /** Fails, and gives out nothing but the first so many chunks. */
  const refuses = async (bytes: Buffer, chunks: number): Promise<void> => {
    const out: Buffer[] = [];
    const reading = async (): Promise<void> => {
      const pieces = inPieces(bytes, SEALED_CHUNK_BYTES);
      for await (const piece of client.streams.decrypt(pieces, { local: 'always' })) out.push(piece);
    };
    await assert.rejects(reading(), code('INVALID_CIPHERTEXT'));
    const all = Buffer.concat(out);
    assert.ok(all.equals(plaintext.subarray(0, all.length)));
    assert.ok(all.length <= chunks * CHUNK_BYTES, `${all.length} bytes came out`);
  };

  test('ends in the error of all failed decryption, after nothing but authentic plaintext', async () => {
    const start = chunksAt(container);
    const opening = container.subarray(0, start + chunkOffset(0));
    const chunk = (number: number): Buffer =>
      container.subarray(start + chunkOffset(number), start + chunkOffset(number + 1));
    await refuses(Buffer.concat([opening, chunk(1), chunk(0), chunk(2), chunk(3)]), 0);
    await refuses(Buffer.concat([opening, chunk(0), chunk(0), chunk(1), chunk(2), chunk(3)]), 1);
    await refuses(Buffer.concat([opening, chunk(0), chunk(2), chunk(3)]), 1);
    await refuses(Buffer.concat([container, Buffer.alloc(1)]), 3);
    await refuses(container.subarray(0, start + chunkOffset(2)), 2);
    await refuses(container.subarray(0, -1), 3);
    await refuses(container.subarray(0, start + chunkOffset(0)), 0);
    const changed = Buffer.from(container);
    changed[start + chunkOffset(1) + 5] = (changed[start + chunkOffset(1) + 5] as number) ^ 1;
    await refuses(changed, 1);
    const committed = Buffer.from(container);
    committed[start + 30] = (committed[start + 30] as number) ^ 1;
    await refuses(committed, 0);
  });

  test('is judged by the agent where it is no container at all', async () => {
    const decrypt = (bytes: Buffer) => whole(client.streams.decrypt([bytes], { local: 'always' }));
    await assert.rejects(decrypt(Buffer.from('plain')), code('INVALID_REQUEST'));
    await assert.rejects(decrypt(Buffer.alloc(0)), code('INVALID_CIPHERTEXT'));
    await assert.rejects(decrypt(container.subarray(0, 100)), code('INVALID_CIPHERTEXT'));
    await assert.rejects(decrypt(Buffer.alloc(100_000, 0x20)), code('INVALID_REQUEST'));
  });

  test('is recorded as left when its reader or its source stops, and lets go of the source', async () => {
    let released = 0;
    const endless = function* (): Generator<Buffer> {
      try {
        for (const piece = Buffer.alloc(64 * 1024); ; ) yield piece;
      } finally {
        released += 1;
      }
    };
    for await (const _ of client.streams.encrypt('vault', endless(), { local: 'always', correlationId: 'left-1' }))
      break;
    const failing = function* (): Generator<Buffer> {
      yield Buffer.alloc(64 * 1024);
      throw new Error('disk on fire');
    };
    const failed = client.streams.encrypt('vault', failing(), { local: 'always', correlationId: 'left-2' });
    await assert.rejects(whole(failed), code('CANCELLED', /disk on fire/));
    for (const correlationId of ['left-1', 'left-2']) {
      const outcomes = (await recordsOf(correlationId)).map(({ outcome }) => outcome);
      assert.deepEqual(outcomes, ['intent', 'CANCELLED']);
    }
    assert.equal(released, 1);
  });

  test('ends when it is aborted, also while its source is silent or never waits', async () => {
    const silent = async function* (): AsyncGenerator<Buffer> {
      yield Buffer.alloc(CHUNK_BYTES);
      await new Promise(() => undefined);
    };
    const endless = function* (): Generator<Buffer> {
      for (const piece = Buffer.alloc(MIB); ; ) yield piece;
    };
    for (const source of [silent(), endless()]) {
      const abort = new AbortController();
      const reading = async (): Promise<void> => {
        let count = 0;
        for await (const _ of client.streams.encrypt('vault', source, { local: 'always', signal: abort.signal })) {
          count += 1;
          if (count === 2) setImmediate(() => abort.abort());
        }
      };
      await assert.rejects(reading(), code('CANCELLED'));
    }
  });

  test('ends at its deadline', async () => {
    const silent = async function* (): AsyncGenerator<Buffer> {
      await new Promise(() => undefined);
    };
    const stream = client.streams.encrypt('vault', silent(), { local: 'always', deadlineMs: 200 });
    await assert.rejects(whole(stream), code('DEADLINE_EXCEEDED'));
  });

  test('ends by abort, deadline and close also before its source has given a beginning, and lets go of it', async () => {
    let released = 0;
    /** Gives the first bytes of a container, then nothing for ever. */
    const stuck = (): AsyncIterable<Buffer> => {
      const first = [container.subarray(0, 20)];
      const next = async (): Promise<IteratorResult<Buffer>> => {
        const value = first.pop();
        return value === undefined ? await new Promise<never>(() => undefined) : { done: false, value };
      };
      const letGo = async (): Promise<IteratorResult<Buffer>> => {
        released += 1;
        return { done: true, value: undefined };
      };
      return { [Symbol.asyncIterator]: () => ({ next, return: letGo }) };
    };
    const abort = new AbortController();
    const aborted = whole(client.streams.decrypt(stuck(), { signal: abort.signal }));
    const user = clientOf('acme');
    const closed = whole(user.streams.decrypt(stuck()));
    setImmediate(() => {
      abort.abort();
      user.close();
    });
    await assert.rejects(aborted, code('CANCELLED'));
    await assert.rejects(closed, code('CANCELLED'));
    await assert.rejects(whole(client.streams.decrypt(stuck(), { deadlineMs: 50 })), code('DEADLINE_EXCEEDED'));
    await assert.rejects(whole(client.streams.decrypt(stuck(), { signal: abort.signal })), code('CANCELLED'));
    assert.equal(released, 4);
  });

  test('has no last chunk where the agent is gone before its end', async () => {
    const own = await startAgent({ platform: { streams: { localKeys: true } } });
    const user = connect({ socketPath: own.socket, token: own.bearer('acme').slice('Bearer '.length) });
    try {
      await user.keys.create({ keyId: 'vault', purpose: 'encrypt', algorithm: 'AES-256' });
      const source = async function* (): AsyncGenerator<Buffer> {
        yield randomBytes(CHUNK_BYTES + 5);
        await own.end('SIGKILL');
      };
      const out: Buffer[] = [];
      const reading = async (): Promise<void> => {
        for await (const piece of user.streams.encrypt('vault', source(), { local: 'always' })) out.push(piece);
      };
      await assert.rejects(reading(), MortiseError);
      const cut = Buffer.concat(out);
      assert.equal(cut.length, chunksAt(cut) + chunkOffset(1));
    } finally {
      user.close();
      await own.stop();
    }
  });
});

test('the bytes of the key are wiped before the first chunk is made', async () => {
  const key = randomBytes(32);
  const container = { key, baseNonce: randomBytes(12), opening: Buffer.from('opening') };
  const begun = { part: { $case: 'begun' as const, value: { envelope: undefined, streamKey: container } } };
  const reader = new SourceReader([Buffer.alloc(CHUNK_BYTES)]);
  const gate = new UploadGate(reader);
  const messages = (async function* () {
    yield { response: begun };
    for await (const _ of gate.data()) assert.fail('no data goes to the agent');
    yield { response: { part: { $case: 'done' as const, value: { bytesReceived: 0n } } } };
  })();
  const cancel = (): void => assert.fail('it ends by itself');
  const seen: boolean[] = [];
  for await (const outcome of localStream({ direction: 'seal', reader, gate, messages, cancel, correlationId: 'w' })) {
    if ('pieces' in outcome) seen.push(key.equals(Buffer.alloc(32)));
  }
  assert.deepEqual(seen, [true, true, true]);
  assert.equal(gate.localBytes, CHUNK_BYTES);
});
