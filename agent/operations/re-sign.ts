// ReSign: verifies a JWS and signs the same payload by another key, or by the primary version of the same, in the same
// form. Invariant: nothing is signed whose old signature does not verify.
import { parseCompactJws } from '../crypto/jws.ts';
import { AgentError, invalid } from '../errors.ts';
import { MAX_DATA_BYTES, MAX_JOSE_BYTES, requireSize } from './jose/checks.ts';
import { noteSource, type SourceUsed, sidesOf } from './jose/parts.ts';
import { readSigned, requireData } from './jose/signed-input.ts';
import { type Performed, type Ports, perform, type Run } from './perform.ts';
import type { Call } from './ports/call.ts';
import { checkAgainst, type SignatureForm, signAs } from './sign.ts';
import { findSigner } from './verify.ts';

export interface ReSignInput {
  readonly jws: string;
  /** Of a detached JWS; undefined where the JWS carries its payload. */
  readonly message: Buffer | undefined;
  /** Empty means that the kid of the JWS names it. */
  readonly sourceKey: string;
  /** Empty means the source key. */
  readonly targetKey: string;
}

export interface ReSignOutput extends SourceUsed {
  readonly jws: string;
}

interface Old {
  readonly form: SignatureForm;
  readonly type: string;
  readonly message: Buffer;
}

/** What of the JWS goes over into the new one. */
const readOld = ({ jws, message }: ReSignInput): Old => {
  requireSize('jws', jws.length, MAX_JOSE_BYTES);
  const { header, payload, encoded } = parseCompactJws(jws);
  const type = header.members['typ'] ?? '';
  if (typeof type !== 'string') throw invalid('jws', 'header "typ" is not a string');
  const content = payload ?? message ?? Buffer.alloc(0);
  requireSize('jws', content.length, MAX_DATA_BYTES);
  const form = !encoded ? 'unencoded' : payload === undefined ? 'detached' : 'compact';
  return { form, type, message: content };
};

const signAgain = async (
  ports: Ports,
  run: Run,
  name: string,
  old: Old,
  side: ReturnType<typeof sidesOf>['target'],
) => {
  const key = run.key(name, 'target_key', side);
  checkAgainst(key, { message: old.message }, old.form);
  const version = await run.apply(key, side);
  const { form, type, message } = old;
  const made = await signAs(ports, run, { key, version }, { data: { message }, form, type });
  if (!('jws' in made)) throw new TypeError('a JWS was asked for');
  return made.jws;
};

export const reSign = (ports: Ports, call: Call, input: ReSignInput): Promise<Performed<ReSignOutput>> =>
  perform(ports, call, 're-sign', async (run) => {
    const { jws, message, sourceKey, targetKey } = input;
    const signed = readSigned({ signature: { jws }, input: message === undefined ? undefined : { message } });
    const old = readOld(input);
    const { source, target } = sidesOf(run, { read: 'verify', write: 'sign', sameKey: targetKey === '' });
    const named = { key: sourceKey, version: 0, signature: { jws }, input: undefined };
    const signer = await findSigner(ports, run, named, signed, { part: source, keyField: 'source_key' });
    if (signer === undefined) {
      requireData(signed);
      throw new AgentError('SIGNATURE_INVALID');
    }
    const used = noteSource(run, signer.key, signer.version);
    const name = targetKey === '' ? signer.key.keyId : targetKey;
    return { jws: await signAgain(ports, run, name, old, target), ...used };
  });
