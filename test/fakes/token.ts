// A token in software, for tests that need no SoftHSM: real cryptography by node:crypto, keys in memory, and a queue of
// scripted faults. It passes the same contract as the real token (fakes/token.test.ts), with post-quantum keys where the
// test asks for a token that holds them.
import {
  constants,
  createCipheriv,
  createDecipheriv,
  createECDH,
  createHmac,
  createPrivateKey,
  createPublicKey,
  createSecretKey,
  decapsulate,
  generateKeyPairSync,
  type JsonWebKey,
  type KeyObject,
  privateDecrypt,
  randomBytes,
  type SignKeyObjectInput,
  sign,
} from 'node:crypto';
import { AgentError, type Code, invalid } from '../../agent/errors.ts';
import type { TokenCall, TokenPort } from '../../agent/operations/ports/token.ts';
import { algorithm, forbiddenAlgorithm, type Purpose } from '../../proto/documents/algorithms.ts';
import { compositePublicJwk } from '../../proto/documents/composite-keys.ts';
import type { PublicJwk } from '../../proto/documents/key-record.ts';
import { ML_KEM } from '../../proto/documents/ml-kem.ts';
import { isMaterialLength, schemeOfKey, type WrapScheme, wrappingKeyId } from '../../proto/documents/wrap-schemes.ts';
import { signDigestEcdsa, signDigestPkcs1, signDigestPss } from './digest-signatures.ts';
import { openInSoftware, sealInSoftware, type WrapKeys } from './wraps.ts';

type Method = Exclude<keyof TokenPort, 'canHold' | 'wrappingKeyId'>;

/** What happens on the nth (1 is the next) call of a method from now on. */
export interface Fault {
  readonly method: Method;
  readonly nth?: number;
  /** Throws this code in place of doing it. */
  readonly code?: Code;
  /** Holds the call back until this settles; then it goes on. */
  readonly until?: Promise<unknown>;
  /** Changes the answer, as a faulty token would. */
  readonly alter?: (answer: Buffer) => Buffer;
}

interface Held {
  readonly algorithm: string;
  readonly purpose: Purpose;
  readonly label: string;
  readonly secret: KeyObject;
  readonly publicJwk: PublicJwk | undefined;
  readonly isLocal: boolean;
  /** Of a composite, whose classical half `secret` is. */
  readonly pqc?: KeyObject;
  /** Of a key that wraps by a scheme with HMAC. */
  readonly hmac?: Buffer;
}

const CURVES: Readonly<Record<string, readonly [crv: string, openssl: string, bytes: number]>> = {
  'EC-P256': ['P-256', 'prime256v1', 32],
  'EC-P384': ['P-384', 'secp384r1', 48],
  'EC-P521': ['P-521', 'secp521r1', 66],
};

const generateSecret = (id: string): KeyObject => {
  const bits = Number(/[0-9]+$/.exec(id)?.[0]);
  if (id.startsWith('AES') || id.startsWith('HMAC')) return createSecretKey(randomBytes(bits / 8));
  if (id.startsWith('RSA')) return generateKeyPairSync('rsa', { modulusLength: bits }).privateKey;
  if (id === 'Ed25519') return generateKeyPairSync('ed25519').privateKey;
  if (id.startsWith('ML-')) return generateKeyPairSync(id.toLowerCase() as 'ml-dsa-44').privateKey;
  return generateKeyPairSync('ec', { namedCurve: CURVES[id]?.[0] as string }).privateKey;
};

/** The key in the parts that TokenPort.create is given. */
const secretOf = (id: string, material: readonly Buffer[]): KeyObject => {
  const [first, second, ...rest] = material.map((part) => part.toString('base64url'));
  if (id.startsWith('AES') || id.startsWith('HMAC')) return createSecretKey(material[0] as Buffer);
  const jwk = { n: first, e: second } as Record<string, unknown>;
  if (id.startsWith('RSA')) {
    const [d, p, q, dp, dq, qi] = rest;
    return createPrivateKey({ key: { ...jwk, kty: 'RSA', d, p, q, dp, dq, qi } as JsonWebKey, format: 'jwk' });
  }
  if (id === 'Ed25519') {
    const okp = { kty: 'OKP', crv: 'Ed25519', x: first, d: second } as JsonWebKey;
    return createPrivateKey({ key: okp, format: 'jwk' });
  }
  const [crv, , bytes] = CURVES[id] as readonly [string, string, number];
  const point = material[0] as Buffer;
  const x = point.subarray(1, 1 + bytes).toString('base64url');
  const y = point.subarray(1 + bytes).toString('base64url');
  return createPrivateKey({ key: { kty: 'EC', crv, x, y, d: second } as JsonWebKey, format: 'jwk' });
};

