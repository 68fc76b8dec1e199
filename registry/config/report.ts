// The effective configuration in words, for `--check`. Invariant: it shows paths of secrets, never secrets; values of
// variables that are not in the table are not shown at all.
import { defaultNames } from './config.ts';
import { defaultReplica, readEnvironment, type VariableName, variables } from './env.ts';

/** One line per variable, as an EnvironmentFile would have it; what is not set stands as a comment. */
export const effectiveText = (raw: Readonly<Record<string, string | undefined>>): string => {
  const { environment } = readEnvironment(raw);
  const derived: Partial<Record<VariableName, string>> = {
    REGISTRY_REPLICA: defaultReplica(),
    REGISTRY_NAMES: defaultNames().join(','),
  };
  return variables()
    .map(({ name }) => {
      const value = environment[name] ?? derived[name];
      if (value === undefined) return `# ${name} is not set`;
      const isDefault = raw[name] === undefined || raw[name] === '';
      return `${name}=${value}${isDefault ? '  # default' : ''}`;
    })
    .join('\n');
};
