#!/usr/bin/env node
// The agent's program: arguments in, exit code out. Parts are loaded when a command needs them.
import { readFileSync, statSync } from 'node:fs';
import { enableCompileCache } from 'node:module';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { DEFAULT_DATA_DIR, processEnvironment } from './config/env.ts';
import { EXIT, type ExitCode } from './lifecycle.ts';

type Environment = Readonly<Record<string, string | undefined>>;

const HELP = `usage: agent [serve]                       serve until SIGTERM
       agent --check                       print the effective configuration, or all that is wrong with it
       agent doctor [--output json]        say what the token can do and what is wrong with the set-up
       agent enrol --token-file FILE [--unless-enrolled]
                                           bring this host to its registry (MORTISE_REGISTRY_URL) with a one-time token
       agent audit verify [--store DIR] [--tenant TENANT]... [--checkpoint FILE]...
                   [--checkpoint-key FILE] [--output json]
                                           verify the audit log; works beside a running agent
       agent --version | --help

The configuration comes from environment variables: docs/configuration.md, or agent --check.
exit codes: 0 ok, 1 failure, 2 findings, 3 ended by force, 64 usage, 78 configuration`;

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
      output: { type: 'string', default: 'text' },
      store: { type: 'string' },
      tenant: { type: 'string', multiple: true },
      checkpoint: { type: 'string', multiple: true },
      'checkpoint-key': { type: 'string' },
      'token-file': { type: 'string' },
      'unless-enrolled': { type: 'boolean', default: false },
    },
  });

/**
 * Where compiled code of an earlier start lies. It is code, so it is kept where the agent's user alone can write; Node's
 * own place for it is a shared temporary folder.
 */
const compileCacheOf = (environment: Environment): string | undefined => {
  const dataDir = environment['MORTISE_DATA_DIR'] || DEFAULT_DATA_DIR;
  const { uid = -1, mode = 0o777 } = statSync(dataDir, { throwIfNoEntry: false }) ?? {};
  return uid === process.getuid?.() && (mode & 0o077) === 0 ? join(dataDir, 'compile-cache') : undefined;
};

/**
 * The process starts itself anew, as itself, with the cache in place for this very file: the stripper of types is then
 * never loaded. Idle, agent and token process take 170 MB in place of 260 (docs/performance.md). A socket that was
 * handed over would be lost on the way: Node closes what it inherits.
 */
const useCompileCache = (environment: Environment): void => {
  const folder = compileCacheOf(environment);
  if (folder === undefined || environment['NODE_COMPILE_CACHE'] !== undefined) return;
  if (environment['LISTEN_FDS'] !== undefined || process.execve === undefined) {
    enableCompileCache(folder);
    return;
  }
  const args = [process.execPath, ...process.execArgv, ...process.argv.slice(1)];
  process.execve(process.execPath, args, { ...environment, NODE_COMPILE_CACHE: folder });
};

const usage = (problem: string): ExitCode => {
  complain(`mortise agent: ${problem}`);
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
  const { output } = values;
  if (output !== 'text' && output !== 'json') return usage('--output is text or json');
  if (values.check) return (await import('./commands/check.ts')).check({ environment, print, complain });
  const command = positionals.join(' ');
  if (command === '' || command === 'serve') {
    useCompileCache(environment);
    return (await import('./commands/serve.ts')).serve({ environment, version: version(), complain });
  }
  if (command === 'doctor') {
    return (await import('./doctor.ts')).doctor({ environment, version: version(), output, print });
  }
  if (command === 'audit verify') {
    const { store, tenant: tenants = [], checkpoint: checkpoints = [] } = values;
    const { auditVerify } = await import('./commands/audit-verify.ts');
    const checkpointKey = values['checkpoint-key'];
    return auditVerify({ environment, store, tenants, checkpoints, checkpointKey, output, print, complain });
  }
  if (command === 'enrol') {
    const tokenFile = values['token-file'];
    if (tokenFile === undefined) return usage('enrol needs --token-file');
    return (await import('./commands/enrol.ts')).enrolHost({
      environment,
      tokenFile,
      unlessEnrolled: values['unless-enrolled'],
      print,
      complain,
    });
  }
  return usage(`no such command: ${command}`);
};

if (import.meta.main) {
  process.exitCode = await run(process.argv.slice(2));
}
