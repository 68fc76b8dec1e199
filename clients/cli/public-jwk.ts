// Reads a public JWK from a file: bounded, an object, and without private members that should never leave their owner.
import { CliError } from './exit-codes.ts';
import { readInput } from './files.ts';
import type { Io } from './io.ts';

const LIMIT = { bytes: 16 * 1024, advice: 'a public JWK is much smaller' };
// RFC 7518 sections 6.2.2, 6.3.2, 6.4.1 and RFC 9964 section 3.
const PRIVATE_MEMBERS = ['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'k', 'priv'];

export const readJwk = async (io: Io, path: string): Promise<Readonly<Record<string, unknown>>> => {
  const text = (await readInput(io, path, LIMIT)).toString('utf8');
  let jwk: unknown;
  try {
    jwk = JSON.parse(text);
  } catch (cause) {
    throw new CliError('usage', `${path} is not JSON; expected a public JWK`, cause);
  }
  if (typeof jwk !== 'object' || jwk === null || !('kty' in jwk)) {
    throw new CliError('usage', `${path} is not a JWK: it has no "kty"`);
  }
  if (PRIVATE_MEMBERS.some((name) => name in jwk)) {
    throw new CliError('usage', `${path} holds a private key; give the public one`);
  }
  return jwk as Readonly<Record<string, unknown>>;
};
