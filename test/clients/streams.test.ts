// Streams through a whole agent on a SoftHSM token: what comes out, what is recorded, and how they end early.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { Client, credentials, Metadata } from '@grpc/grpc-js';
import { type AuditRecord, connect, type MortiseClient, MortiseError } from '../../clients/typescript/index.ts';
import { EncryptStreamRequest, EncryptStreamResponse } from '../../proto/gen/mortise/agent/v1/stream.ts';
import { detailsOf } from '../agent/server/support.ts';
import { type RunningAgent, startAgent } from '../support/agent.ts';

const MIB = 1024 * 1024;
let agent: RunningAgent;
let client: MortiseClient;
let stranger: MortiseClient;

const clientOf = (tenant: string): MortiseClient =>
  connect({ socketPath: agent.socket, token: agent.bearer(tenant).slice('Bearer '.length), deadlineMs: 20_000 });
const code = (expected: string) => (error: unknown) => {
  assert.ok(error instanceof MortiseError, String(error));
  assert.equal(error.code, expected, error.message);
  return true;
};

before(async () => {
  agent = await startAgent({ env: { MORTISE_STREAMS_PER_TENANT: '3' } });
  client = clientOf('acme');
  stranger = clientOf('globex');
  await client.keys.create({ keyId: 'vault', purpose: 'encrypt', algorithm: 'AES-256' });
  await client.keys.create({ keyId: 'next', purpose: 'encrypt', algorithm: 'EC-P256' });
  await client.keys.create({ keyId: 'seal', purpose: 'sign', algorithm: 'EC-P256' });
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
/** Pieces without an end. */
const endless = function* (): Generator<Buffer> {
  for (const piece = Buffer.alloc(64 * 1024); ; ) yield piece;
};

/** The records of a stream by its correlation id, up to the one of its end. */
const recordsOf = async (correlationId: string): Promise<AuditRecord[]> => {
  const found: AuditRecord[] = [];
  for await (const record of client.audit.tail({ from: 0, deadlineMs: 20_000 })) {
    if (record.correlationId !== correlationId) continue;
    found.push(record);
    if (record.outcome !== 'intent') break;
  }
  return found;
};
const outcomes = (records: readonly AuditRecord[]) => records.map(({ operation, outcome }) => [operation, outcome]);

test('what is encrypted in a stream is decrypted, moved and decrypted again, with a record of each end', async () => {
  const plaintext = randomBytes(3 * MIB + 17);
  const associatedData = Buffer.from('case 7');
  const sealing = client.streams.encrypt('vault', inPieces(plaintext, 100_000), {
    associatedData,
    correlationId: 's-1',
  });
  const container = await whole(sealing);
  assert.deepEqual(sealing.envelope.keyUsed, { keyId: 'vault', version: 1 });
  assert.ok((await whole(client.streams.decrypt([container], { associatedData }))).equals(plaintext));
  const moving = client.streams.reEncrypt([container], { targetKey: 'next', associatedData, correlationId: 's-2' });
  const moved = await whole(moving);
  assert.deepEqual(moving.source, { keyId: 'vault', version: 1, algorithm: 'A256GCMKW' });
  assert.equal(moving.envelope.keyUsed?.keyId, 'next');
  assert.ok((await whole(client.streams.decrypt([moved], { associatedData, key: 'next' }))).equals(plaintext));
  const records = await recordsOf('s-1');
  assert.deepEqual(outcomes(records), [
    ['encrypt', 'intent'],
    ['encrypt', 'ok'],
  ]);
  assert.equal(JSON.parse(records[1]?.detail ?? '').bytesReceived, plaintext.length);
  assert.deepEqual(outcomes(await recordsOf('s-2')), [
    ['re-encrypt', 'intent'],
    ['re-encrypt', 'ok'],
  ]);
});

test('a signature over a stream is one that verify takes, and the other way round', async () => {
  const message = randomBytes(MIB);
  const { jws, bytes } = await client.streams.sign('seal', inPieces(message, 99_999));
  assert.equal(bytes, message.length);
  assert.equal((await client.verify({ jws, message })).valid, true);
  const { signature } = await client.sign('seal', { message }, { form: 'raw' });
  assert.equal((await client.streams.verify({ raw: signature }, [message], { key: 'seal' })).valid, true);
  assert.equal((await client.streams.verify({ jws }, [message, Buffer.of(1)])).valid, false);
});

test('post-quantum keys encrypt, move and sign streams', async () => {
  const plaintext = randomBytes(100_000);
  await client.keys.create({ keyId: 'pq', purpose: 'encrypt', algorithm: 'ML-KEM-768' });
  await client.keys.create({ keyId: 'pq-seal', purpose: 'sign', algorithm: 'ML-DSA-65' });
  const container = await whole(client.streams.encrypt('pq', [plaintext]));
  assert.ok((await whole(client.streams.decrypt([container]))).equals(plaintext));
  const moved = await whole(client.streams.reEncrypt([container], { targetKey: 'vault' }));
  assert.ok((await whole(client.streams.decrypt([moved]))).equals(plaintext));
  const { jws } = await client.streams.sign('pq-seal', [plaintext]);
  assert.equal((await client.streams.verify({ jws }, [plaintext])).valid, true);
  assert.equal((await client.streams.verify({ jws }, [plaintext.subarray(1)])).valid, false);
});

test('a detached signature over a stream moves to another key, and a wrong one is refused and recorded', async () => {
  const message = randomBytes(MIB);
  await client.keys.create({ keyId: 'next-seal', purpose: 'sign', algorithm: 'EC-P384' });
  const { jws: old } = await client.streams.sign('seal', [message]);
  const moved = await client.streams.reSign(old, inPieces(message, 99_999), { targetKey: 'next-seal' });
  assert.deepEqual(
    [moved.bytes, moved.source, moved.envelope.keyUsed],
    [message.length, { keyId: 'seal', version: 1, algorithm: 'ES256' }, { keyId: 'next-seal', version: 1 }],
  );
  assert.equal((await client.streams.verify({ jws: moved.jws }, [message])).valid, true);
  const correlationId = 're-sign-1';
  const wrong = client.streams.reSign(old, [message, Buffer.of(1)], { targetKey: 'next-seal', correlationId });
  await assert.rejects(wrong, code('SIGNATURE_INVALID'));
  assert.deepEqual(outcomes(await recordsOf(correlationId)), [['re-sign', 'SIGNATURE_INVALID']]);
});

test('the header of a container is a JWE that Rewrap takes', async () => {
  const plaintext = randomBytes(50_000);
  const container = await whole(client.streams.encrypt('vault', [plaintext]));
  const length = container.readUInt32BE(4);
  const jwe = container
    .subarray(8, 8 + length)
    .toString()
    .trim();
  const { jwe: rewrapped } = await client.rewrap(jwe, { add: [{ key: 'next' }], remove: ['acme/vault/1'] });
  assert.ok(rewrapped.length <= length, 'it fits into the place of the old one');
  const header = Buffer.from(rewrapped.padEnd(length));
  const moved = Buffer.concat([container.subarray(0, 8), header, container.subarray(8 + length)]);
  const opened = client.streams.decrypt([moved]);
  assert.ok((await whole(opened)).equals(plaintext));
  assert.equal(opened.envelope.keyUsed?.keyId, 'next');
});

test('tampering ends the stream in the error of all failed decryption', async () => {
  const container = await whole(client.streams.encrypt('vault', [randomBytes(MIB)]));
  container[500_000] = (container[500_000] as number) ^ 1;
  await assert.rejects(whole(client.streams.decrypt([container])), code('INVALID_CIPHERTEXT'));
  await assert.rejects(whole(stranger.streams.decrypt([container])), code('PERMISSION_DENIED'));
  await assert.rejects(whole(client.streams.encrypt('absent', [container])), code('KEY_UNKNOWN'));
});

describe('streams that end early', () => {
  test('leaving the loop cancels, and the record says how far it came', async () => {
    let received = 0;
    for await (const { length } of client.streams.encrypt('vault', endless(), { correlationId: 'left' })) {
      received += length;
      if (received > MIB) break;
    }
    const last = (await recordsOf('left')).at(-1);
    assert.equal(last?.outcome, 'CANCELLED');
    assert.ok(JSON.parse(last?.detail ?? '').bytesSent >= received);
  });

  test('an abort signal does the same', async () => {
    const abort = new AbortController();
    const run = async (): Promise<void> => {
      const options = { correlationId: 'aborted', signal: abort.signal };
      for await (const _ of client.streams.encrypt('vault', endless(), options)) abort.abort();
    };
    await assert.rejects(run(), code('CANCELLED'));
    assert.equal((await recordsOf('aborted')).at(-1)?.outcome, 'CANCELLED');
    await assert.rejects(whole(client.streams.encrypt('vault', [], { signal: abort.signal })), code('CANCELLED'));
  });

  test('a source that fails cancels, and its error is told', async () => {
    let received = 0;
    const failing = function* (): Generator<Buffer> {
      for (const piece of endless()) {
        if (received > 0) throw new Error('the disk is gone');
        yield piece;
      }
    };
    const run = async (): Promise<void> => {
      for await (const { length } of client.streams.encrypt('vault', failing(), { correlationId: 'source' })) {
        received += length;
      }
    };
    await assert.rejects(run(), (error: unknown) => {
      assert.ok(error instanceof MortiseError);
      assert.match(error.message, /the source of the data failed: the disk is gone/);
      return true;
    });
    assert.equal((await recordsOf('source')).at(-1)?.outcome, 'CANCELLED');
  });

  test('closing the client ends its streams', async () => {
    const other = clientOf('acme');
    const run = async (): Promise<void> => {
      for await (const _ of other.streams.encrypt('vault', endless())) other.close();
    };
    await assert.rejects(run(), code('CANCELLED'));
  });

  test('a source is let go of when its stream ends', async () => {
    let released = false;
    const source = function* (): Generator<Buffer> {
      try {
        yield* endless();
      } finally {
        released = true;
      }
    };
    await assert.rejects(whole(client.streams.encrypt('absent', source())), code('KEY_UNKNOWN'));
    for (let turn = 0; turn < 100 && !released; turn += 1) await new Promise(setImmediate);
    assert.ok(released);
  });
});

test('who does not read is not read from, and holds up nobody else', async () => {
  let pulled = 0;
  const counted = function* (): Generator<Buffer> {
    for (const piece of endless()) {
      pulled += piece.length;
      yield piece;
    }
  };
  const unread = client.streams.encrypt('vault', counted())[Symbol.asyncIterator]();
  await unread.next();
  let before = -1;
  for (let round = 0; round < 200 && before !== pulled; round += 1) {
    before = pulled;
    for (let call = 0; call < 20; call += 1) await stranger.encrypt('theirs', Buffer.from('x'));
  }
  assert.ok(pulled < 24 * MIB, `${pulled} bytes were taken from the source though nobody reads`);
  await unread.return(undefined);
});

test('calls of another tenant are answered while a stream runs', async () => {
  let answered = 0;
  let running = true;
  const stream = (async () => {
    for await (const _ of client.streams.encrypt('vault', endless())) if (!running) break;
  })();
  while (answered < 30) {
    await stranger.encrypt('theirs', Buffer.from('x'));
    answered += 1;
  }
  running = false;
  await stream;
  assert.equal(answered, 30);
});

test('a tenant has its share of streams, and gets it back', async () => {
  const open = [1, 2, 3].map(() => client.streams.encrypt('vault', endless())[Symbol.asyncIterator]());
  await Promise.all(open.map((iterator) => iterator.next()));
  await assert.rejects(whole(client.streams.encrypt('vault', [])), code('OVERLOADED'));
  await whole(stranger.streams.encrypt('theirs', []));
  await Promise.all(open.map((iterator) => iterator.return(undefined)));
  for (;;) {
    try {
      await whole(client.streams.encrypt('vault', []));
      return;
    } catch (thrown) {
      assert.equal((thrown as MortiseError).code, 'OVERLOADED'); // the agent has yet to hear of their end
    }
  }
});

/** One stream of messages as they are; resolves with the reason of its refusal, or "ok". */
const raw = (messages: readonly Uint8Array[]): Promise<string | undefined> =>
  new Promise((resolve) => {
    const metadata = new Metadata();
    metadata.set('authorization', agent.bearer('acme'));
    const grpc = new Client(`unix:${agent.socket}`, credentials.createInsecure(), {
      'grpc.use_local_subchannel_pool': 1,
    });
    const call = grpc.makeBidiStreamRequest(
      '/mortise.agent.v1.StreamService/EncryptStream',
      (bytes: Uint8Array) => Buffer.from(bytes),
      EncryptStreamResponse.decode,
      metadata,
    );
    let done = false;
    call.on('data', ({ part }: EncryptStreamResponse) => {
      done = part?.$case === 'done';
    });
    call.on('error', (error) => resolve(detailsOf(error).reason));
    call.on('end', () => done && resolve('ok'));
    call.on('close', () => grpc.close());
    for (const message of messages) call.write(message);
    call.end();
  });
const opening = (nonce: Buffer, timestamp = new Date()): Uint8Array =>
  EncryptStreamRequest.encode({
    part: {
      $case: 'opening',
      value: {
        freshness: { nonce, timestamp },
        key: 'vault',
        associatedData: Buffer.alloc(0),
        localKey: 'LOCAL_KEY_UNSPECIFIED',
      },
    },
  }).finish();
const end = EncryptStreamRequest.encode({ part: { $case: 'end', value: { bytes: 0n, localBytes: 0n } } }).finish();

test('an opening is taken once, also over a restart of the agent, and only in its minute', async () => {
  const first = opening(Buffer.alloc(16, 1));
  assert.equal(await raw([first, end]), 'ok');
  assert.equal(await raw([first, end]), 'OPENING_REFUSED');
  for (const minutes of [-2, 2]) {
    const stale = opening(randomBytes(16), new Date(Date.now() + minutes * 60_000));
    assert.equal(await raw([stale, end]), 'OPENING_REFUSED');
  }
  await agent.end();
  await agent.start();
  assert.equal(await raw([first, end]), 'OPENING_REFUSED');
  assert.equal(await raw([opening(randomBytes(16)), end]), 'ok');
});

test('messages that cannot be read, or come in no order, are refused', async () => {
  assert.equal(await raw([Buffer.from('ffffff', 'hex')]), 'INVALID_REQUEST');
  assert.equal(await raw([opening(randomBytes(16)), Buffer.from('0a', 'hex'), end]), 'INVALID_REQUEST');
  assert.equal(await raw([end]), 'INVALID_REQUEST');
  assert.equal(await raw([]), 'INVALID_REQUEST');
  assert.equal(await raw([opening(randomBytes(16))]), 'INVALID_REQUEST');
});

test('an agent that is killed half-way is an error, and its beginning stays recorded', async () => {
  let received = 0;
  const run = async (): Promise<void> => {
    for await (const { length } of client.streams.encrypt('vault', endless(), { correlationId: 'killed' })) {
      if (received === 0) process.kill(agent.pid, 'SIGKILL');
      received += length;
    }
  };
  await assert.rejects(run(), code('AGENT_UNREACHABLE'));
  await agent.end();
  await agent.start();
  const { records } = await client.audit.records({ newest: true, pageSize: 20 });
  const killed = records.filter(({ correlationId }) => correlationId === 'killed');
  assert.deepEqual(outcomes(killed), [['encrypt', 'intent']]);
  const { intact } = await client.audit.verify();
  assert.equal(intact, true);
});

test('the token process may die once a stream has begun', async () => {
  const plaintext = randomBytes(4 * MIB);
  const container = await whole(client.streams.encrypt('vault', [plaintext]));
  let isKilled = false;
  const source = function* (): Generator<Buffer> {
    for (const piece of inPieces(container, 64 * 1024)) yield piece;
  };
  const pieces: Buffer[] = [];
  for await (const piece of client.streams.decrypt(source())) {
    if (!isKilled) process.kill(agent.tokenPid(), 'SIGKILL');
    isKilled = true;
    pieces.push(piece);
  }
  assert.ok(Buffer.concat(pieces).equals(plaintext));
});

test('a drain ends a stream that does not end by itself, recorded', async () => {
  await agent.end();
  await agent.start({ MORTISE_DRAIN_SECONDS: '1' });
  let ending: Promise<unknown> | undefined;
  const held = async (): Promise<void> => {
    for await (const _ of client.streams.encrypt('vault', endless(), { correlationId: 'held' })) {
      ending ??= agent.end();
    }
  };
  await assert.rejects(held(), (error: unknown) =>
    ['SHUTTING_DOWN', 'AGENT_UNREACHABLE'].includes((error as MortiseError).code),
  );
  assert.equal(await ending, 0);
  await agent.start();
  assert.deepEqual(outcomes(await recordsOf('held')), [
    ['encrypt', 'intent'],
    ['encrypt', 'SHUTTING_DOWN'],
  ]);
});
