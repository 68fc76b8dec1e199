// The configuration for a command, or what is wrong with it on standard error.
import { type Config, ConfigError, loadConfig } from '../config/config.ts';

export type RawEnvironment = Readonly<Record<string, string | undefined>>;

/** Undefined where it cannot be used; all problems have been told then. */
export const readConfig = (
  environment: RawEnvironment,
  complain: (line: string) => void,
): { readonly config: Config; readonly warnings: readonly string[] } | undefined => {
  let loaded: ReturnType<typeof loadConfig>;
  try {
    loaded = loadConfig(environment);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    complain('mortise registry: the configuration cannot be used');
    for (const line of error.message.split('\n')) complain(`  ${line}`);
    return undefined;
  }
  if (process.getuid?.() === 0 && !loaded.config.allowRoot) {
    complain('mortise registry: refuses to run as root; run it as a user of its own, or set REGISTRY_ALLOW_ROOT=yes');
    return undefined;
  }
  return loaded;
};

/** An error in one line for people, with the remedy where it has one. */
export const inWords = (error: unknown): string => {
  if (!(error instanceof Error)) return 'unknown error';
  const remedy = 'remedy' in error ? `; ${String(error.remedy)}` : '';
  return `${error.message}${remedy}`;
};
