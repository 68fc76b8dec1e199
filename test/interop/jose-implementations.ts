// Three JOSE implementations that share no code with the agent, behind one interface: jose (npm), Debian's `jose` (C,
// latchset) and python3-jwcrypto. Each says which algorithms it has.
import { createPrivateKey, createPublicKey, type JsonWebKey, type KeyObject } from 'node:crypto';
import { CompactEncrypt, CompactSign, compactDecrypt, compactVerify } from 'jose';
import { outputOf, requireProgram, runTool } from './run-tool.ts';

export interface JoseImplementation {
  readonly name: string;
  readonly keyManagement: readonly string[];
  readonly contentEncryption: readonly string[];
  /** Algorithms by the names that it takes. */
  readonly signatures: readonly string[];
  /** Fails with clear words where it is not installed. */
  require(): Promise<void>;
  encrypt(jwk: JsonWebKey, alg: string, enc: string, plaintext: Buffer): Promise<string>;
  decrypt(jwk: JsonWebKey, jwe: string): Promise<Buffer>;
  sign(jwk: JsonWebKey, alg: string, payload: Buffer): Promise<string>;
  /** The payload; rejects where the signature is wrong. */
  verify(jwk: JsonWebKey, jws: string): Promise<Buffer>;
}

const GCM_KEY_WRAPS = ['A128GCMKW', 'A192GCMKW', 'A256GCMKW'];
const ENCS = ['A128GCM', 'A192GCM', 'A256GCM', 'A128CBC-HS256', 'A192CBC-HS384', 'A256CBC-HS512'];
const RSA_AND_EC = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512'];

const keyOf = (jwk: JsonWebKey): KeyObject | Uint8Array => {
  if (jwk.kty === 'oct') return Buffer.from(jwk['k'] as string, 'base64url');
  return jwk.d === undefined
    ? createPublicKey({ key: jwk, format: 'jwk' })
    : createPrivateKey({ key: jwk, format: 'jwk' });
};

export const npmJose: JoseImplementation = {
  name: 'jose (npm)',
  keyManagement: ['RSA-OAEP-256', 'ECDH-ES+A256KW', ...GCM_KEY_WRAPS],
  contentEncryption: ENCS,
  signatures: [...RSA_AND_EC, 'Ed25519', 'EdDSA'],
  require: async () => undefined,
  encrypt: (jwk, alg, enc, plaintext) =>
    new CompactEncrypt(plaintext).setProtectedHeader({ alg, enc }).encrypt(keyOf(jwk)),
  decrypt: async (jwk, jwe) => Buffer.from((await compactDecrypt(jwe, keyOf(jwk))).plaintext),
  sign: (jwk, alg, payload) => new CompactSign(payload).setProtectedHeader({ alg }).sign(keyOf(jwk)),
  verify: async (jwk, jws) => Buffer.from((await compactVerify(jws, keyOf(jwk))).payload),
};

const JOSE = '/usr/bin/jose';
const joseCli = async (args: readonly string[], files: Record<string, string | Buffer>): Promise<Buffer> =>
  outputOf(runTool(JOSE, args, files));

export const latchsetJose: JoseImplementation = {
  name: "Debian's jose",
  keyManagement: ['ECDH-ES+A256KW', ...GCM_KEY_WRAPS], // this build lists no RSA-OAEP-256
  contentEncryption: ENCS,
  signatures: RSA_AND_EC,
  require: () => requireProgram(JOSE, 'jose'),
  encrypt: async (jwk, alg, enc, plaintext) => {
    const template = JSON.stringify({ protected: { alg, enc } });
    const files = { jwk: JSON.stringify(jwk), plaintext };
    return String(await joseCli(['jwe', 'enc', '-i', template, '-I', 'plaintext', '-k', 'jwk', '-c'], files));
  },
  decrypt: (jwk, jwe) => joseCli(['jwe', 'dec', '-i', 'jwe', '-k', 'jwk'], { jwk: JSON.stringify(jwk), jwe }),
  sign: async (jwk, alg, payload) => {
    const files = { jwk: JSON.stringify(jwk), payload };
    const template = JSON.stringify({ protected: { alg } });
    return String(await joseCli(['jws', 'sig', '-I', 'payload', '-s', template, '-k', 'jwk', '-c'], files));
  },
  verify: (jwk, jws) => joseCli(['jws', 'ver', '-i', 'jws', '-k', 'jwk', '-O', '-'], { jwk: JSON.stringify(jwk), jws }),
};

const PYTHON = '/usr/bin/python3';
/** Debian's own Python, whose jwcrypto the set-up installs; any other on the path would not have it. */
const JWCRYPTO = `
import json, sys
from jwcrypto import jwe, jwk, jws
job = json.load(open('job'))
key = jwk.JWK(**job['jwk'])
data = open('data', 'rb').read()
if job['do'] == 'encrypt':
    made = jwe.JWE(data, json.dumps({'alg': job['alg'], 'enc': job['enc']}), algs=[job['alg'], job['enc']])
    made.add_recipient(key)
    out = made.serialize(compact=True).encode()
elif job['do'] == 'decrypt':
    read = jwe.JWE(algs=job['algs'])
    read.deserialize(data.decode(), key)
    out = read.payload
elif job['do'] == 'sign':
    made = jws.JWS(data)
    made.add_signature(key, None, json.dumps({'alg': job['alg']}), None)
    out = made.serialize(compact=True).encode()
else:
    read = jws.JWS()
    read.allowed_algs = job['algs']
    read.deserialize(data.decode(), key)
    out = read.payload
sys.stdout.buffer.write(out)
`;

const python = (job: Record<string, unknown>, data: string | Buffer): Promise<Buffer> =>
  outputOf(runTool(PYTHON, ['script.py'], { 'script.py': JWCRYPTO, job: JSON.stringify(job), data }));

export const pythonJwcrypto: JoseImplementation = {
  name: 'python3-jwcrypto',
  keyManagement: ['RSA-OAEP-256', 'ECDH-ES+A256KW', ...GCM_KEY_WRAPS],
  contentEncryption: ENCS,
  signatures: [...RSA_AND_EC, 'EdDSA'],
  require: async () => {
    await requireProgram(PYTHON, 'python3-jwcrypto');
    const { exitCode, stderr } = await runTool(PYTHON, ['-c', 'import jwcrypto']);
    if (exitCode !== 0) throw new Error(`python3-jwcrypto is missing: run "npm test", which installs it: ${stderr}`);
  },
  encrypt: async (jwk, alg, enc, plaintext) => String(await python({ do: 'encrypt', jwk, alg, enc }, plaintext)),
  decrypt: (jwk, text) =>
    python({ do: 'decrypt', jwk, algs: [...pythonJwcrypto.keyManagement, ...pythonJwcrypto.contentEncryption] }, text),
  sign: async (jwk, alg, payload) => String(await python({ do: 'sign', jwk, alg }, payload)),
  verify: (jwk, text) => python({ do: 'verify', jwk, algs: pythonJwcrypto.signatures }, text),
};

export const IMPLEMENTATIONS: readonly JoseImplementation[] = [npmJose, latchsetJose, pythonJwcrypto];