const publicJwkOf = (secret: KeyObject): PublicJwk | undefined =>
  secret.type === 'secret' ? undefined : (createPublicKey(secret).export({ format: 'jwk' }) as PublicJwk);

/** ML-DSA, ML-KEM and what has a half of them. */
const isPostQuantum = (id: string): boolean => id.startsWith('ML-');

export class FakeToken implements TokenPort {
  readonly #postQuantum: boolean;
  readonly #keys = new Map<string, Held>();
  readonly #faults: { fault: Fault; left: number }[] = [];
  /** How often each method was called. */
  readonly calls = new Map<Method, number>();
  /** What keys that wrap are made for from now on. */
  wrapScheme: WrapScheme = 'aes-gcm';

  constructor({ postQuantum = false }: { readonly postQuantum?: boolean } = {}) {
    this.#postQuantum = postQuantum;
  }

  /** Adds a fault to the script. */
  fail(fault: Fault): void {
    this.#faults.push({ fault, left: fault.nth ?? 1 });
  }

  /** Puts a given private or secret key into the token, for published vectors. */
  import(id: string, purpose: Purpose, jwk: JsonWebKey): { tokenId: string; publicJwk?: PublicJwk } {
    const secret =
      jwk.kty === 'oct'
        ? createSecretKey(Buffer.from(jwk['k'] as string, 'base64url'))
        : createPrivateKey({ key: jwk, format: 'jwk' });
    return this.#hold(id, purpose, `import:${randomBytes(4).toString('hex')}`, secret);
  }

