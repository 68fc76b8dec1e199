// Reads a public key from a file, a JWK or PEM: bounded, and never a private one, which should not leave its owner.
import { CliError } from './exit-codes.ts';
import { readInput } from './files.ts';
import type { Io } from './io.ts';

const LIMIT = { bytes: 16 * 1024, advice: 'a public key is much smaller' };
// RFC 7518 sections 6.2.2, 6.3.2, 6.4.1 and RFC 9964 section 3.
const PRIVATE_MEMBERS = ['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'k', 'priv'];

const parseJwk = (text: string, path: string): Readonly<Record<string, unknown>> => {
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

const readText = async (io: Io, path: string): Promise<string> => (await readInput(io, path, LIMIT)).toString('utf8');

export const readJwk = async (io: Io, path: string): Promise<Readonly<Record<string, unknown>>> =>
  parseJwk(await readText(io, path), path);

/** A JWK, or the text of a PEM, which the agent reads. */
export const readPublicKey = async (io: Io, path: string): Promise<Readonly<Record<string, unknown>> | string> => {
  const text = await readText(io, path);
  if (!text.startsWith('-----BEGIN ')) return parseJwk(text, path);
  if (text.startsWith('-----BEGIN PUBLIC KEY-----')) return text;
  throw new CliError('usage', `${path} is not a public key: give one that begins with -----BEGIN PUBLIC KEY-----`);
};
