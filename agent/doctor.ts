// `agent doctor`: looks at this host's set-up as the agent would find it, and says in words what is wrong with each part
// and what to do. Invariant: it changes nothing, and logs in to each token once at most.

import { ConfigError, loadConfig } from './config/config.ts';
import { type Check, fail, ok, warn } from './doctor/check.ts';
import { checkDataFolder, checkSocketFolder } from './doctor/folder-checks.ts';
import { checkClock, checkNode, checkUser } from './doctor/host-checks.ts';
import { checkPolicy } from './doctor/policy-checks.ts';
import { checkRegistry } from './doctor/registry-checks.ts';
import { checkTokens } from './doctor/tokens-checks.ts';
import { EXIT, type ExitCode } from './lifecycle.ts';

export interface DoctorInput {
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly version: string;
  readonly output: 'text' | 'json';
  readonly print: (line: string) => void;
}

const examine = async (environment: DoctorInput['environment']): Promise<readonly Check[]> => {
  const host = [checkNode(), checkClock()];
  try {
    const { config, warnings } = loadConfig(environment);
    const configuration = [
      ok('configuration', 'valid'),
      ...warnings.map((text) => warn('configuration', text, 'see docs/configuration.md')),
    ];
    return [
      ...host,
      checkUser(config),
      ...configuration,
      await checkDataFolder(config),
      await checkSocketFolder(config),
      ...(await checkPolicy(config)),
      ...(await checkRegistry(config)),
      ...(await checkTokens(config, environment)),
    ];
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    const problems = error.problems.map(({ variable, problem, remedy }) =>
      fail('configuration', `${variable}: ${problem}`, remedy),
    );
    return [...host, ...problems];
  }
};

const SIGN = { ok: 'ok  ', warn: 'WARN', fail: 'FAIL' } as const;

const asText = (checks: readonly Check[]): string[] =>
  checks.flatMap(({ level, name, detail, remedy }) => [
    `${SIGN[level]}  ${name.padEnd(15)} ${detail}`,
    ...(remedy === undefined ? [] : [`${' '.repeat(22)}→ ${remedy}`]),
  ]);

/** Exit code: 0 where nothing fails, 2 where something does. */
export const doctor = async ({ environment, version, output, print }: DoctorInput): Promise<ExitCode> => {
  const checks = await examine(environment);
  const failed = checks.filter(({ level }) => level === 'fail').length;
  const warned = checks.filter(({ level }) => level === 'warn').length;
  if (output === 'json') {
    print(JSON.stringify({ version, healthy: failed === 0, checks }, null, 2));
  } else {
    for (const line of asText(checks)) print(line);
    print(failed === 0 ? `no failures, ${warned} warnings` : `${failed} failures, ${warned} warnings`);
  }
  return failed === 0 ? EXIT.ok : EXIT.findings;
};
