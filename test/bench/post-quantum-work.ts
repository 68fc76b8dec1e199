// The post-quantum work that is measured: what the load client asks of the agent, and the same primitives bare.
import type { KeyWish } from './work.ts';

export interface PostQuantumWork {
  /** As the table calls it. */
  readonly title: string;
  readonly does: 'sign' | 'verify' | 'encrypt' | 'decrypt';
  readonly key: KeyWish;
}

const kem = (algorithm: string): KeyWish => ({
  keyId: algorithm.toLowerCase(),
  purpose: 'encrypt',
  algorithm,
  jose: '',
});
const signature = (algorithm: string): KeyWish => ({ ...kem(algorithm), purpose: 'sign' });
const ML_KEM = kem('ML-KEM-768');
const ML_DSA = signature('ML-DSA-65');

export const MESSAGE_BYTES = 256;
export const POST_QUANTUM_WORKS = {
  kemEncrypt: { title: 'ML-KEM-768 JWE encrypt, 256 B', does: 'encrypt', key: ML_KEM },
  kemDecrypt: { title: 'ML-KEM-768 JWE decrypt, 256 B', does: 'decrypt', key: ML_KEM },
  dsaSign: { title: 'ML-DSA-65 sign', does: 'sign', key: ML_DSA },
  dsaVerify: { title: 'ML-DSA-65 verify', does: 'verify', key: ML_DSA },
  rsaKemDecrypt: { title: 'RSA-3072 + ML-KEM-768 JWE decrypt, 256 B', does: 'decrypt', key: kem('ML-KEM-768-RSA3072') },
  compositeSign: { title: 'ML-DSA-65-ES256 sign', does: 'sign', key: signature('ML-DSA-65-ES256') },
  /** Measured by what it does to others. */
  slowSign: { title: 'SLH-DSA-SHA2-256s sign', does: 'sign', key: signature('SLH-DSA-SHA2-256s') },
  aesEncrypt: {
    title: 'AES-256 JWE encrypt, 256 B',
    does: 'encrypt',
    key: { keyId: 'aes', purpose: 'encrypt', algorithm: 'AES-256', jose: '' },
  },
} as const satisfies Record<string, PostQuantumWork>;

export type PostQuantumWorkName = keyof typeof POST_QUANTUM_WORKS;
