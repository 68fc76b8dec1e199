// mortise whoami, status, explain, health, version, doctor: what the agent is, how it is, and what it would allow.
import type { Command } from 'commander';
import type { AgentStatus } from '../../typescript/index.ts';
import { leaf, type Registry } from '../command.ts';
import type { Context } from '../context.ts';
import type { Exit } from '../exit-codes.ts';
import { cellText, factsText, tableText } from '../output.ts';

/** Parts of an agent; each is a health service of its own, "mortise.<part>". */
const PARTS: readonly string[] = ['policy', 'keys', 'token', 'audit'];

const whoami = async (context: Context): Promise<void> => {
  const me = await (await context.client()).whoAmI(context.call);
  const text = factsText([
    ['tenant', me.tenant],
    ['principal', me.principal],
    ['scopes', me.scopes.join(' ')],
    ['known by', me.authenticatedBy === 'jwt' ? 'token' : 'user id of the process'],
    ['peer', `uid ${me.uid}, gid ${me.gid}, pid ${me.pid}`],
  ]);
  await context.print({ text, json: me });
};

type Certificate = NonNullable<AgentStatus['tokens'][number]['certificate']>;

/** As the operator stated it; Mortise itself is not a validated module. */
export const certificateText = ({ identifier, standard, level, expireTime, status, warning }: Certificate): string => {
  const until = expireTime === undefined ? '' : `, until ${expireTime.toISOString().slice(0, 10)}`;
  return `${identifier}, ${standard} level ${level}, ${status}${until}${warning === '' ? '' : ' (!)'}`;
};

const statusText = (status: AgentStatus): string => {
  const { token } = status;
  const facts = factsText([
    ['agent', `${status.version} on ${status.host}`],
    ['since', status.startTime],
    ['token', token && `${token.label} (${token.model}, serial ${token.serial})`],
    ['library', token?.library],
    ['sessions', token && `${token.sessions}, token process restarted ${token.restarts} times`],
    ['abilities', token?.abilities.join(' ')],
    [
      'FIPS',
      `${status.fipsBoundary || 'no boundary in force'}; OpenSSL FIPS provider ${status.opensslFips ? 'on' : 'off'}`,
    ],
  ]);
  const tokens = tableText(
    ['TOKEN', 'HEALTHY', 'LABEL', 'CERTIFICATE', 'DETAIL'],
    status.tokens.map(({ name, healthy, token: there, certificate, detail }) => [
      name,
      healthy,
      there?.label,
      certificate && certificateText(certificate),
      detail,
    ]),
  );
  const parts = tableText(
    ['PART', 'HEALTHY', 'DETAIL'],
    status.parts.map(({ part, healthy, detail }) => [part, healthy, detail]),
  );
  const policies = tableText(
    ['POLICY', 'VERSION', 'EXPIRES', 'VERIFIED', 'STALE', 'DIGEST'],
    status.policies.map((row) => [
      row.scope,
      row.version,
      row.expiresAt,
      row.verifiedAt,
      row.stale,
      `${row.digest.slice(0, 16)}…`,
    ]),
  );
  return `${facts}\n${parts}\n${tokens}\n${policies}`;
};

const status = async (context: Context): Promise<Exit> => {
  const answer = await (await context.client()).status(context.call);
  await context.print({ text: statusText(answer), json: answer });
  for (const { name, certificate } of answer.tokens) {
    if (certificate?.warning) context.note(`warning: token ${name}: ${certificate.warning}\n`);
  }
  return answer.parts.every((part) => part.healthy) ? 'ok' : 'failure';
};

const explain = async (
  context: Context,
  options: { readonly key?: string; readonly algorithm?: string },
  operation: string,
): Promise<Exit> => {
  const { key, algorithm } = options;
  const answer = await (await context.client()).explain(
    { operation, ...(key !== undefined && { key }), ...(algorithm !== undefined && { algorithm }) },
    context.call,
  );
  const verdict = answer.allowed ? 'allowed' : `denied (${cellText(answer.code)})`;
  const text = `${verdict} by ${cellText(answer.rule)}\n${answer.explanation ? `${cellText(answer.explanation)}\n` : ''}`;
  await context.print({ text, json: answer });
  return answer.allowed ? 'ok' : 'refused';
};

const health = async (context: Context, options: { readonly service: string }): Promise<Exit> => {
  const service = PARTS.includes(options.service) ? `mortise.${options.service}` : options.service;
  const answer = await (await context.client()).health(service, context.call);
  await context.print({ text: `${answer}\n`, json: { service, status: answer } });
  return answer === 'SERVING' ? 'ok' : answer === 'SERVICE_UNKNOWN' ? 'usage' : 'retryable';
};

const version = async (context: Context): Promise<void> => {
  const { programVersion } = await import('../version.ts');
  const facts = { mortise: programVersion(), node: process.versions.node, openssl: process.versions.openssl };
  await context.print({ text: factsText(Object.entries(facts)), json: facts });
};

const doctor = async (context: Context): Promise<Exit> => {
  const { runAgentProgram } = await import('../agent-program.ts');
  return runAgentProgram(context, ['doctor', ...(context.json ? ['--output', 'json'] : [])]);
};

/** Declares the commands of this file. */
export const registerStatus = (registry: Registry, program: Command): void => {
  leaf(registry, program, 'whoami', 'say who you are to the agent', whoami);
  leaf(registry, program, 'status', 'state of the agent and of the policy in force', status);
  leaf(
    registry,
    program,
    'explain <operation>',
    'say by which rule a call would be allowed or denied',
    explain,
    (command) =>
      command
        .option('--key <key>', 'the key it would use')
        .option('--algorithm <id>', 'the algorithm, where there is no key yet'),
  );
  leaf(registry, program, 'health', 'the standard gRPC health check', health, (command) =>
    command.option('--service <name>', 'one part: policy, keys, token or audit', ''),
  );
  leaf(registry, program, 'doctor', "examine this host's token and set-up; runs the agent program", doctor);
  leaf(registry, program, 'version', 'versions of this program', version);
};
