// Data of any size: encrypt, decrypt, sign, verify and re-encrypt as streams. Invariant: what iterates to its end is
// whole; a stream that ends before its time throws. A stream is never repeated: its source can be read only once.
import { randomBytes, randomUUID } from 'node:crypto';
import {
  type DecryptStreamOpening,
  DecryptStreamRequest,
  EncryptStreamRequest,
  LocalKey,
  ReEncryptStreamRequest,
  ReSignStreamRequest,
  SignStreamRequest,
  StreamServiceService,
  VerifyStreamRequest,
  VerifyWithStreamRequest,
} from '../../proto/gen/mortise/agent/v1/stream.ts';
import { callMetadata, checkCall } from './call-metadata.ts';
import { type ByteRange, bytesOfRange, type ReadAt, takeBeginning } from './container-range.ts';
import { bytesOf, envelopeOf, publicKeyText } from './convert.ts';
import type { Credentials } from './credentials.ts';
import { type DecryptOptions, FORMS, type VerifyOptions } from './crypto.ts';
import { type DataResponse, DataStream, endedEarly, type Outcome } from './data-stream.ts';
import { asMortiseError } from './errors.ts';
import { type LocalStreamOptions, localStream, UploadGate } from './local-stream.ts';
import { cancelled } from './pending-call.ts';
import { type ByteSource, SourceReader } from './source-reader.ts';
import { exchange, fromSource, type Received, type StreamMethod } from './stream-call.ts';
import type {
  DecryptStreamOptions,
  EncryptStreamOptions,
  LocalChunks,
  ReEncryptStreamOptions,
  ReSignStreamOptions,
  SignStreamOptions,
  StreamSignature,
} from './stream-options.ts';
import type { CallOptions } from './transport.ts';
import type { Envelope } from './types.ts';

const NOTHING = Buffer.alloc(0);
const freshness = () => ({ nonce: randomBytes(16), timestamp: new Date() });

const signatureMessage = (what: StreamSignature) =>
  'jws' in what ? { $case: 'jws' as const, value: what.jws } : { $case: 'raw' as const, value: bytesOf(what.raw) };

interface Exchange<Response> {
  readonly method: StreamMethod<Response>;
  readonly opening: () => Uint8Array;
  readonly end: (bytes: number) => Uint8Array;
  readonly beginning?: Buffer;
}

/** The last message; the same of all, since its field is. */
const endMessage = (bytes: number, localBytes: number): Uint8Array => {
  const value = { bytes: BigInt(bytes), localBytes: BigInt(localBytes) };
  return EncryptStreamRequest.encode({ part: { $case: 'end', value } }).finish();
};
const end = (bytes: number): Uint8Array => endMessage(bytes, 0);

const LOCAL_KEYS: Readonly<Record<LocalChunks, LocalKey>> = {
  auto: LocalKey.IF_ALLOWED,
  always: LocalKey.REQUIRED,
  never: LocalKey.UNSPECIFIED,
};

/** Streams over connections of their own, so that they neither wait for other calls nor hold them up. */
export class StreamOperations {
  readonly #socketPath: string;
  readonly #credentials: Credentials;
  readonly #closed = new AbortController();

  constructor(options: { readonly socketPath: string; readonly credentials: Credentials }) {
    this.#socketPath = options.socketPath;
    this.#credentials = options.credentials;
  }

  /** Cancels the streams that are open. */
  close(): void {
    this.#closed.abort();
  }

