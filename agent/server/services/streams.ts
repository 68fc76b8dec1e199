// StreamService: proto ↔ plain values, nothing else. What a value may be is checked in the use cases.
import { SignatureForm } from '../../../proto/gen/mortise/agent/v1/crypto.ts';
import {
  type ByteRange,
  type DecryptStreamRequest,
  type DecryptStreamResponse,
  type EncryptStreamRequest,
  type EncryptStreamResponse,
  LocalKey,
  type Freshness as ProtoFreshness,
  type ReEncryptStreamRequest,
  type ReEncryptStreamResponse,
  type ReSignStreamRequest,
  type ReSignStreamResponse,
  type SignStreamRequest,
  type SignStreamResponse,
  StreamServiceService,
  type VerifyStreamOpening,
  type VerifyStreamRequest,
  type VerifyStreamResponse,
  type VerifyWithStreamRequest,
  type VerifyWithStreamResponse,
} from '../../../proto/gen/mortise/agent/v1/stream.ts';
import type { Envelope as ProtoEnvelope } from '../../../proto/gen/mortise/agent/v1/types.ts';
import type { SignedInput } from '../../operations/jose/signed-input.ts';
import type { Envelope } from '../../operations/ports/answer.ts';
import type { SignatureForm as PlainForm } from '../../operations/sign.ts';
import { decryptStream } from '../../operations/streams/decrypt-stream.ts';
import { encryptStream } from '../../operations/streams/encrypt-stream.ts';
import type { LocalKeyWish } from '../../operations/streams/local-key.ts';
import type { Freshness, StreamOutput } from '../../operations/streams/perform-stream.ts';
import { reEncryptStream } from '../../operations/streams/re-encrypt-stream.ts';
import { reSignStream } from '../../operations/streams/re-sign-stream.ts';
import { signStream } from '../../operations/streams/sign-stream.ts';
import type { StreamMessage } from '../../operations/streams/stream-input.ts';
import type { StreamPorts } from '../../operations/streams/stream-ports.ts';
import { verifyStream } from '../../operations/streams/verify-stream.ts';
import { verifyWithStream } from '../../operations/streams/verify-with-stream.ts';
import { type DataStreamHandler, dataStreamRpc, type Incoming, type Outgoing } from '../data-stream.ts';

const toProtoEnvelope = ({ warnings, ...envelope }: Envelope): ProtoEnvelope => ({
  ...envelope,
  warnings: [...warnings],
});

const FORMS: ReadonlyMap<SignatureForm, PlainForm> = new Map([
  [SignatureForm.UNSPECIFIED, 'detached'],
  [SignatureForm.JWS_COMPACT, 'compact'],
  [SignatureForm.JWS_DETACHED, 'detached'],
  [SignatureForm.JWS_UNENCODED, 'unencoded'],
  [SignatureForm.RAW, 'raw'],
]);

const WISHES: ReadonlyMap<LocalKey, LocalKeyWish> = new Map([
  [LocalKey.IF_ALLOWED, 'if-allowed'],
  [LocalKey.REQUIRED, 'required'],
]);
/** What a later client may wish is left to the agent's own way. */
const wishOf = (localKey: LocalKey): LocalKeyWish => WISHES.get(localKey) ?? 'no';

const freshnessOf = (freshness: ProtoFreshness | undefined): Freshness | undefined =>
  freshness && { nonce: freshness.nonce, timestamp: freshness.timestamp?.getTime() };

/** Numbers above 2^53-1 are refused like all that no container reaches. */
const rangeOf = ({ offset, length }: ByteRange) => ({
  offset: Number(offset),
  length: length === 0n ? undefined : Number(length),
});

type ProtoSignature = VerifyStreamOpening['signature'];
const signatureOf = (signature: ProtoSignature): SignedInput['signature'] => {
  if (signature === undefined) return undefined;
  return signature.$case === 'jws' ? { jws: signature.value } : { raw: signature.value };
};