  canHold(id: string, purpose: Purpose): { ok: true } | { ok: false; why: string } {
    const row = algorithm(id);
    if (row === undefined || row.status === 'forbidden') return { ok: false, why: 'not an algorithm of the table' };
    if (row.jose[purpose] === undefined) return { ok: false, why: `not for ${purpose}` };
    const holds = row.custody.includes('hsm') && (this.#postQuantum || !isPostQuantum(id));
    return holds ? { ok: true } : { ok: false, why: 'not in a token' };
  }

  generate(what: { algorithm: string; purpose: Purpose; label: string; tokenId?: string }, call: TokenCall) {
    return this.#run('generate', call, () => {
      const can = this.canHold(what.algorithm, what.purpose);
      if (!can.ok) throw new AgentError('HSM_UNSUPPORTED', { message: can.why });
      const { classical = what.algorithm, pqc } = algorithm(what.algorithm)?.components ?? {};
      const half = pqc === undefined ? undefined : generateSecret(pqc);
      return this.#hold(what.algorithm, what.purpose, what.label, generateSecret(classical), what.tokenId, half);
    });
  }

  find(label: string, call: TokenCall) {
    return this.#run('find', call, () => {
      for (const [tokenId, held] of this.#keys) {
        if (held.label === label) return { tokenId, ...(held.publicJwk && { publicJwk: held.publicJwk }) };
      }
      return undefined;
    });
  }

  list(labelPrefix: string, call: TokenCall) {
    return this.#run('list', call, () =>
      [...this.#keys].flatMap(([tokenId, { label }]) => (label.startsWith(labelPrefix) ? [tokenId] : [])).sort(),
    );
  }

  describe(tokenId: string, call: TokenCall) {
    return this.#run('describe', call, () => {
      const held = this.#keys.get(tokenId);
      if (held === undefined) throw new AgentError('HSM_UNAVAILABLE', { message: 'no such object in the token' });
      const { label, purpose, isLocal, publicJwk } = held;
      const halves = algorithm(held.algorithm)?.components;
      const beside = held.hmac === undefined ? [] : ['HMAC-SHA256'];
      const algorithms = halves === undefined ? [held.algorithm, ...beside] : [halves.classical, halves.pqc].sort();
      return { label, algorithms, purpose, isLocal, ...(publicJwk && { publicJwk }) };
    });
  }

  destroy(tokenId: string, call: TokenCall): Promise<void> {
    return this.#run('destroy', call, () => {
      this.#keys.delete(tokenId);
    });
  }

  gcmEncrypt(tokenId: string, { iv, aad, data }: { iv: Buffer; aad: Buffer; data: Buffer }, call: TokenCall) {
    return this.#run('gcmEncrypt', call, () => {
      const { secret } = this.#held(tokenId, 'AES', 'encrypt');
      const name = `aes-${((secret.symmetricKeySize ?? 0) * 8) as 256}-gcm` as const;
      const cipher = createCipheriv(name, secret, iv, { authTagLength: 16 }).setAAD(aad);
      return Buffer.concat([cipher.update(data), cipher.final(), cipher.getAuthTag()]);
    });
  }

  wrappingKeyId(): string {
    return wrappingKeyId(this.wrapScheme, randomBytes(16));
  }

  async generateWrappingKey(what: { label: string; tokenId?: string }, call: TokenCall): Promise<{ tokenId: string }> {
    const { label, tokenId = this.wrappingKeyId() } = what;
    await this.generate({ algorithm: 'AES-256', purpose: 'encrypt', label, tokenId }, call);
    const held = this.#keys.get(tokenId) as Held;
    if (schemeOfKey(tokenId) !== 'aes-gcm') this.#keys.set(tokenId, { ...held, hmac: randomBytes(32) });
    return { tokenId };
  }

  async wrap(tokenId: string, { aad, data }: { aad: Buffer; data: Buffer }, call: TokenCall): Promise<Buffer> {
    const scheme = schemeOfKey(tokenId);
    if (!isMaterialLength(scheme, data.length)) throw new AgentError('HSM_UNSUPPORTED');
    if (scheme === 'aes-gcm') {
      const iv = randomBytes(12);
      return Buffer.concat([iv, await this.gcmEncrypt(tokenId, { iv, aad, data }, call)]);
    }
    return this.#run('wrap', call, () => sealInSoftware(scheme, this.#wrapKeys(tokenId), { aad, data }));
  }

  async unwrap(tokenId: string, { aad, data }: { aad: Buffer; data: Buffer }, call: TokenCall): Promise<Buffer> {
    const scheme = schemeOfKey(tokenId);
    if (scheme === 'aes-gcm') {
      const [iv, rest] = [data.subarray(0, 12), data.subarray(12)];
      return this.gcmDecrypt(tokenId, { iv, aad, data: rest }, call);
    }
    return this.#run('unwrap', call, () => {
      const keys = this.#wrapKeys(tokenId);
      try {
        return openInSoftware(scheme, keys, { aad, data });
      } catch (cause) {
        throw new AgentError('INVALID_CIPHERTEXT', { cause });
      }
    });
  }

  gcmDecrypt(tokenId: string, { iv, aad, data }: { iv: Buffer; aad: Buffer; data: Buffer }, call: TokenCall) {
    return this.#run('gcmDecrypt', call, () => {
      const { secret } = this.#held(tokenId, 'AES', 'encrypt');
      if (data.length < 16) throw new AgentError('INVALID_CIPHERTEXT');
      const name = `aes-${((secret.symmetricKeySize ?? 0) * 8) as 256}-gcm` as const;
      const decipher = createDecipheriv(name, secret, iv, { authTagLength: 16 }).setAAD(aad);
      decipher.setAuthTag(data.subarray(data.length - 16));
      const plaintext = decipher.update(data.subarray(0, data.length - 16));
      try {
        return Buffer.concat([plaintext, decipher.final()]);
      } catch (cause) {
        throw new AgentError('INVALID_CIPHERTEXT', { cause });
      }
    });
  }

  sign(tokenId: string, jose: string, data: Buffer, call: TokenCall, context = Buffer.alloc(0)): Promise<Buffer> {
    return this.#run('sign', call, () => {
      const held = this.#held(tokenId, '', 'sign');
      const { classical = held.algorithm, pqc = held.algorithm } = algorithm(held.algorithm)?.components ?? {};
      if (context.length > 255 || (context.length > 0 && !jose.startsWith('ML-DSA-')))
        throw invalid('context', 'not with this algorithm');
      if (jose === pqc && jose.startsWith('ML-DSA-')) {
        return sign(null, data, { key: held.pqc ?? held.secret, context } as SignKeyObjectInput);
      }
      if (!algorithm(classical)?.jose.sign?.includes(jose)) throw new AgentError('HSM_UNSUPPORTED');
      if (jose === 'Ed25519') return sign(null, data, held.secret);
      const name = `sha${jose.slice(2)}`;
      if (data.length !== Number(jose.slice(2)) / 8) throw invalid('digest', 'wrong length');
      if (jose.startsWith('RS')) return signDigestPkcs1(held.secret, name, data);
      if (jose.startsWith('PS')) return signDigestPss(held.secret, name, data);
      return signDigestEcdsa(held.secret, data);
    });
  }

  mac(tokenId: string, jose: string, data: Buffer, call: TokenCall): Promise<Buffer> {
    return this.#run('mac', call, () => {
      const held = this.#held(tokenId, 'HMAC', 'mac');
      if (!algorithm(held.algorithm)?.jose.mac?.includes(jose)) throw new AgentError('HSM_UNSUPPORTED');
      return createHmac(`sha${jose.slice(2)}`, held.secret)
        .update(data)
        .digest();
    });
  }

  oaepDecrypt(tokenId: string, ciphertext: Buffer, call: TokenCall, secretBytes = 0): Promise<Buffer> {
    return this.#run('oaepDecrypt', call, () => {
      const { secret } = this.#heldHalf(tokenId, 'RSA', 'encrypt');
      try {
        const bytes = (secret.asymmetricKeyDetails?.modulusLength ?? 0) / 8;
        if (ciphertext.length !== bytes) throw new RangeError(`${ciphertext.length} bytes, not ${bytes}`);
        const message = privateDecrypt(
          { key: secret, padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: 'sha256' },
          ciphertext,
        );
        return secretBytes === 0 || message.length === secretBytes ? message : randomBytes(secretBytes);
      } catch (cause) {
        if (secretBytes > 0 && !(cause instanceof RangeError)) return randomBytes(secretBytes);
        throw new AgentError('INVALID_CIPHERTEXT', { cause });
      }
    });
  }

  ecdh(tokenId: string, point: Buffer, call: TokenCall): Promise<Buffer> {
    return this.#run('ecdh', call, () => {
      const held = this.#heldHalf(tokenId, 'EC', 'encrypt');
      const [, openssl, bytes] = CURVES[held.algorithm] as readonly [string, string, number];
      if (point.length !== 1 + 2 * bytes || point[0] !== 4) throw new AgentError('INVALID_CIPHERTEXT');
      const ecdh = createECDH(openssl);
      ecdh.setPrivateKey(Buffer.from(held.secret.export({ format: 'jwk' }).d as string, 'base64url'));
      try {
        const secret = ecdh.computeSecret(point);
        return Buffer.concat([Buffer.alloc(bytes - secret.length), secret]);
      } catch (cause) {
        throw new AgentError('INVALID_CIPHERTEXT', { cause });
      }
    });
  }

  decapsulate(tokenId: string, ciphertext: Buffer, call: TokenCall): Promise<Buffer> {
    return this.#run('decapsulate', call, () => {
      const held = this.#held(tokenId, 'ML-KEM', 'encrypt');
      const set = algorithm(held.algorithm)?.components?.pqc ?? held.algorithm;
      if (ciphertext.length !== ML_KEM[set as 'ML-KEM-768'].ciphertextBytes) throw new AgentError('INVALID_CIPHERTEXT');
      return decapsulate(held.pqc ?? held.secret, ciphertext);
    });
  }

  async rewrap(
    from: { tokenId: string; iv?: Buffer; data: Buffer },
    to: { tokenId: string; iv: Buffer },
    bytes: number,
    call: TokenCall,
  ): Promise<Buffer> {
    await this.#run('rewrap', call, () => undefined);
    const cek =
      from.iv === undefined
        ? await this.oaepDecrypt(from.tokenId, from.data, call)
        : await this.gcmDecrypt(from.tokenId, { iv: from.iv, aad: Buffer.alloc(0), data: from.data }, call);
    if (cek.length !== bytes) throw new AgentError('INVALID_CIPHERTEXT');
    return this.gcmEncrypt(to.tokenId, { iv: to.iv, aad: Buffer.alloc(0), data: cek }, call);
  }

  create(
    what: { algorithm: string; purpose: Purpose; label: string; tokenId: string; material: readonly Buffer[] },
    call: TokenCall,
  ) {
    return this.#run('create', call, () => {
      if (forbiddenAlgorithm(what.algorithm) !== undefined) throw new AgentError('ALGORITHM_FORBIDDEN');
      const can = this.canHold(what.algorithm, what.purpose);
      if (!can.ok || isPostQuantum(what.algorithm)) throw new AgentError('HSM_UNSUPPORTED');
      const secret = secretOf(what.algorithm, what.material);
      return this.#hold(what.algorithm, what.purpose, what.label, secret, what.tokenId, undefined, false);
    });
  }

  random(length: number, call: TokenCall): Promise<Buffer> {
    return this.#run('random', call, () => {
      if (!Number.isInteger(length) || length < 1 || length > 65_536) throw invalid('length', 'from 1 to 65536');
      return randomBytes(length);
    });
  }

  #hold(
    id: string,
    purpose: Purpose,
    label: string,
    secret: KeyObject,
    tokenId = randomBytes(16).toString('hex'),
    pqc?: KeyObject,
    isLocal = true,
  ): { tokenId: string; publicJwk?: PublicJwk } {
    const [own, half] = [publicJwkOf(secret), pqc && publicJwkOf(pqc)];
    const publicJwk = half && own ? compositePublicJwk(half['alg'] ?? '', { pqc: half, classical: own }) : own;
    this.#keys.set(tokenId, { algorithm: id, purpose, label, secret, publicJwk, isLocal, ...(pqc && { pqc }) });
    return { tokenId, ...(publicJwk && { publicJwk }) };
  }

  #held(tokenId: string, prefix: string, purpose: Purpose): Held {
    const held = this.#keys.get(tokenId);
    if (held === undefined) throw new AgentError('HSM_UNAVAILABLE', { message: 'no such object in the token' });
    if (!held.algorithm.startsWith(prefix) || held.purpose !== purpose) throw new AgentError('HSM_UNSUPPORTED');
    return held;
  }

  #wrapKeys(tokenId: string): WrapKeys {
    const { secret, hmac } = this.#held(tokenId, 'AES', 'encrypt');
    if (hmac === undefined) throw new AgentError('HSM_UNSUPPORTED');
    return { aes: secret.export(), hmac };
  }

  /** The classical half of a composite, or the key itself. */
  #heldHalf(tokenId: string, prefix: string, purpose: Purpose): Held {
    const held = this.#keys.get(tokenId);
    const classical = held && algorithm(held.algorithm)?.components?.classical;
    if (held === undefined || classical === undefined) return this.#held(tokenId, prefix, purpose);
    if (!classical.startsWith(prefix) || held.purpose !== purpose) throw new AgentError('HSM_UNSUPPORTED');
    return { ...held, algorithm: classical };
  }

  async #run<T>(method: Method, call: TokenCall, act: () => T): Promise<T> {
    this.calls.set(method, (this.calls.get(method) ?? 0) + 1);
    if (call.signal.aborted) throw new AgentError('CANCELLED');
    if (Date.now() >= call.deadline) throw new AgentError('DEADLINE_EXCEEDED');
    const fault = this.#takeFault(method);
    await fault?.until;
    if (fault?.code !== undefined) throw new AgentError(fault.code);
    const answer = act();
    return Buffer.isBuffer(answer) && fault?.alter !== undefined ? (fault.alter(answer) as T) : answer;
  }

  #takeFault(method: Method): Fault | undefined {
    for (const [index, row] of this.#faults.entries()) {
      if (row.fault.method !== method) continue;
      row.left -= 1;
      if (row.left > 0) continue;
      this.#faults.splice(index, 1);
      return row.fault;
    }
    return undefined;
  }
}
