// mortise registry …, tenant …, host …, admin …: the registry, and who belongs to it.
import type { Command } from 'commander';
import { collect, leaf, parseCount, parseDuration, type Registry } from '../command.ts';
import type { EnrolOptions } from '../registry/enrol.ts';
import type { EnrolAdminOptions, EnrolHostOptions } from '../registry/hosts.ts';
import { sessionOptions } from '../registry/options.ts';
import type { RebuildOptions } from '../registry/rebuild.ts';
import type { SessionOptions } from '../registry/session.ts';
import type { SetTokenSessionsOptions, TokenOptions } from '../registry/token-sessions.ts';

const tokenOptions = (command: Command): Command =>
  sessionOptions(command)
    .option('--token-seconds <n>', 'how long the token is good, 60 to 86400 (default: 3600)', parseCount)
    .option('--out <file>', 'write the token to this file (default: standard output)');

interface InitOptions {
  readonly trustDomain: string;
  readonly trustAnchor: string;
  readonly admin: string;
  readonly tokenOut?: string;
  readonly unlessMade: boolean;
}

const registerProgram = (registry: Registry, parent: Command): void => {
  leaf<InitOptions>(
    registry,
    parent,
    'init',
    'make CA, keys and the first administrator; runs the registry program',
    async (context, { trustDomain, trustAnchor, admin, tokenOut, unlessMade }) => {
      const { runRegistryProgram } = await import('../registry/program.ts');
      const out = tokenOut === undefined ? [] : ['--token-file', tokenOut];
      const args = ['--trust-domain', trustDomain, '--trust-anchor', trustAnchor, '--admin', admin, ...out];
      if (unlessMade) args.push('--unless-made');
      return runRegistryProgram(context, ['init', ...args]);
    },
    (command) =>
      command
        .requiredOption('--trust-domain <domain>', 'SPIFFE trust domain, such as crypto.example.com')
        .requiredOption('--trust-anchor <file>', 'trust anchor of policy signatures, of "policy init"')
        .option('--admin <name>', 'the first administrator', 'root')
        .option('--token-out <file>', "where the administrator's token goes (default: standard output)")
        .option('--unless-made', 'do nothing where a registry is made already', false),
  );
  leaf(registry, parent, 'serve', 'run the registry until SIGTERM', async (context) =>
    (await import('../registry/program.ts')).runRegistryProgram(context, ['serve']),
  );
  leaf<EnrolOptions>(
    registry,
    parent,
    'enrol',
    'become an administrator with a one-time token',
    async (context, options) => (await import('../registry/enrol.ts')).enrol(context, options),
    (command) =>
      sessionOptions(command).requiredOption('--enrolment-token <file>', 'file with the token; "-": standard input'),
  );
  leaf<SessionOptions>(
    registry,
    parent,
    'status',
    'how the registry is',
    async (context, options) => (await import('../registry/hosts.ts')).registryStatus(context, options),
    sessionOptions,
  );
};

const registerRebuild = (registry: Registry, parent: Command): void => {
  leaf<{ admin: string; tokenOut?: string }>(
    registry,
    parent,
    'first-admin',
    'a token of the first administrator, where the store was lost',
    async (context, { admin, tokenOut }) => {
      const { runRegistryProgram } = await import('../registry/program.ts');
      const out = tokenOut === undefined ? [] : ['--token-file', tokenOut];
      return runRegistryProgram(context, ['first-admin', '--admin', admin, ...out]);
    },
    (command) =>
      command
        .option('--admin <name>', 'the first administrator', 'root')
        .option('--token-out <file>', 'where the token goes (default: standard output)'),
  );
  leaf<SessionOptions & { out?: string; force: boolean }>(
    registry,
    parent,
    'pinned',
    'what you pinned of the registry, for verification without it',
    async (context, options) => (await import('../registry/pinned.ts')).showPinned(context, options),
    (command) =>
      sessionOptions(command)
        .option('--out <dir>', 'write roots, trust anchor, sealing key and cosigner into this folder')
        .option('--force', 'replace existing files', false),
  );
  leaf<RebuildOptions>(
    registry,
    parent,
    'rebuild <tenant>',
    "make a tenant's lost catalogue anew from what its hosts know",
    async (context, options, tenant) =>
      (await import('../registry/rebuild.ts')).rebuild(context, options, tenant as string),
    (command) =>
      sessionOptions(command)
        .option('--status', 'only show how the last rebuild stands', false)
        .option('--wait <time>', 'how long to wait for all hosts (default: 1m)', parseDuration)
        .option('--accept-missing', 'end it although hosts are missing', false)
        .option('--seconds <n>', 'how long it stays open, 60 to 86400 (default: 3600)', parseCount),
  );
};

const registerTokenSessions = (registry: Registry, parent: Command): void => {
  const tokenOptions = (command: Command): Command =>
    sessionOptions(command).option('--serial <number>', 'serial number of the token (default: it has none)');
  leaf<SetTokenSessionsOptions>(
    registry,
    parent,
    'set <label>',
    'how many sessions of a token all hosts together may open',
    async (context, options, label) =>
      (await import('../registry/token-sessions.ts')).setTokenSessions(context, options, label as string),
    (command) =>
      tokenOptions(command)
        .requiredOption('--total <n>', 'sessions of all hosts together; 0 removes the budget', parseCount)
        .option('--reserve <n>', 'of these, kept for hosts that start: two each', parseCount, 2)
        .option('--lease <time>', 'how long a share holds without the registry (default: 60s)', parseDuration),
  );
  leaf<SessionOptions>(
    registry,
    parent,
    'list',
    'budgets, and the share of each host',
    async (context, options) => (await import('../registry/token-sessions.ts')).listTokenSessions(context, options),
    sessionOptions,
  );
  leaf<TokenOptions>(
    registry,
    parent,
    'forget <label> <host>',
    'give to the others what a host holds that will not come back',
    async (context, options, label, host) =>
      (await import('../registry/token-sessions.ts')).forgetTokenSessions(
        context,
        options,
        label as string,
        host as string,
      ),
    tokenOptions,
  );
};

