// The direct process: pkcs11js on the token in its own address space, one session, blocking calls. What an application
// does that needs no agent, and what every cell of the agent is divided by. ES256 is verified by node:crypto.
import {
  createCipheriv,
  createPublicKey,
  createSecretKey,
  generateKeyPairSync,
  randomBytes,
  sign,
  verify,
} from 'node:crypto';
import pkcs11js from 'pkcs11js';
import { serveEcho } from './bare-stream.ts';
import { blockingLoop, type Load } from './loops.ts';
import { answerQuestions } from './remote.ts';
import { PIECE_BYTES, WORKS, type WorkName } from './work.ts';

export interface DirectToken {
  readonly library: string;
  readonly label: string;
  readonly pin: string;
}

export type DirectQuestion =
  | { readonly open: DirectToken }
  | { readonly fill: { readonly label: string; readonly count: number } }
  | { readonly gcmBytes: number }
  | { readonly echoOn: string }
  | { readonly work: WorkName; readonly label: string; readonly ms: number };

const USER = 1; // CKU_USER
const DIGEST_INFO = Buffer.from('3031300d060960864801650304020105000420', 'hex'); // RFC 8017 section 9.2, SHA-256
const TAG_BYTES = 16;
const NO_AAD = Buffer.alloc(0);

const open = ({ library, label, pin }: DirectToken): { lib: pkcs11js.PKCS11; session: Buffer } => {
  const lib = new pkcs11js.PKCS11();
  lib.load(library);
  lib.C_Initialize({ flags: pkcs11js.CKF_OS_LOCKING_OK });
  const slot = lib.C_GetSlotList(true).find((one) => lib.C_GetTokenInfo(one).label.trim() === label);
  if (slot === undefined) throw new Error(`no token "${label}"`);
  const session = lib.C_OpenSession(slot, pkcs11js.CKF_SERIAL_SESSION | pkcs11js.CKF_RW_SESSION);
  try {
    lib.C_Login(session, USER, pin);
  } catch (thrown) {
    // A proxy that is one application for all its clients is logged in for all of them.
    if (!/ALREADY_LOGGED_IN/.test((thrown as Error).message)) throw thrown;
  }
  return { lib, session };
};

class DirectSession {
  readonly #lib: pkcs11js.PKCS11;
  readonly #session: Buffer;
  readonly #output = Buffer.alloc(80 * 1024);

  constructor(token: DirectToken) {
    const { lib, session } = open(token);
    this.#lib = lib;
    this.#session = session;
  }

