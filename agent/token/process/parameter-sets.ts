// The parameter sets of ML-DSA and ML-KEM that keys may have (FIPS 204, FIPS 203), with the numbers and sizes that PKCS #11
// 3.2 gives them. CKP values count the sets of each standard from 1.
import { ML_KEM } from '../../../proto/documents/ml-kem.ts';
import { PQ_SIGNATURES } from '../../../proto/documents/pq-signatures.ts';

export interface ParameterSet {
  /** Algorithm id. */
  readonly id: string;
  readonly family: 'ml-dsa' | 'ml-kem';
  /** CKA_PARAMETER_SET. */
  readonly number: number;
  readonly publicBytes: number;
  /** Of a signature, or of a ciphertext. */
  readonly outputBytes: number;
}

const mlDsa = (id: string, number: number): ParameterSet => {
  const row = PQ_SIGNATURES.get(id);
  if (row === undefined) throw new TypeError(`no signature algorithm ${id}`);
  return { id, family: 'ml-dsa', number, publicBytes: row.publicBytes, outputBytes: row.signatureBytes };
};

const mlKem = (id: 'ML-KEM-768' | 'ML-KEM-1024', number: number): ParameterSet => {
  const { publicBytes, ciphertextBytes: outputBytes } = ML_KEM[id];
  return { id, family: 'ml-kem', number, publicBytes, outputBytes };
};

export const PARAMETER_SETS: readonly ParameterSet[] = [
  mlDsa('ML-DSA-44', 1),
  mlDsa('ML-DSA-65', 2),
  mlDsa('ML-DSA-87', 3),
  mlKem('ML-KEM-768', 2), // 1 is ML-KEM-512, which is not in the table
  mlKem('ML-KEM-1024', 3),
];

export const parameterSet = (id: string): ParameterSet | undefined => PARAMETER_SETS.find((row) => row.id === id);