const registerTenants = (registry: Registry, parent: Command): void => {
  leaf<SessionOptions & { displayName?: string }>(
    registry,
    parent,
    'create <tenant>',
    'make a tenant',
    async (context, options, tenant) =>
      (await import('../registry/hosts.ts')).createTenant(context, options, tenant as string),
    (command) => sessionOptions(command).option('--display-name <text>', 'for people'),
  );
  leaf<SessionOptions>(
    registry,
    parent,
    'list',
    'tenants that you may see',
    async (context, options) => (await import('../registry/hosts.ts')).listTenants(context, options),
    sessionOptions,
  );
};

const registerHosts = (registry: Registry, parent: Command): void => {
  leaf<EnrolHostOptions>(
    registry,
    parent,
    'enrol <host>',
    'make a one-time token with which the host gets its certificate ("agent enrol")',
    async (context, options, host) =>
      (await import('../registry/hosts.ts')).enrolHost(context, options, host as string),
    (command) =>
      tokenOptions(command)
        .requiredOption('--tenant <id>', 'a tenant that it may serve; may be repeated', collect)
        .option('--brings-certificate', 'no token: it has a certificate of a CA that the registry takes', false)
        .option('--reinstate', 'take a revoked host in again', false),
  );
  leaf<SessionOptions & { tenant?: string }>(
    registry,
    parent,
    'list',
    'hosts, with the policies in force on each',
    async (context, options) => (await import('../registry/hosts.ts')).listHosts(context, options),
    (command) => sessionOptions(command).option('--tenant <id>', 'only hosts of this tenant'),
  );
  leaf<SessionOptions & { reason?: string }>(
    registry,
    parent,
    'revoke <host>',
    'cut a host off, at once',
    async (context, options, host) =>
      (await import('../registry/hosts.ts')).revokeHost(context, options, host as string),
    (command) => sessionOptions(command).option('--reason <text>', 'for the audit trail and the host'),
  );
};

const registerAdmins = (registry: Registry, parent: Command): void => {
  leaf<EnrolAdminOptions>(
    registry,
    parent,
    'enrol <name>',
    'make an administrator and a one-time token for "registry enrol"',
    async (context, options, name) =>
      (await import('../registry/hosts.ts')).enrolAdmin(context, options, name as string),
    (command) =>
      tokenOptions(command)
        .requiredOption('--scope <scope>', 'what he may do (docs/registry.md); may be repeated', collect)
        .option('--tenant <id>', 'only for this tenant; may be repeated (default: all tenants)', collect),
  );
  leaf<SessionOptions>(
    registry,
    parent,
    'list',
    'administrators',
    async (context, options) => (await import('../registry/hosts.ts')).listAdmins(context, options),
    sessionOptions,
  );
  leaf<SessionOptions>(
    registry,
    parent,
    'revoke <name>',
    'cut an administrator off, at once',
    async (context, options, name) =>
      (await import('../registry/hosts.ts')).revokeAdmin(context, options, name as string),
    sessionOptions,
  );
};

/** Declares the commands of this file. */
export const registerRegistry = (registry: Registry, program: Command): void => {
  const own = program.command('registry').description('run and examine the registry');
  registerProgram(registry, own);
  registerRebuild(registry, own);
  registerTokenSessions(
    registry,
    own.command('token-sessions').description('sessions of a token, divided among hosts'),
  );
  registerTenants(registry, program.command('tenant').description('tenants of the registry'));
  registerHosts(registry, program.command('host').description('hosts of the registry'));
  registerAdmins(registry, program.command('admin').description('administrators of the registry'));
};

/** Adds to `policy` what the registry does with policies. */
export const registerPolicyRegistry = (registry: Registry, policy: Command): void => {
  leaf<SessionOptions & { acceptConflicts: boolean }>(
    registry,
    policy,
    'publish <file>',
    'publish a signed policy at the registry',
    async (context, options, file) =>
      (await import('../registry/policies.ts')).publish(context, options, file as string),
    (command) =>
      sessionOptions(command).option('--accept-conflicts', "although tenants' policies would widen it", false),
  );
  leaf<SessionOptions & { diff: boolean }>(
    registry,
    policy,
    'history [tenant]',
    'versions published at the registry (default: of the platform policy)',
    async (context, options, tenant) => (await import('../registry/policies.ts')).history(context, options, tenant),
    (command) => sessionOptions(command).option('--diff', 'what each version changed of the one before it', false),
  );
  leaf<SessionOptions & { policyVersion?: number; out?: string; force: boolean }>(
    registry,
    policy,
    'fetch [tenant]',
    'a published policy as it was signed, for "policy diff" and "policy verify"',
    async (context, options, tenant) => (await import('../registry/policies.ts')).fetchPolicy(context, options, tenant),
    (command) =>
      sessionOptions(command)
        .option('--policy-version <n>', 'this version (default: the newest)', parseCount)
        .option('--out <file>', 'where it goes (default: standard output)')
        .option('--force', 'replace an existing file', false),
  );
};
