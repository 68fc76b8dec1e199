// Verify: a JWS or a raw signature against a key version, in software. A wrong signature is an answer; a header whose
// `alg` is not the version's is refused.
import type { KeyObject } from 'node:crypto';
import type { KeyRecord, KeyVersionRecord, PublicJwk } from '../../proto/documents/key-record.ts';
import { invalid } from '../errors.ts';
import { checkSignature } from './jose/check-signature.ts';
import { namedKey, versionsToTry } from './jose/named-key.ts';
import {
  readSigned,
  requireData,
  requireSignable,
  type Signed,
  type SignedInput,
  signatureAlgorithm,
} from './jose/signed-input.ts';
import { type Part, type Performed, type Ports, perform, type Run } from './perform.ts';
import type { Call } from './ports/call.ts';

export interface VerifyInput extends SignedInput {
  /** Empty means that the kid of the JWS names it. */
  readonly key: string;
  /** 0 means the kid's, or the primary version. */
  readonly version: number;
}

export interface VerifyOutput {
  readonly valid: boolean;
  /** Of a valid JWS that carries it. */
  readonly payload?: Buffer;
}

export const isSignedBy = async (
  ports: Ports,
  run: Run,
  version: KeyVersionRecord,
  signed: Pick<Signed, 'data' | 'signature'>,
): Promise<boolean> => {
  if (version.publicJwk === undefined) throw new TypeError(`version ${version.version} has no public key`);
  const algorithm = signatureAlgorithm(version.jose);
  requireSignable(algorithm, signed.data);
  const keyOf = (jwk: PublicJwk): KeyObject => ports.publicKeys.get(jwk);
  return await checkSignature(ports, run, { algorithm, jwk: version.publicJwk, keyOf }, signed);
};

/** Whose part the key has where verifying is one half of the operation, and the request's field that names it. */
interface Side {
  readonly part?: Part;
  readonly keyField?: string;
}

/** The versions to check: one that is named, the primary for a raw signature, or all that the `alg` fits. */
export const toCheck = (
  run: Run,
  input: Pick<VerifyInput, 'key' | 'version'>,
  signed: Pick<Signed, 'alg' | 'kid'>,
  side: Side = {},
) => {
  const { key, version } = namedKey(run, { key: input.key, kid: signed.kid, field: 'jws', ...side });
  if (version !== undefined && input.version !== 0 && input.version !== version) {
    throw invalid('version', 'the kid of the JWS names another version');
  }
  const named = version ?? (input.version === 0 ? undefined : input.version);
  if (named === undefined && signed.alg === undefined) return { key, numbers: [undefined] };
  const numbers = versionsToTry({ key, version: named }, (row) => row.jose === signed.alg);
  if (numbers.length === 0) throw invalid('jws', 'no version of the key is for the "alg" of its header');
  return { key, numbers };
};

/** The key and version that it is signed by, or undefined where it is by none that may be tried. */
export const findSigner = async (
  ports: Ports,
  run: Run,
  input: VerifyInput,
  signed: Signed,
  side: Side = {},
): Promise<{ readonly key: KeyRecord; readonly version: KeyVersionRecord } | undefined> => {
  const { key, numbers } = toCheck(run, input, signed, side);
  for (const number of numbers) {
    const version = run.process(key, number, side.part);
    if (signed.alg !== undefined && signed.alg !== version.jose) {
      throw invalid('jws', `header "alg" is not "${version.jose}", that of the key version`);
    }
    if (await isSignedBy(ports, run, version, signed)) return { key, version };
  }
  return undefined;
};

export const verify = (ports: Ports, call: Call, input: VerifyInput): Promise<Performed<VerifyOutput>> =>
  perform(ports, call, 'verify', async (run) => {
    const signed = readSigned(input);
    if ((await findSigner(ports, run, input, signed)) !== undefined) {
      return signed.payload === undefined ? { valid: true } : { valid: true, payload: signed.payload };
    }
    requireData(signed);
    run.outcome('SIGNATURE_INVALID');
    return { valid: false };
  });
