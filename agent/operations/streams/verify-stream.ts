// VerifyStream: a raw signature or a detached JWS against data of any size. A wrong signature is an answer.
import { invalid } from '../../errors.ts';
import { MAX_DATA_BYTES } from '../jose/checks.ts';
import { signatureAlgorithm } from '../jose/signed-input.ts';
import type { Call } from '../ports/call.ts';
import { isSignedBy, toCheck, type VerifyInput } from '../verify.ts';
import { readDetached } from './detached-signature.ts';
import { type OpenedBy, performStream, type StreamOutput } from './perform-stream.ts';
import { SignedStream } from './signed-stream.ts';
import type { StreamMessage } from './stream-input.ts';
import type { StreamPorts } from './stream-ports.ts';

export interface VerifyStreamOpening extends OpenedBy, Pick<VerifyInput, 'key' | 'version' | 'signature'> {
  /** Context string of a raw signature; absent means none. */
  readonly context?: Buffer;
}

export interface VerifyStreamAnswer {
  readonly valid: boolean;
}

export const verifyStream = (
  ports: StreamPorts,
  call: Call,
  messages: AsyncIterator<StreamMessage<VerifyStreamOpening> | undefined>,
): AsyncGenerator<StreamOutput<VerifyStreamAnswer>, void, undefined> =>
  performStream(ports, call, 'verify', messages, async (run, opening) => {
    const { context } = opening;
    const { signature, jws, ...header } = readDetached(opening.signature, context);
    const { key, numbers } = toCheck(run, opening, header);
    const versionOf = (number: number | undefined) => {
      const version = run.process(key, number);
      if (header.alg === undefined || header.alg === version.jose) return version;
      throw invalid('jws', `header "alg" is not "${version.jose}", that of the key version`);
    };
    const { jose } = versionOf(numbers[0]);
    const algorithm = signatureAlgorithm(jose);
    const wholeLimit = MAX_DATA_BYTES;
    const signed = new SignedStream({ algorithm, context, wholeLimit, ...(jws !== undefined && { jws }) });
    return {
      first: undefined,
      update: (data) => {
        signed.update(data);
        return [];
      },
      final: async () => {
        const data = signed.final();
        let valid = false;
        for (const number of numbers) valid ||= await isSignedBy(ports, run, versionOf(number), { data, signature });
        if (!valid) run.outcome('SIGNATURE_INVALID');
        return { last: [], answer: { valid } };
      },
      wipe: () => undefined,
    };
  });
