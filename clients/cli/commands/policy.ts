// mortise policy …: make, sign and examine policies, without an agent.
import { type Command, Option } from 'commander';
import { collect, leaf, parseCount, parseTime, type Registry } from '../command.ts';
import type { ExplainOptions } from '../policy/explain.ts';
import type { InitOptions } from '../policy/init.ts';
import type { RehearseOptions } from '../policy/rehearse.ts';
import type { SignOptions } from '../policy/sign.ts';
import type { VerifyOptions } from '../policy/verify.ts';
import { sessionOptions } from '../registry/options.ts';
import type { SessionOptions } from '../registry/session.ts';

const passphraseOption = (command: Command): Command =>
  command.option(
    '--passphrase-file <file>',
    "file whose first line is the officer's passphrase; repeated: one for each --officer (default: ask)",
    collect,
  );

const initOptions = (command: Command): Command =>
  passphraseOption(
    command
      .requiredOption('--dir <dir>', 'folder to make: drafts/, officers/, policy/')
      .option('--template <name>', 'default, fips-140-3, cnsa-2.0, pqc-hybrid or classical-migration', 'default')
      .option('--tenant <id>', 'a tenant; may be repeated', collect)
      .option('--officer <name>', 'a policy officer; may be repeated (default: one, "officer")', collect)
      .option('--threshold <k>', 'so many officers must sign (default: all)', parseCount)
      .addOption(
        new Option('--classical <algorithm>', "classical half of an officer's keys, beside ML-DSA-65")
          .choices(['Ed25519', 'ES256'])
          .default('Ed25519'),
      )
      .option('--valid-days <n>', 'validity of the drafts (default: 365)', parseCount)
      .option('--force', 'replace existing files', false),
  );

const signOptions = (command: Command): Command =>
  passphraseOption(
    command
      .requiredOption('--officer <key-file>', "an officer's key file; may be repeated", collect)
      .option('--dir <dir>', 'the folder of "policy init": gives --anchor, --platform and --out')
      .option('--anchor <file>', 'trust anchor')
      .option('--platform <file>', 'signed platform policy, which a tenant policy may only narrow')
      .option('--out <file>', 'where the signed policy goes')
      .option('--force', 'replace an existing file', false),
  );

const explainOptions = (command: Command): Command =>
  command
    .requiredOption('--platform <file>', 'platform policy, draft or signed')
    .option('--policy <file>', "the tenant's policy, draft or signed")
    .option('--tenant <id>', 'tenant without a policy of its own')
    .option('--algorithm <id>', 'such as AES-256')
    .option('--jose <name>', 'such as PS256')
    .addOption(new Option('--custody <custody>', 'where the key lives').choices(['hsm', 'wrapped', 'split']))
    .option('--at <time>', 'at this moment (default: now)', parseTime);

const rehearseOptions = (command: Command): Command =>
  command
    .option('--platform <file>', "platform policy in force, where the draft is a tenant's; draft or signed")
    .option(
      '--tenant-policy <file>',
      "a tenant's policy in force, where the draft is the platform's; repeated",
      collect,
    )
    .option(
      '--records <file>',
      'audit records as JSON lines, of "audit tail" or "export"; "-": standard input (default: ask the agent)',
    )
    .option('--keys <file>', 'what "inventory" prints as JSON, beside --records (default: JOSE names alone)')
    .option('--tenant <id>', 'only records of this tenant')
    .option('--since <time>', 'only records from this time on', parseTime)
    .option('--until <time>', 'only records before this time', parseTime)
    .option('--at <time>', 'judge sunsets as of this time (default: when the draft can come into force)', parseTime)
    .option('--top <n>', 'so many rows of the table', parseCount, 50)
    .addHelpText('after', REHEARSE_HELP);

const REHEARSE_HELP = `
Needs the scopes audit.read and keys.read. Exit code 0: nothing that was done would be refused; 4: something would.`;

/** Declares `policy` and its subcommands. */
export const registerPolicy = (registry: Registry, program: Command): Command => {
  const policy = program.command('policy').description('make, sign and examine policies, without an agent');
  leaf<InitOptions>(
    registry,
    policy,
    'init',
    "write drafts from a template, the officers' keys and the trust anchor",
    async (context, options) => (await import('../policy/init.ts')).init(context, options),
    initOptions,
  );
  leaf<SignOptions>(
    registry,
    policy,
    'sign <file>',
    'sign a draft, or add signatures to a signed policy; refuses what widens',
    async (context, options, file) => (await import('../policy/sign.ts')).sign(context, options, file as string),
    signOptions,
  );
  leaf<VerifyOptions>(
    registry,
    policy,
    'verify <files...>',
    'would an agent take these policies?',
    async (context, options, files) =>
      // commander gives a variadic argument as one list
      (await import('../policy/verify.ts')).verify(context, options, files as unknown as readonly string[]),
    (command) =>
      command
        .requiredOption('--anchor <file>', 'trust anchor')
        .option('--platform <file>', 'signed platform policy, to check that tenants only narrow it')
        .option('--at <time>', 'at this moment (default: now)', parseTime),
  );
  leaf<ExplainOptions>(
    registry,
    policy,
    'explain <operation>',
    'say by which rule these policies allow or deny an operation',
    async (context, options, operation) =>
      (await import('../policy/explain.ts')).explain(context, options, operation as string),
    explainOptions,
  );
  leaf<RehearseOptions>(
    registry,
    policy,
    'rehearse <draft>',
    'what a draft would have refused of what the audit trail has',
    async (context, options, draft) =>
      (await import('../policy/rehearse.ts')).rehearse(context, options, draft as string),
    rehearseOptions,
  );
  leaf<SessionOptions>(
    registry,
    policy,
    'diff <before> <after>',
    'what differs between two policies: files, or registry:[tenant][@version]',
    async (context, options, before, after) =>
      (await import('../policy/explain.ts')).diff(context, options, before as string, after as string),
    sessionOptions,
  );
  return policy;
};