type RequestPart<Opening> =
  | { readonly $case: 'opening'; readonly value: Opening }
  | { readonly $case: 'data'; readonly value: Buffer }
  | { readonly $case: 'end'; readonly value: { readonly bytes: bigint; readonly localBytes: bigint } };
interface Request<Opening> {
  readonly part?: RequestPart<Opening> | undefined;
}

/** Messages of the client as plain values; undefined for one that this agent does not know. */
async function* plainMessages<Proto, Opening>(
  messages: AsyncIterator<Incoming<Request<Proto>>>,
  openingOf: (opening: Proto) => Opening,
): AsyncGenerator<StreamMessage<Opening> | undefined, void, undefined> {
  for (let next = await messages.next(); !next.done; next = await messages.next()) {
    if ('data' in next.value) {
      yield next.value;
      continue;
    }
    const { part } = next.value.request;
    if (part === undefined) yield undefined;
    else if (part.$case === 'opening') yield { opening: openingOf(part.value) };
    else if (part.$case === 'data') yield { data: part.value };
    else yield { end: Number(part.value.bytes), localBytes: Number(part.value.localBytes) };
  }
}

type Begun = Extract<StreamOutput<undefined>, { begun: Envelope }>;
type Counts = { readonly bytesReceived: number; readonly bytesSent: number };
const doneOf = ({ bytesReceived, bytesSent }: Counts) => ({
  part: { $case: 'done' as const, value: { bytesReceived: BigInt(bytesReceived), bytesSent: BigInt(bytesSent) } },
});

/** The outputs of the three streams that send data. */
async function* dataResponses<Response>(
  outputs: AsyncGenerator<StreamOutput<undefined>, void, undefined>,
  begun: (output: Begun) => Response,
  done: (counts: Counts) => Response,
): AsyncGenerator<Outgoing<Response>, void, undefined> {
  for await (const output of outputs) {
    if ('data' in output) yield output;
    else if ('begun' in output) yield { response: begun(output), isSecret: output.streamKey !== undefined };
    else yield { response: done(output.done) };
  }
}

/** The one answer of a stream that sends nothing else. */
async function* answerOf<Answer, Response>(
  outputs: AsyncGenerator<StreamOutput<Answer>, void, undefined>,
  response: (done: Extract<StreamOutput<Answer>, { done: object }>['done']) => Response,
): AsyncGenerator<Outgoing<Response>, void, undefined> {
  for await (const output of outputs) {
    if ('done' in output) yield { response: response(output.done) };
  }
}

const begunOf = ({ begun, streamKey }: Begun) => ({
  part: { $case: 'begun' as const, value: { envelope: toProtoEnvelope(begun), streamKey } },
});

const sealedHandlers = (ports: StreamPorts) => ({
  encryptStream: ((call, messages) => {
    const plain = plainMessages(messages, ({ freshness, key, associatedData, localKey }) => ({
      freshness: freshnessOf(freshness),
      key,
      associatedData,
      localKey: wishOf(localKey),
    }));
    return dataResponses<EncryptStreamResponse>(encryptStream(ports, call, plain), begunOf, doneOf);
  }) satisfies DataStreamHandler<EncryptStreamRequest, EncryptStreamResponse>,
  decryptStream: ((call, messages) => {
    const plain = plainMessages(messages, ({ freshness, key, associatedData, range, localKey }) => ({
      freshness: freshnessOf(freshness),
      key,
      associatedData,
      localKey: wishOf(localKey),
      ...(range && { range: rangeOf(range) }),
    }));
    return dataResponses<DecryptStreamResponse>(decryptStream(ports, call, plain), begunOf, doneOf);
  }) satisfies DataStreamHandler<DecryptStreamRequest, DecryptStreamResponse>,
  reEncryptStream: ((call, messages) => {
    const plain = plainMessages(messages, ({ freshness, newAssociatedData, ...opening }) => ({
      ...opening,
      newAssociatedData,
      freshness: freshnessOf(freshness),
    }));
    const begun = ({ begun: envelope, source }: Begun) => ({
      part: {
        $case: 'begun' as const,
        value: {
          envelope: toProtoEnvelope(envelope),
          sourceKeyUsed: source?.sourceKeyUsed,
          sourceAlgorithmUsed: source?.sourceAlgorithmUsed ?? '',
        },
      },
    });
    return dataResponses<ReEncryptStreamResponse>(reEncryptStream(ports, call, plain), begun, doneOf);
  }) satisfies DataStreamHandler<ReEncryptStreamRequest, ReEncryptStreamResponse>,
});

