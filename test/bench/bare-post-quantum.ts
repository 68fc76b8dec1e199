// Post-quantum primitives alone, in one thread with keys at hand: what the agent's rows are divided by. `noble` is the
// implementation in JavaScript that applications without a recent OpenSSL use.
import {
  constants,
  decapsulate,
  encapsulate,
  generateKeyPairSync,
  privateDecrypt,
  publicEncrypt,
  randomBytes,
  sign,
  verify,
} from 'node:crypto';
import { ml_dsa65 } from '@noble/post-quantum/ml-dsa.js';
import { ml_kem768 } from '@noble/post-quantum/ml-kem.js';
import { blockingLoop, type Load } from './loops.ts';
import { MESSAGE_BYTES, type PostQuantumWorkName } from './post-quantum-work.ts';
import { answerQuestions } from './remote.ts';

export type Implementation = 'node' | 'noble';
export interface BareQuestion {
  readonly primitive: PostQuantumWorkName;
  readonly by: Implementation;
  readonly ms: number;
}

type Primitives = Partial<Record<PostQuantumWorkName, () => () => unknown>>;
const message = randomBytes(MESSAGE_BYTES);

const requireTrue = (valid: boolean): boolean => {
  if (!valid) throw new Error('the signature does not verify');
  return valid;
};

const nodeDecapsulation = (): (() => unknown) => {
  const { publicKey, privateKey } = generateKeyPairSync('ml-kem-768');
  const { ciphertext } = encapsulate(publicKey);
  return () => decapsulate(privateKey, ciphertext);
};
const nodeSignature = (): (() => unknown) => {
  const { privateKey } = generateKeyPairSync('ml-dsa-65');
  return () => sign(null, message, privateKey);
};

const NODE: Primitives = {
  kemEncrypt: () => {
    const { publicKey } = generateKeyPairSync('ml-kem-768');
    return () => encapsulate(publicKey);
  },
  kemDecrypt: nodeDecapsulation,
  dsaSign: nodeSignature,
  dsaVerify: () => {
    const { publicKey, privateKey } = generateKeyPairSync('ml-dsa-65');
    const signature = sign(null, message, privateKey);
    return () => requireTrue(verify(null, message, publicKey, signature));
  },
  rsaKemDecrypt: () => {
    const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 3072 });
    const oaep = { padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: 'sha256' };
    const sealed = publicEncrypt({ key: publicKey, ...oaep }, randomBytes(32));
    const open = nodeDecapsulation();
    return () => [privateDecrypt({ key: privateKey, ...oaep }, sealed), open()];
  },
  compositeSign: () => {
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const signToo = nodeSignature();
    return () => [sign('sha256', message, privateKey), signToo()];
  },
};

const NOBLE: Primitives = {
  kemEncrypt: () => {
    const { publicKey } = ml_kem768.keygen();
    return () => ml_kem768.encapsulate(publicKey);
  },
  kemDecrypt: () => {
    const { publicKey, secretKey } = ml_kem768.keygen();
    const { cipherText } = ml_kem768.encapsulate(publicKey);
    return () => ml_kem768.decapsulate(cipherText, secretKey);
  },
  dsaSign: () => {
    const { secretKey } = ml_dsa65.keygen();
    return () => ml_dsa65.sign(message, secretKey);
  },
  dsaVerify: () => {
    const { publicKey, secretKey } = ml_dsa65.keygen();
    const signature = ml_dsa65.sign(message, secretKey);
    return () => requireTrue(ml_dsa65.verify(signature, message, publicKey));
  },
};

/** Undefined where the implementation has no such primitive. */
answerQuestions(({ primitive, by, ms }: BareQuestion): Load | undefined => {
  const prepare = { node: NODE, noble: NOBLE }[by][primitive];
  return prepare && blockingLoop(prepare(), ms);
});
