// `registry migrate`: makes or brings up the schema in PostgreSQL, by the role that owns it. The running registry has
// another role, which can change no schema. Safe to repeat and to run from several replicas at once.

import { readSecret } from '../../agent/config/secret-file.ts';
import { EXIT, type ExitCode } from '../../agent/lifecycle.ts';
import { inWords } from './configuration.ts';

const ROLE = /^[a-z_][a-z0-9_]{0,62}$/;

export interface MigrateInput {
  /** File with the URL of the owner's role. */
  readonly ownerUrlFile: string;
  /** The role of REGISTRY_DATABASE_URL_FILE. */
  readonly runtimeRole: string;
  readonly print: (line: string) => void;
  readonly complain: (line: string) => void;
}

export const migrateDatabase = async (input: MigrateInput): Promise<ExitCode> => {
  const { ownerUrlFile, runtimeRole, print, complain } = input;
  if (!ROLE.test(runtimeRole)) {
    complain('mortise registry: --runtime-role must be a name of [a-z0-9_], no digit first');
    return EXIT.usage;
  }
  try {
    const { migrate } = await import('../store/postgres/connections.ts');
    const secret = await readSecret(ownerUrlFile);
    try {
      await migrate({ url: secret.toString(), runtimeRole });
    } finally {
      secret.fill(0);
    }
    print(`the schema is up to date, and ${runtimeRole} may use it`);
    return EXIT.ok;
  } catch (error) {
    complain(`mortise registry: ${inWords(error)}`);
    return EXIT.failure;
  }
};