  /** Encrypts to a container (docs/spec/chunked.md) under a key. */
  encrypt(key: string, source: ByteSource, options: EncryptStreamOptions = {}): DataStream {
    const { associatedData = NOTHING, local = 'auto' } = options;
    const localKey = LOCAL_KEYS[local];
    const value = { key, associatedData: bytesOf(associatedData), localKey };
    const opening = (): Uint8Array =>
      EncryptStreamRequest.encode({
        part: { $case: 'opening', value: { freshness: freshness(), ...value } },
      }).finish();
    const what = { method: StreamServiceService.encryptStream, opening, end };
    if (local === 'never') return this.#data(what, source, options);
    return new DataStream(() => this.#local('seal', what, new SourceReader(source), options));
  }

  /** Decrypts a container. Each piece is authentic; that nothing was cut off is known only at the end. */
  decrypt(source: ByteSource, options: DecryptStreamOptions = {}): DataStream {
    const { local = 'auto' } = options;
    const what = this.#decrypting(options, { localKey: LOCAL_KEYS[local], range: undefined });
    if (local === 'never') return this.#data(what, source, options);
    return new DataStream(() => this.#local('open', what, new SourceReader(source), options));
  }

  /**
   * Decrypts a range of a container, of which no more is read than its beginning and the chunks that hold the range.
   * Less than the range comes out only where the plaintext ends before it does.
   */
  decryptRange(read: ReadAt, range: ByteRange, options: DecryptOptions = {}): DataStream {
    const { offset, length } = range;
    const isCount = (value: number): boolean => Number.isSafeInteger(value) && value >= 0;
    if (!isCount(offset) || (length !== undefined && !(isCount(length) && length > 0))) {
      throw new RangeError('a range has an offset of 0 or more and a length of 1 or more');
    }
    const value = { offset: BigInt(offset), length: BigInt(length ?? 0) };
    const what = this.#decrypting(options, { localKey: LocalKey.UNSPECIFIED, range: value });
    return this.#data(what, bytesOfRange(read, range), options);
  }

  /** Moves a container to another key; the plaintext does not leave the agent. */
  reEncrypt(source: ByteSource, options: ReEncryptStreamOptions = {}): DataStream {
    const { sourceKey = '', targetKey = '', associatedData = NOTHING, newAssociatedData } = options;
    const value = {
      sourceKey,
      targetKey,
      associatedData: bytesOf(associatedData),
      newAssociatedData: newAssociatedData && bytesOf(newAssociatedData),
    };
    const opening = (): Uint8Array =>
      ReEncryptStreamRequest.encode({
        part: { $case: 'opening', value: { freshness: freshness(), ...value } },
      }).finish();
    return this.#data({ method: StreamServiceService.reEncryptStream, opening, end }, source, options);
  }

  /** Signs. Ed25519 signs the message whole and has the limits of `sign`. */
  async sign(
    key: string,
    source: ByteSource,
    options: SignStreamOptions = {},
  ): Promise<{
    readonly jws: string;
    readonly signature: Buffer;
    readonly bytes: number;
    readonly envelope: Envelope;
  }> {
    const { form = 'jws-detached', type = '' } = options;
    const context = bytesOf(options.context ?? NOTHING);
    const value = { freshness: freshness(), key, form: FORMS[form], type, context };
    const opening = (): Uint8Array => SignStreamRequest.encode({ part: { $case: 'opening', value } }).finish();
    const answer = await this.#answer({ method: StreamServiceService.signStream, opening, end }, source, options);
    const { jws, signature, bytesReceived, envelope } = answer;
    return { jws, signature, bytes: Number(bytesReceived), envelope: envelopeOf(envelope) };
  }

  /** Verifies a signature over the data. A wrong one is an answer, not an error. */
  async verify(
    what: StreamSignature,
    source: ByteSource,
    options: VerifyOptions = {},
  ): Promise<{ readonly valid: boolean; readonly bytes: number; readonly envelope: Envelope }> {
    const { key = '', version = 0 } = options;
    const signature = signatureMessage(what);
    const context = bytesOf(('raw' in what ? what.context : undefined) ?? NOTHING);
    const value = { freshness: freshness(), key, version, signature, context };
    const opening = (): Uint8Array => VerifyStreamRequest.encode({ part: { $case: 'opening', value } }).finish();
    const answer = await this.#answer({ method: StreamServiceService.verifyStream, opening, end }, source, options);
    const { valid, bytesReceived, envelope } = answer;
    return { valid, bytes: Number(bytesReceived), envelope: envelopeOf(envelope) };
  }

  /**
   * Verifies a detached JWS over the data and signs the same data by another key, in the same form.
   * @throws {MortiseError} SIGNATURE_INVALID where the old one is wrong
   */
  async reSign(
    jws: string,
    source: ByteSource,
    options: ReSignStreamOptions = {},
  ): Promise<{
    readonly jws: string;
    readonly bytes: number;
    readonly source: { readonly keyId: string; readonly version: number; readonly algorithm: string };
    readonly envelope: Envelope;
  }> {
    const { sourceKey = '', targetKey = '' } = options;
    const value = { freshness: freshness(), jws, sourceKey, targetKey };
    const opening = (): Uint8Array => ReSignStreamRequest.encode({ part: { $case: 'opening', value } }).finish();
    const answer = await this.#answer({ method: StreamServiceService.reSignStream, opening, end }, source, options);
    const { sourceKeyUsed: { keyId = '', version = 0 } = {}, sourceAlgorithmUsed: algorithm } = answer;
    const [bytes, envelope] = [Number(answer.bytesReceived), envelopeOf(answer.envelope)];
    return { jws: answer.jws, bytes, source: { keyId, version, algorithm }, envelope };
  }

  /** Verifies a signature over the data by a public key, a JWK or PEM text. A wrong one is an answer, not an error. */
  async verifyWith(
    publicKey: object | string,
    what: StreamSignature,
    source: ByteSource,
    options: CallOptions = {},
  ): Promise<{ readonly valid: boolean; readonly bytes: number; readonly envelope: Envelope }> {
    const context = bytesOf(('raw' in what ? what.context : undefined) ?? NOTHING);
    const value = {
      freshness: freshness(),
      publicJwk: publicKeyText(publicKey),
      signature: signatureMessage(what),
      context,
    };
    const opening = (): Uint8Array => VerifyWithStreamRequest.encode({ part: { $case: 'opening', value } }).finish();
    const method = StreamServiceService.verifyWithStream;
    const { valid, bytesReceived, envelope } = await this.#answer({ method, opening, end }, source, options);
    return { valid, bytes: Number(bytesReceived), envelope: envelopeOf(envelope) };
  }

  #decrypting(options: DecryptOptions, how: Pick<DecryptStreamOpening, 'localKey' | 'range'>): Exchange<DataResponse> {
    const { key = '' } = options;
    const associatedData = bytesOf(options.associatedData ?? NOTHING);
    const opening = (): Uint8Array =>
      DecryptStreamRequest.encode({
        part: { $case: 'opening', value: { freshness: freshness(), key, associatedData, ...how } },
      }).finish();
    return { method: StreamServiceService.decryptStream, opening, end };
  }

  /** A stream on whose chunks this process works, where the agent lets it. */
  async *#local(
    direction: LocalStreamOptions['direction'],
    what: Exchange<DataResponse>,
    reader: SourceReader,
    options: CallOptions,
  ): AsyncGenerator<Outcome, void, undefined> {
    const { correlationId = randomUUID(), deadlineMs = Number.POSITIVE_INFINITY } = options;
    const deadline = Date.now() + deadlineMs;
    const gate = new UploadGate(reader);
    const last = (bytes: number): Uint8Array => endMessage(bytes, gate.localBytes);
    const cancelling = new AbortController();
    const ends = [cancelling.signal, this.#closed.signal];
    const signal = AbortSignal.any(options.signal === undefined ? ends : [...ends, options.signal]);
    let beginning: Buffer = NOTHING;
    if (direction === 'open') {
      const taken = await fromSource(takeBeginning(reader), { signal, deadline, correlationId }).catch((thrown) => {
        reader.close();
        throw thrown;
      });
      beginning = taken.beginning;
      if (!taken.isWhole) gate.toAgent(); // who says what is wrong with it
    }
    const messages = this.#exchange({ ...what, beginning, end: last }, gate.data(), {
      ...options,
      correlationId,
      signal,
      deadlineMs: deadline - Date.now(),
    });
    yield* localStream({ direction, reader, gate, messages, correlationId, cancel: () => cancelling.abort() });
  }

  #data(what: Exchange<DataResponse>, source: ByteSource, options: CallOptions): DataStream {
    return new DataStream(() => this.#exchange(what, source, options));
  }

  async #answer<Response>(what: Exchange<Response>, source: ByteSource, options: CallOptions): Promise<Response> {
    let answer: Response | undefined;
    for await (const message of this.#exchange(what, source, options)) {
      if ('response' in message) answer = message.response;
    }
    if (answer === undefined) throw endedEarly();
    return answer;
  }

  async *#exchange<Response>(
    { method, opening, beginning = NOTHING, end: last }: Exchange<Response>,
    source: ByteSource,
    options: CallOptions,
  ): AsyncGenerator<Received<Response>, void, undefined> {
    const { correlationId = randomUUID(), deadlineMs = Number.POSITIVE_INFINITY } = options;
    const closed = this.#closed.signal;
    const signal = options.signal === undefined ? closed : AbortSignal.any([closed, options.signal]);
    if (signal.aborted) throw cancelled(correlationId);
    const token = await this.#credentials.token();
    checkCall(token, correlationId);
    const deadline = Date.now() + deadlineMs;
    try {
      const call = { socketPath: this.#socketPath, metadata: callMetadata(token, correlationId), correlationId };
      yield* exchange({ ...call, deadline, signal, method, source, beginning, opening: opening(), end: last });
    } catch (thrown) {
      const error = asMortiseError(thrown, correlationId);
      if (error.code === 'TOKEN_EXPIRED') this.#credentials.expire(token);
      throw error;
    }
  }
}
