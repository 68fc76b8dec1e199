// VerifyWithStream: a raw signature or a detached JWS against data of any size, by a public key that the caller brings.
// A wrong signature is an answer; nothing of the key is stored.
import { checkSignature } from '../jose/check-signature.ts';
import { MAX_DATA_BYTES } from '../jose/checks.ts';
import type { Call } from '../ports/call.ts';
import { readCallerJwk, type VerifyWithInput, verifierOf } from '../verify-with.ts';
import { readDetached } from './detached-signature.ts';
import { type OpenedBy, performStream, type StreamOutput } from './perform-stream.ts';
import { SignedStream } from './signed-stream.ts';
import type { StreamMessage } from './stream-input.ts';
import type { StreamPorts } from './stream-ports.ts';
import type { VerifyStreamAnswer } from './verify-stream.ts';

export interface VerifyWithStreamOpening extends OpenedBy, Pick<VerifyWithInput, 'publicJwk' | 'signature'> {
  /** Context string of a raw signature; absent means none. */
  readonly context?: Buffer;
}

export const verifyWithStream = (
  ports: StreamPorts,
  call: Call,
  messages: AsyncIterator<StreamMessage<VerifyWithStreamOpening> | undefined>,
): AsyncGenerator<StreamOutput<VerifyStreamAnswer>, void, undefined> =>
  performStream(ports, call, 'verify-with', messages, async (run, opening) => {
    const { context } = opening;
    const jwk = readCallerJwk(run, opening.publicJwk);
    const { signature, jws, alg } = readDetached(opening.signature, context);
    const by = verifierOf(run, jwk, { alg });
    const wholeLimit = MAX_DATA_BYTES;
    const signed = new SignedStream({ algorithm: by.algorithm, context, wholeLimit, ...(jws && { jws }) });
    return {
      first: undefined,
      update: (data) => {
        signed.update(data);
        return [];
      },
      final: async () => {
        const valid = await checkSignature(ports, run, by, { data: signed.final(), signature });
        if (!valid) run.outcome('SIGNATURE_INVALID');
        return { last: [], answer: { valid } };
      },
      wipe: () => undefined,
    };
  });