  #find(label: string, type: number): Buffer {
    this.#lib.C_FindObjectsInit(this.#session, [
      { type: pkcs11js.CKA_LABEL, value: label },
      { type: pkcs11js.CKA_CLASS, value: type },
    ]);
    const [object] = this.#lib.C_FindObjects(this.#session, 1);
    this.#lib.C_FindObjectsFinal(this.#session);
    if (object === undefined) throw new Error(`no object "${label}"`);
    return object;
  }

  /** The work as a function of nothing. */
  prepare(name: WorkName, label: string): () => unknown {
    const { does, key, bytes } = WORKS[name];
    if (does === 'verify') return verifier(bytes);
    if (does === 'sign') {
      const object = this.#find(label, pkcs11js.CKO_PRIVATE_KEY);
      const digest = randomBytes(bytes);
      return key.jose === 'ES256'
        ? this.#signer(object, pkcs11js.CKM_ECDSA, digest)
        : this.#signer(object, pkcs11js.CKM_RSA_PKCS, Buffer.concat([DIGEST_INFO, digest]));
    }
    const object = this.#find(label, pkcs11js.CKO_SECRET_KEY);
    const data = randomBytes(bytes);
    if (does === 'mac') return this.#signer(object, pkcs11js.CKM_SHA256_HMAC, data);
    const encrypt = (): Buffer => {
      this.#lib.C_EncryptInit(this.#session, gcm(randomBytes(12)), object);
      return this.#lib.C_Encrypt(this.#session, data, this.#output.subarray(0, bytes + TAG_BYTES));
    };
    if (does === 'encrypt') return encrypt;
    const iv = randomBytes(12);
    this.#lib.C_EncryptInit(this.#session, gcm(iv), object);
    const ciphertext = this.#lib.C_Encrypt(this.#session, data, Buffer.alloc(bytes + TAG_BYTES));
    return () => {
      this.#lib.C_DecryptInit(this.#session, gcm(iv), object);
      return this.#lib.C_Decrypt(this.#session, ciphertext, this.#output.subarray(0, bytes + TAG_BYTES));
    };
  }

  #signer(object: Buffer, mechanism: number, data: Buffer): () => Buffer {
    return () => {
      this.#lib.C_SignInit(this.#session, { mechanism }, object);
      return this.#lib.C_Sign(this.#session, data, this.#output.subarray(0, 512));
    };
  }

  /** Makes AES-256 keys; gives their CKA_IDs. */
  fill(label: string, count: number): string[] {
    return Array.from({ length: count }, (_, index) => {
      const id = randomBytes(16);
      this.#lib.C_GenerateKey(this.#session, { mechanism: pkcs11js.CKM_AES_KEY_GEN }, [
        { type: pkcs11js.CKA_CLASS, value: pkcs11js.CKO_SECRET_KEY },
        { type: pkcs11js.CKA_KEY_TYPE, value: pkcs11js.CKK_AES },
        { type: pkcs11js.CKA_VALUE_LEN, value: 32 },
        { type: pkcs11js.CKA_TOKEN, value: true },
        { type: pkcs11js.CKA_PRIVATE, value: true },
        { type: pkcs11js.CKA_SENSITIVE, value: true },
        { type: pkcs11js.CKA_EXTRACTABLE, value: false },
        { type: pkcs11js.CKA_ENCRYPT, value: true },
        { type: pkcs11js.CKA_DECRYPT, value: true },
        { type: pkcs11js.CKA_ID, value: id },
        { type: pkcs11js.CKA_LABEL, value: `${label}${index}` },
      ]);
      return id.toString('hex');
    });
  }
}

const gcm = (iv: Buffer): pkcs11js.Mechanism => ({
  mechanism: pkcs11js.CKM_AES_GCM,
  parameter: { type: pkcs11js.CK_PARAMS_AES_GCM_v240, iv, ivBits: 96, aad: NO_AAD, tagBits: 128 } as pkcs11js.IParams,
});

const verifier = (bytes: number): (() => boolean) => {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const key = { key: createPublicKey(publicKey.export({ format: 'pem', type: 'spki' })), dsaEncoding: 'ieee-p1363' };
  const message = randomBytes(bytes);
  const signature = sign('sha256', message, { key: privateKey, dsaEncoding: 'ieee-p1363' });
  return () => {
    if (!verify('sha256', message, key as never, signature)) throw new Error('the signature does not verify');
    return true;
  };
};

/** Milliseconds that AES-256-GCM of node:crypto takes on one thread. */
const encryptBytes = (bytes: number): number => {
  const piece = randomBytes(PIECE_BYTES);
  const from = performance.now();
  const cipher = createCipheriv('aes-256-gcm', createSecretKey(randomBytes(32)), randomBytes(12));
  for (let left = bytes; left > 0; left -= PIECE_BYTES) cipher.update(piece);
  cipher.final();
  return performance.now() - from;
};

let session: DirectSession | undefined;

answerQuestions((question: DirectQuestion): Load | readonly string[] | number | undefined | Promise<void> => {
  if ('echoOn' in question) return serveEcho(question.echoOn);
  if ('gcmBytes' in question) return encryptBytes(question.gcmBytes);
  if ('open' in question) {
    session = new DirectSession(question.open);
    return undefined;
  }
  if (session === undefined) throw new Error('no token is open');
  if ('fill' in question) return session.fill(question.fill.label, question.fill.count);
  return blockingLoop(session.prepare(question.work, question.label), question.ms);
});
