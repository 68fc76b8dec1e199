// The streaming use cases around a CryptoWorld, with openings and shares as in the agent, and a client that sends parts.
import { randomBytes } from 'node:crypto';
import { createStreamSlots } from '../../../agent/identity/stream-slots.ts';
import type { Call } from '../../../agent/operations/ports/call.ts';
import { type DecryptStreamOpening, decryptStream } from '../../../agent/operations/streams/decrypt-stream.ts';
import { type EncryptStreamOpening, encryptStream } from '../../../agent/operations/streams/encrypt-stream.ts';
import type { StreamDone, StreamOutput } from '../../../agent/operations/streams/perform-stream.ts';
import { type ReEncryptStreamOpening, reEncryptStream } from '../../../agent/operations/streams/re-encrypt-stream.ts';
import { type ReSignStreamOpening, reSignStream } from '../../../agent/operations/streams/re-sign-stream.ts';
import { type SignStreamOpening, signStream } from '../../../agent/operations/streams/sign-stream.ts';
import type { StreamMessage } from '../../../agent/operations/streams/stream-input.ts';
import type { StreamPorts } from '../../../agent/operations/streams/stream-ports.ts';
import { type VerifyStreamOpening, verifyStream } from '../../../agent/operations/streams/verify-stream.ts';
import { aCall, type CryptoWorld } from './crypto-world.ts';

export type Message<Opening> = StreamMessage<Opening> | undefined;
type Outputs<Answer> = AsyncGenerator<StreamOutput<Answer>, void, undefined>;
type UseCase<Opening, Answer> = (
  ports: StreamPorts,
  call: Call,
  messages: AsyncIterator<Message<Opening>>,
) => Outputs<Answer>;

const none = Buffer.alloc(0);
const MIB = 1024 * 1024;

export const fresh = () => ({ nonce: randomBytes(16), timestamp: Date.now() });

/** An opening, data in pieces, and the end. */
export function* sent<Opening>(opening: Opening, data: Buffer, pieceBytes = 100_000): Generator<Message<Opening>> {
  yield { opening };
  for (let at = 0; at < data.length; at += pieceBytes) yield { data: data.subarray(at, at + pieceBytes) };
  yield { end: data.length };
}

async function* asynchronous<T>(messages: Iterable<T>): AsyncGenerator<T> {
  for (const message of messages) yield await Promise.resolve(message);
}

/** All that came out. */
export const collect = async <Answer>(outputs: Outputs<Answer>) => {
  const data: Buffer[] = [];
  let done: StreamDone<Answer> | undefined;
  let begun: Extract<StreamOutput<Answer>, { begun: object }> | undefined;
  for await (const output of outputs) {
    if ('data' in output) data.push(...output.data);
    else if ('begun' in output) begun = output;
    else done = output.done;
  }
  if (done === undefined) throw new Error('the stream ended without an answer');
  return { data: Buffer.concat(data), begun, done };
};

export class StreamsWorld {
  readonly world: CryptoWorld;
  ports: StreamPorts;
  readonly openings: { nonce: Buffer; tenant: string; principal: string }[] = [];

  constructor(world: CryptoWorld) {
    this.world = world;
    this.ports = {
      ...world.ports,
      openings: {
        take: async (opening) => {
          this.openings.push(opening);
        },
      },
      streamSlots: createStreamSlots({ perTenant: 2 }),
      streamLimits: { maxBytes: 64 * MIB, idleMs: 60_000 },
    };
  }

  run<Opening, Answer>(
    useCase: UseCase<Opening, Answer>,
    messages: Iterable<Message<Opening>> | AsyncIterable<Message<Opening>>,
    call = aCall(),
  ): Outputs<Answer> {
    const iterator =
      Symbol.asyncIterator in messages
        ? messages[Symbol.asyncIterator]()
        : asynchronous(messages)[Symbol.asyncIterator]();
    return useCase(this.ports, call, iterator);
  }

  encrypt(plaintext: Buffer, opening: Partial<EncryptStreamOpening> & { key: string }, pieceBytes?: number) {
    const whole = { freshness: fresh(), associatedData: none, ...opening };
    return collect(this.run(encryptStream, sent(whole, plaintext, pieceBytes)));
  }

  decrypt(container: Buffer, opening: Partial<DecryptStreamOpening> = {}, pieceBytes?: number) {
    const whole = { freshness: fresh(), key: '', associatedData: none, ...opening };
    return collect(this.run(decryptStream, sent(whole, container, pieceBytes)));
  }

  reEncrypt(container: Buffer, opening: Partial<ReEncryptStreamOpening>, call?: Call) {
    const empty = { sourceKey: '', targetKey: '', associatedData: none, newAssociatedData: undefined };
    return collect(this.run(reEncryptStream, sent({ freshness: fresh(), ...empty, ...opening }, container), call));
  }

  sign(message: Buffer, opening: Partial<SignStreamOpening> & { key: string }, pieceBytes?: number) {
    const whole: SignStreamOpening = { freshness: fresh(), form: 'detached', type: '', ...opening };
    return collect(this.run(signStream, sent(whole, message, pieceBytes)));
  }

  reSign(message: Buffer, opening: Partial<ReSignStreamOpening>, call?: Call, pieceBytes?: number) {
    const whole: ReSignStreamOpening = { freshness: fresh(), jws: '', sourceKey: '', targetKey: '', ...opening };
    return collect(this.run(reSignStream, sent(whole, message, pieceBytes), call));
  }

  verify(message: Buffer, opening: Partial<VerifyStreamOpening>, pieceBytes?: number) {
    const whole: VerifyStreamOpening = { freshness: fresh(), key: '', version: 0, signature: undefined, ...opening };
    return collect(this.run(verifyStream, sent(whole, message, pieceBytes)));
  }
}
