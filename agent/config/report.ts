// The effective configuration in words, for `--check` and `doctor`. Invariant: it shows paths of secrets, never secrets;
// values of variables that are not in the table are not shown at all.
import { registryDir, trustAnchorOf } from './config.ts';
import { defaultHostId, readEnvironment, type VariableName, variables } from './env.ts';

export interface EffectiveVariable {
  readonly name: VariableName;
  /** As text; undefined where it has no value. */
  readonly value: string | undefined;
  readonly from: 'environment' | 'default';
}

export const effectiveConfig = (raw: Readonly<Record<string, string | undefined>>): readonly EffectiveVariable[] => {
  const { environment } = readEnvironment(raw);
  const derived: Partial<Record<VariableName, string>> = {
    MORTISE_HOST_ID: defaultHostId(),
    MORTISE_TRUST_ANCHOR: trustAnchorOf(environment),
    ...(environment.MORTISE_REGISTRY_URL !== undefined && { MORTISE_REGISTRY_DIR: registryDir(environment) }),
  };
  return variables().map(({ name }) => {
    const value = environment[name] ?? derived[name];
    return {
      name,
      value: value === undefined ? undefined : String(value),
      from: raw[name] === undefined || raw[name] === '' ? 'default' : 'environment',
    };
  });
};

/** One line per variable, as an EnvironmentFile would have it; what is not set stands as a comment. */
export const effectiveText = (raw: Readonly<Record<string, string | undefined>>): string =>
  effectiveConfig(raw)
    .map(({ name, value, from }) => {
      if (value === undefined) return `# ${name} is not set`;
      return `${name}=${value}${from === 'default' ? '  # default' : ''}`;
    })
    .join('\n');
