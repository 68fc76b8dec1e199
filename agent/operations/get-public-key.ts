// GetPublicKey: the public key of a version as JWK or PEM, or a JWK Set of all versions that may verify or decrypt.
import { type KeyRecord, type KeyVersionRecord, kidOf, type PublicJwk } from '../../proto/documents/key-record.ts';
import { primaryVersion, versionAllows } from '../../proto/documents/key-states.ts';
import { publicPem } from '../crypto/spki.ts';
import { AgentError, invalid } from '../errors.ts';
import { type Performed, type Ports, perform, type Run } from './perform.ts';
import type { Call } from './ports/call.ts';

export interface GetPublicKeyInput {
  readonly key: string;
  /** Undefined: the primary version. */
  readonly version: number | undefined;
  readonly format: 'jwk' | 'pem' | 'jwks' | undefined;
}

export interface GetPublicKeyOutput {
  readonly publicKey: string;
}

/** The JWK as handed out: RFC 7517 `kid`, `alg` and `use` beside the key itself. */
const publish = (key: KeyRecord, version: KeyVersionRecord, jwk: PublicJwk): PublicJwk => ({
  ...jwk,
  kid: kidOf(key.tenant, key.keyId, version.version),
  alg: version.jose,
  use: key.purpose === 'encrypt' ? 'enc' : 'sig',
});

const publicJwkOf = (version: KeyVersionRecord): PublicJwk => {
  if (version.publicJwk !== undefined) return version.publicJwk;
  throw invalid('key', `version ${version.version} is symmetric (${version.algorithm}) and has no public key`);
};

const pemOf = ({ algorithm: id, jose }: KeyVersionRecord, jwk: PublicJwk): string => {
  const pem = publicPem(id, jose, jwk);
  if (pem === undefined) throw invalid('format', `${id} has no PEM form; use jwk`);
  return pem;
};

const chosen = (key: KeyRecord, number: number | undefined): KeyVersionRecord => {
  const version = number === undefined ? primaryVersion(key) : key.versions.find((row) => row.version === number);
  if (version === undefined) throw new AgentError('KEY_UNKNOWN', { message: 'no such version of the key' });
  if (versionAllows(version.state, 'process')) return version;
  throw new AgentError('KEY_STATE', {
    message: `version ${version.version} of the key is ${version.state}`,
    metadata: { key: key.keyId, version: String(version.version), state: version.state },
  });
};

const keySet = (key: KeyRecord): string => {
  const usable = key.versions.filter((row) => versionAllows(row.state, 'process')).toReversed();
  const keys = usable.flatMap((row) => (row.publicJwk ? [publish(key, row, row.publicJwk)] : []));
  if (keys.length === 0) throw invalid('key', 'the key is symmetric and has no public key');
  return JSON.stringify({ keys });
};

const getPublic = (run: Run, input: GetPublicKeyInput): GetPublicKeyOutput => {
  const { format } = input;
  const key = run.key(input.key);
  if (format === undefined) throw invalid('format', 'jwk, pem or jwks');
  const version = chosen(key, format === 'jwks' ? undefined : input.version);
  run.used(key, version);
  if (format === 'jwks') return { publicKey: keySet(key) };
  const jwk = publicJwkOf(version);
  if (format === 'jwk') return { publicKey: JSON.stringify(publish(key, version, jwk)) };
  return { publicKey: pemOf(version, jwk) };
};

export const getPublicKey = (
  ports: Ports,
  call: Call,
  input: GetPublicKeyInput,
): Promise<Performed<GetPublicKeyOutput>> => perform(ports, call, 'get-public-key', (run) => getPublic(run, input));
