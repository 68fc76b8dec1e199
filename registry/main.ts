#!/usr/bin/env node
// The registry's program: arguments in, exit code out. Parts are loaded when a command needs them.
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { EXIT, type ExitCode } from '../agent/lifecycle.ts';
import { processEnvironment } from './config/env.ts';

const HELP = `usage: registry [serve]                   serve until SIGTERM
       registry init --trust-domain DOMAIN --trust-anchor FILE [--admin NAME] [--token-file FILE] [--unless-made]
                                        make CA, keys and the first administrator's token
       registry first-admin [--admin NAME] [--token-file FILE]
                                        a token of the first administrator, where the store was lost
       registry migrate --owner-url-file FILE --runtime-role ROLE
                                        make or bring up the schema in PostgreSQL
       registry --check                 print the effective configuration, or all that is wrong with it
       registry --version | --help

The configuration comes from environment variables: docs/registry.md, or registry --check.
exit codes: 0 ok, 1 failure, 3 ended by force, 64 usage, 78 configuration`;

const print = (line: string): void => void process.stdout.write(`${line}\n`);
const complain = (line: string): void => void process.stderr.write(`${line}\n`);

const version = (): string => {
  const { version: text } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'));
  return text;
};

const parse = (args: readonly string[]) =>
  parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      check: { type: 'boolean' },
      help: { type: 'boolean', short: 'h' },
      version: { type: 'boolean' },
      'trust-domain': { type: 'string' },
      'trust-anchor': { type: 'string' },
      admin: { type: 'string', default: 'root' },
      'token-file': { type: 'string' },
      'unless-made': { type: 'boolean', default: false },
      'owner-url-file': { type: 'string' },
      'runtime-role': { type: 'string' },
    },
  });

const usage = (problem: string): ExitCode => {
  complain(`mortise registry: ${problem}`);
  complain(HELP);
  return EXIT.usage;
};

const run = async (args: readonly string[]): Promise<ExitCode> => {
  let parsed: ReturnType<typeof parse>;
  try {
    parsed = parse(args);
  } catch (error) {
    return usage((error as Error).message);
  }
  const { values, positionals } = parsed;
  const environment = processEnvironment();
  if (values.help) {
    print(HELP);
    return EXIT.ok;
  }
  if (values.version) {
    print(version());
    return EXIT.ok;
  }
  if (values.check) return (await import('./commands/check.ts')).check({ environment, print, complain });
  const command = positionals.join(' ');
  if (command === '' || command === 'serve') {
    return (await import('./commands/serve.ts')).serve({ environment, version: version(), complain });
  }
  if (command === 'init') {
    const { 'trust-domain': trustDomain, 'trust-anchor': trustAnchor, 'token-file': tokenFile, admin } = values;
    if (trustDomain === undefined || trustAnchor === undefined) {
      return usage('init needs --trust-domain and --trust-anchor');
    }
    const { init } = await import('./commands/init.ts');
    const unlessMade = values['unless-made'];
    return init({ environment, trustDomain, trustAnchor, admin, tokenFile, unlessMade, print, complain });
  }
  if (command === 'first-admin') {
    const { 'token-file': tokenFile, admin } = values;
    return (await import('./commands/init.ts')).firstAdmin({ environment, admin, tokenFile, print, complain });
  }
  if (command === 'migrate') {
    const { 'owner-url-file': ownerUrlFile, 'runtime-role': runtimeRole } = values;
    if (ownerUrlFile === undefined || runtimeRole === undefined) {
      return usage('migrate needs --owner-url-file and --runtime-role');
    }
    const { migrateDatabase } = await import('./commands/migrate.ts');
    return migrateDatabase({ ownerUrlFile, runtimeRole, print, complain });
  }
  return usage(`no such command: ${command}`);
};

if (import.meta.main) {
  process.exitCode = await run(process.argv.slice(2));
}
