// `agent --check`: the effective configuration, or everything that is wrong with it. It reads files, starts nothing.
import { ConfigError, loadConfig } from '../config/config.ts';
import { checkPin } from '../config/pin-source.ts';
import { effectiveText } from '../config/report.ts';
import { SecretError } from '../config/secret-file.ts';
import { EXIT, type ExitCode } from '../lifecycle.ts';

export interface CheckInput {
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly print: (line: string) => void;
  readonly complain: (line: string) => void;
}

export const check = async ({ environment, print, complain }: CheckInput): Promise<ExitCode> => {
  try {
    const { config, warnings } = loadConfig(environment);
    for (const warning of warnings) complain(`warning: ${warning}`);
    for (const { pin } of config.tokens) await checkPin(pin);
    print(effectiveText(environment));
    return EXIT.ok;
  } catch (error) {
    if (error instanceof ConfigError) for (const line of error.message.split('\n')) complain(line);
    else if (error instanceof SecretError) complain(`PIN: ${error.message}; ${error.remedy}`);
    else throw error;
    return EXIT.config;
  }
};
