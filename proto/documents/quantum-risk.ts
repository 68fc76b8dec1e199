// What a quantum computer that runs Shor's algorithm does to keys of an algorithm. Read off the algorithm table: a row of
// security category 0 claims nothing against it. Symmetric rows have a category, since Grover's search leaves them
// standing (NIST IR 8547 section 4.1.3).
import { algorithm, type Purpose } from './algorithms.ts';

/**
 * `harvest-now`: what was recorded under the key can be read once such a computer exists, so it is a matter of today.
 * `forge-later`: signatures can be forged from then on. `unknown`: the table does not have the algorithm.
 */
export const QUANTUM_RISKS = ['harvest-now', 'forge-later', 'none', 'unknown'] as const;
export type QuantumRisk = (typeof QUANTUM_RISKS)[number];

export const quantumRisk = (id: string, purpose: Purpose): QuantumRisk => {
  const row = algorithm(id);
  if (row === undefined || row.status === 'forbidden') return 'unknown';
  if (row.category > 0) return 'none';
  return purpose === 'encrypt' ? 'harvest-now' : 'forge-later';
};
