// ReSignStream: verifies a detached JWS over data of any size and signs the same data by another key, or by the primary
// version of the same, in the same form. Invariant: nothing is signed whose old signature does not verify.
import { kidOf } from '../../../proto/documents/key-record.ts';
import { buildCompactJws, buildJwsHeader } from '../../crypto/jws.ts';
import { AgentError, invalid } from '../../errors.ts';
import { MAX_DATA_BYTES } from '../jose/checks.ts';
import { noteSource, type SourceUsed, sidesOf } from '../jose/parts.ts';
import { signatureAlgorithm } from '../jose/signed-input.ts';
import type { Part, Run } from '../perform.ts';
import type { Call } from '../ports/call.ts';
import { signData, WHOLE_MESSAGE_LIMITS } from '../sign.ts';
import { isSignedBy, toCheck } from '../verify.ts';
import { type DetachedSignature, readDetached } from './detached-signature.ts';
import { type OpenedBy, performStream, type StreamOutput } from './perform-stream.ts';
import { SignedStream } from './signed-stream.ts';
import type { StreamMessage } from './stream-input.ts';
import type { StreamPorts } from './stream-ports.ts';

export interface ReSignStreamOpening extends OpenedBy {
  /** Detached or unencoded. */
  readonly jws: string;
  /** Empty means that the kid of the JWS names it. */
  readonly sourceKey: string;
  /** Empty means the source key. */
  readonly targetKey: string;
}

export interface ReSignStreamAnswer extends SourceUsed {
  readonly jws: string;
}

type Old = DetachedSignature & { readonly jws: NonNullable<DetachedSignature['jws']> };

const readOld = (text: string): { readonly old: Old; readonly type: string } => {
  const old = readDetached({ jws: text }, undefined);
  if (old.jws === undefined) throw new TypeError('a JWS was read');
  const type = old.jws.header.members['typ'] ?? '';
  if (typeof type !== 'string') throw invalid('jws', 'header "typ" is not a string');
  return { old: { ...old, jws: old.jws }, type };
};

/** The old signature, checked when all data has come. */
const openSource = (run: Run, old: Old, key: string, part: Part) => {
  const side = { part, keyField: 'source_key' };
  const { key: record, numbers } = toCheck(run, { key, version: 0 }, old, side);
  const versionOf = (number: number | undefined) => {
    const version = run.process(record, number, part);
    if (old.alg === version.jose) return version;
    throw invalid('jws', `header "alg" is not "${version.jose}", that of the key version`);
  };
  const algorithm = signatureAlgorithm(versionOf(numbers[0]).jose);
  const signed = new SignedStream({ algorithm, wholeLimit: MAX_DATA_BYTES, jws: old.jws });
  return { record, numbers, versionOf, signed };
};

/** The new signature, whose use is taken before any data is read. */
const openTarget = async (
  run: Run,
  name: string,
  part: Part,
  { encoded, type }: { encoded: boolean; type: string },
) => {
  const key = run.key(name, 'target_key', part);
  const version = await run.apply(key, part);
  const kid = kidOf(key.tenant, key.keyId, version.version);
  const protectedSegment = buildJwsHeader({ alg: version.jose, kid, type: type === '' ? undefined : type, encoded });
  const signed = new SignedStream({
    algorithm: signatureAlgorithm(version.jose),
    wholeLimit: WHOLE_MESSAGE_LIMITS[encoded ? 'detached' : 'unencoded'],
    jws: { protectedSegment, encoded },
  });
  return { key, version, protectedSegment, signed };
};

export const reSignStream = (
  ports: StreamPorts,
  call: Call,
  messages: AsyncIterator<StreamMessage<ReSignStreamOpening> | undefined>,
): AsyncGenerator<StreamOutput<ReSignStreamAnswer>, void, undefined> =>
  performStream(ports, call, 're-sign', messages, async (run, { jws, sourceKey, targetKey }) => {
    const { old, type } = readOld(jws);
    const sides = sidesOf(run, { read: 'verify', write: 'sign', sameKey: targetKey === '' });
    const source = openSource(run, old, sourceKey, sides.source);
    const name = targetKey === '' ? source.record.keyId : targetKey;
    const target = await openTarget(run, name, sides.target, { encoded: old.jws.encoded, type });
    return {
      first: undefined,
      update: (data) => {
        source.signed.update(data);
        target.signed.update(data);
        return [];
      },
      final: async () => {
        const what = { data: source.signed.final(), signature: old.signature };
        for (const number of source.numbers) {
          const by = source.versionOf(number);
          if (!(await isSignedBy(ports, run, by, what))) continue;
          const used = noteSource(run, source.record, by);
          run.used(target.key, target.version);
          const signature = await signData(ports, run, target.key, target.version, target.signed.final());
          return { last: [], answer: { jws: buildCompactJws(target.protectedSegment, undefined, signature), ...used } };
        }
        throw new AgentError('SIGNATURE_INVALID');
      },
      wipe: () => undefined,
    };
  });
