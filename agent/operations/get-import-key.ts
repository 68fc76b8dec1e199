// GetImportKey: a public key to wrap key material for ImportKey, the strongest that token and policy have.
import { algorithm } from '../../proto/documents/algorithms.ts';
import { AgentError } from '../errors.ts';
import { type Performed, type Ports, perform, type Run } from './perform.ts';
import type { Call } from './ports/call.ts';

export interface GetImportKeyOutput {
  /** JSON. */
  readonly publicJwk: string;
  /** Milliseconds since 1970. */
  readonly expiresAt: number;
}

/** SP 800-57 part 1, section 5.6.2: wrapping should be no weaker than what is wrapped, so the strongest comes first. */
const CANDIDATES = ['EC-P521', 'EC-P384', 'EC-P256', 'RSA-4096', 'RSA-3072'];

const choose = (ports: Ports, run: Run): { readonly algorithm: string; readonly jose: string } => {
  const able = CANDIDATES.filter((id) => ports.token.canHold(id, 'encrypt', run.tenant).ok);
  const rows = able.map((id) => ({ algorithm: id, jose: algorithm(id)?.jose.encrypt?.[0] as string }));
  const [first] = rows;
  if (first === undefined) {
    throw new AgentError('HSM_UNSUPPORTED', { message: `the token can hold none of ${CANDIDATES.join(', ')}` });
  }
  const question = { tenant: run.tenant, operation: run.name, custody: 'hsm' } as const;
  const allowed = rows.find((row) => ports.policy.decide({ ...question, ...row }).allowed) ?? first;
  run.decide({ ...allowed, custody: 'hsm' });
  return allowed;
};

export const getImportKey = (ports: Ports, call: Call): Promise<Performed<GetImportKeyOutput>> =>
  perform(ports, call, 'get-import-key', async (run) => {
    const chosen = choose(ports, run);
    const { kid, publicJwk, jose, expiresAt } = await ports.importKeys.open(
      { tenant: run.tenant, ...chosen },
      run.token,
    );
    run.about({ requested: kid, algorithm: jose });
    run.note({ importKey: kid });
    return { publicJwk: JSON.stringify({ ...publicJwk, kid, alg: jose, use: 'enc' }), expiresAt };
  });
