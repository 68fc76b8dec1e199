// VerifyStream: a raw signature or a detached JWS against data of any size. A wrong signature is an answer.
import { parseCompactJws } from '../../crypto/jws.ts';
import { canonicalJwsAlgorithm } from '../../crypto/signature-algorithms.ts';
import { invalid } from '../../errors.ts';
import {
  MAX_DATA_BYTES,
  MAX_JOSE_BYTES,
  MAX_RAW_SIGNATURE_BYTES,
  refuseForbidden,
  requireSize,
} from '../jose/checks.ts';
import { signatureAlgorithm } from '../jose/signed-input.ts';
import type { Call } from '../ports.ts';
import { isSignedBy, toCheck, type VerifyInput } from '../verify.ts';
import { type OpenedBy, performStream, type StreamOutput } from './perform-stream.ts';
import { SignedStream } from './signed-stream.ts';
import type { StreamMessage } from './stream-input.ts';
import type { StreamPorts } from './stream-ports.ts';

export interface VerifyStreamOpening extends OpenedBy, Pick<VerifyInput, 'key' | 'version' | 'signature'> {}

export interface VerifyStreamAnswer {
  readonly valid: boolean;
}

const readSignature = (given: VerifyInput['signature']) => {
  if (given === undefined) throw invalid('signature', 'jws or raw is required');
  if ('raw' in given) {
    requireSize('raw', given.raw.length, MAX_RAW_SIGNATURE_BYTES);
    return { signature: given.raw, alg: undefined, kid: undefined, jws: undefined };
  }
  requireSize('jws', given.jws.length, MAX_JOSE_BYTES);
  const jws = parseCompactJws(given.jws);
  refuseForbidden(jws.header.alg);
  if (jws.payload !== undefined) throw invalid('jws', 'carries its payload; a stream is verified by a detached one');
  return { signature: jws.signature, alg: canonicalJwsAlgorithm(jws.header.alg), kid: jws.header.kid, jws };
};

export const verifyStream = (
  ports: StreamPorts,
  call: Call,
  messages: AsyncIterator<StreamMessage<VerifyStreamOpening> | undefined>,
): AsyncGenerator<StreamOutput<VerifyStreamAnswer>, void, undefined> =>
  performStream(ports, call, 'verify', messages, async (run, opening) => {
    const { signature, jws, ...header } = readSignature(opening.signature);
    const { key, numbers } = toCheck(run, opening, header);
    const versionOf = (number: number | undefined) => {
      const version = run.process(key, number);
      if (header.alg === undefined || header.alg === version.jose) return version;
      throw invalid('jws', `header "alg" is not "${version.jose}", that of the key version`);
    };
    const { jose } = versionOf(numbers[0]);
    const algorithm = signatureAlgorithm(jose);
    const signed = new SignedStream({ algorithm, wholeLimit: MAX_DATA_BYTES, ...(jws !== undefined && { jws }) });
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