const signedHandlers = (ports: StreamPorts) => ({
  signStream: ((call, messages) => {
    const plain = plainMessages(messages, ({ freshness, key, form, type, context }) => ({
      freshness: freshnessOf(freshness),
      key,
      form: FORMS.get(form),
      type,
      ...(context.length > 0 && { context }),
    }));
    return answerOf(signStream(ports, call, plain), ({ value, envelope, bytesReceived }) => ({
      jws: '',
      signature: Buffer.alloc(0),
      ...value,
      bytesReceived: BigInt(bytesReceived),
      envelope: toProtoEnvelope(envelope),
    }));
  }) satisfies DataStreamHandler<SignStreamRequest, SignStreamResponse>,
  verifyStream: ((call, messages) => {
    const plain = plainMessages(messages, ({ freshness, key, version, signature, context }) => ({
      freshness: freshnessOf(freshness),
      key,
      version,
      ...(context.length > 0 && { context }),
      signature: signatureOf(signature),
    }));
    return answerOf(verifyStream(ports, call, plain), ({ value, envelope, bytesReceived }) => ({
      valid: value.valid,
      bytesReceived: BigInt(bytesReceived),
      envelope: toProtoEnvelope(envelope),
    }));
  }) satisfies DataStreamHandler<VerifyStreamRequest, VerifyStreamResponse>,
  verifyWithStream: ((call, messages) => {
    const plain = plainMessages(messages, ({ freshness, publicJwk, signature, context }) => ({
      freshness: freshnessOf(freshness),
      publicJwk,
      signature: signatureOf(signature),
      ...(context.length > 0 && { context }),
    }));
    return answerOf(verifyWithStream(ports, call, plain), ({ value, envelope, bytesReceived }) => ({
      valid: value.valid,
      bytesReceived: BigInt(bytesReceived),
      envelope: toProtoEnvelope(envelope),
    }));
  }) satisfies DataStreamHandler<VerifyWithStreamRequest, VerifyWithStreamResponse>,
});

const movedHandlers = (ports: StreamPorts) => ({
  reSignStream: ((call, messages) => {
    const plain = plainMessages(messages, ({ freshness, ...opening }) => ({
      ...opening,
      freshness: freshnessOf(freshness),
    }));
    return answerOf(reSignStream(ports, call, plain), ({ value, envelope, bytesReceived }) => ({
      ...value,
      bytesReceived: BigInt(bytesReceived),
      envelope: toProtoEnvelope(envelope),
    }));
  }) satisfies DataStreamHandler<ReSignStreamRequest, ReSignStreamResponse>,
});

/** The methods of StreamService, each with its handler. */
export const streamRpcs = (ports: StreamPorts) => {
  const handlers = { ...sealedHandlers(ports), ...signedHandlers(ports), ...movedHandlers(ports) };
  const {
    encryptStream: e,
    decryptStream: d,
    reEncryptStream: r,
    signStream: s,
    verifyStream: v,
    verifyWithStream: w,
    reSignStream: rs,
  } = StreamServiceService;
  return [
    dataStreamRpc('encryptStream', e, handlers.encryptStream),
    dataStreamRpc('decryptStream', d, handlers.decryptStream),
    dataStreamRpc('reEncryptStream', r, handlers.reEncryptStream),
    dataStreamRpc('signStream', s, handlers.signStream),
    dataStreamRpc('verifyStream', v, handlers.verifyStream),
    dataStreamRpc('verifyWithStream', w, handlers.verifyWithStream),
    dataStreamRpc('reSignStream', rs, handlers.reSignStream),
  ];
};
