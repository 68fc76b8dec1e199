// SignStream: a detached JWS or a raw signature over data of any size, by the primary version of a key.
import { kidOf } from '../../../proto/documents/key-record.ts';
import { primaryVersion } from '../../../proto/documents/key-states.ts';
import { buildCompactJws, buildJwsHeader } from '../../crypto/jws.ts';
import { invalid } from '../../errors.ts';
import { requireContext, signatureAlgorithm } from '../jose/signed-input.ts';
import type { Call } from '../ports/call.ts';
import {
  requireRawFor,
  requireType,
  type SignatureForm,
  type SignOutput,
  signData,
  WHOLE_MESSAGE_LIMITS,
} from '../sign.ts';
import { type OpenedBy, performStream, type StreamOutput } from './perform-stream.ts';
import { SignedStream } from './signed-stream.ts';
import type { StreamMessage } from './stream-input.ts';
import type { StreamPorts } from './stream-ports.ts';

export interface SignStreamOpening extends OpenedBy {
  readonly key: string;
  /** Undefined means one that this agent does not know. */
  readonly form: SignatureForm | undefined;
  /** Empty means none. */
  readonly type: string;
  /** Context string of a raw signature; absent means none. */
  readonly context?: Buffer;
}

export const signStream = (
  ports: StreamPorts,
  call: Call,
  messages: AsyncIterator<StreamMessage<SignStreamOpening> | undefined>,
): AsyncGenerator<StreamOutput<SignOutput>, void, undefined> =>
  performStream(ports, call, 'sign', messages, async (run, { key: name, form, type, context }) => {
    if (form === undefined) throw invalid('form', 'not a known form');
    if (form === 'compact') throw invalid('form', 'a stream cannot be carried inside its signature');
    requireType(type, form);
    requireRawFor(context, form);
    const key = run.key(name);
    const primary = primaryVersion(key);
    if (primary !== undefined) requireContext(signatureAlgorithm(primary.jose), context); // before it takes a use
    const version = await run.apply(key);
    const encoded = form !== 'unencoded';
    const kid = kidOf(key.tenant, key.keyId, version.version);
    const protectedSegment =
      form === 'raw'
        ? undefined
        : buildJwsHeader({ alg: version.jose, kid, type: type === '' ? undefined : type, encoded });
    const signed = new SignedStream({
      algorithm: signatureAlgorithm(version.jose),
      context,
      wholeLimit: WHOLE_MESSAGE_LIMITS[form],
      ...(protectedSegment !== undefined && { jws: { protectedSegment, encoded } }),
    });
    return {
      first: undefined,
      update: (data) => {
        signed.update(data);
        return [];
      },
      final: async () => {
        const signature = await signData(ports, run, key, version, signed.final());
        const answer =
          protectedSegment === undefined
            ? { signature }
            : { jws: buildCompactJws(protectedSegment, undefined, signature) };
        return { last: [], answer };
      },
      wipe: () => undefined,
    };
  });
