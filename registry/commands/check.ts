// `registry --check`: the effective configuration, or everything that is wrong with it. It reads files, starts nothing.

import { systemClock } from '../../agent/clock.ts';
import { checkSecret } from '../../agent/config/secret-file.ts';
import { EXIT, type ExitCode } from '../../agent/lifecycle.ts';
import { readClientRoots, readServerCertificate } from '../assembly/server-certificate.ts';
import { type Config, ConfigError, loadConfig } from '../config/config.ts';
import { effectiveText } from '../config/report.ts';
import { readAuthority } from '../hosts/authority-folder.ts';
import { inWords, type RawEnvironment } from './configuration.ts';

export interface CheckInput {
  readonly environment: RawEnvironment;
  readonly print: (line: string) => void;
  readonly complain: (line: string) => void;
}

const checkFiles = async (config: Config): Promise<void> => {
  const authority = await readAuthority(config.authorityDir, systemClock);
  await readServerCertificate(config, authority);
  await readClientRoots(config.tls.clientRootsFile);
  if (config.store.databaseUrlFile !== undefined) await checkSecret(config.store.databaseUrlFile);
};

export const check = async ({ environment, print, complain }: CheckInput): Promise<ExitCode> => {
  try {
    const { config, warnings } = loadConfig(environment);
    for (const warning of warnings) complain(`warning: ${warning}`);
    await checkFiles(config);
    print(effectiveText(environment));
    return EXIT.ok;
  } catch (error) {
    const lines = error instanceof ConfigError ? error.message.split('\n') : [inWords(error)];
    for (const line of lines) complain(line);
    return EXIT.config;
  }
};
