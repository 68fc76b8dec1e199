// mortise tenant …, host …, admin …: who belongs to the registry.
import {
  AdminServiceService,
  type EnrolmentToken,
  type Host,
  HostState,
} from '../../../proto/gen/mortise/registry/v1/admin.ts';
import type { Context } from '../context.ts';
import { CliError } from '../exit-codes.ts';
import { writeFileWhole } from '../files.ts';
import { factsText, tableText } from '../output.ts';
import { openSession, type Session, type SessionOptions } from './session.ts';

const stateText = (state: string): string => state.replace('HOST_STATE_', '').toLowerCase();

/** All pages of a list. */
const allPages = async <T>(
  read: (pageToken: string) => Promise<{ rows: readonly T[]; nextPageToken: string }>,
): Promise<T[]> => {
  const all: T[] = [];
  let token = '';
  do {
    const page = await read(token);
    all.push(...page.rows);
    token = page.nextPageToken;
  } while (token !== '');
  return all;
};

/** To a file of mode 0600, or to standard output. */
const deliverToken = async (
  context: Context,
  token: EnrolmentToken,
  options: { readonly what: string; readonly out?: string },
): Promise<void> => {
  const { what, out } = options;
  if (out !== undefined) await writeFileWhole(out, `${token.token}\n`, { force: false, mode: 0o600 });
  context.note(`one-time token of ${what}, good until ${token.expireTime?.toISOString()}; hand it over in private\n`);
  const json = { ...(out === undefined ? { token: token.token } : { out }), expireTime: token.expireTime };
  await context.print({ text: `${out ?? token.token}\n`, json });
};

export const createTenant = async (
  context: Context,
  options: SessionOptions & { readonly displayName?: string },
  tenant: string,
): Promise<void> => {
  using session = await openSession(context, options);
  const request = { tenant, displayName: options.displayName ?? '' };
  const answer = await session.call(AdminServiceService.createTenant, request);
  await context.print({ text: `tenant ${answer.tenant?.tenant}\n`, json: answer.tenant });
};

export const listTenants = async (context: Context, options: SessionOptions): Promise<void> => {
  using session = await openSession(context, options);
  const tenants = await allPages(async (pageToken) => {
    const page = await session.call(AdminServiceService.listTenants, { pageSize: 500, pageToken });
    return { rows: page.tenants, nextPageToken: page.nextPageToken };
  });
  const rows = tenants.map(({ tenant, displayName, createTime }) => [tenant, displayName, createTime]);
  await context.print({ text: tableText(['TENANT', 'NAME', 'CREATED'], rows), json: { tenants } });
};

export interface EnrolHostOptions extends SessionOptions {
  readonly tenant: readonly string[];
  readonly tokenSeconds?: number;
  readonly out?: string;
  readonly bringsCertificate: boolean;
  readonly reinstate: boolean;
}

export const enrolHost = async (context: Context, options: EnrolHostOptions, host: string): Promise<void> => {
  using session = await openSession(context, options);
  const { tenant, tokenSeconds = 0, bringsCertificate, reinstate, out } = options;
  const request = { host, tenants: [...tenant], tokenSeconds, bringsCertificate, reinstate };
  const answer = await session.call(AdminServiceService.createHost, request);
  if (answer.token === undefined) {
    await context.print({ text: `host ${host} may come with a certificate of its own\n`, json: answer.host });
    return;
  }
  await deliverToken(context, answer.token, { what: `the host ${host}`, ...(out !== undefined && { out }) });
};

const hostsOf = (session: Session, options: { readonly tenant?: string }): Promise<Host[]> =>
  allPages(async (pageToken) => {
    const filter = { tenant: options.tenant ?? '', state: HostState.UNSPECIFIED };
    const page = await session.call(AdminServiceService.listHosts, { pageSize: 500, pageToken, ...filter });
    return { rows: page.hosts, nextPageToken: page.nextPageToken };
  });

const policiesText = ({ policies }: Host): string =>
  policies.map(({ tenant, version, since }) => `${tenant}@${version} since ${since?.toISOString() ?? '?'}`).join(', ');

export const listHosts = async (
  context: Context,
  options: SessionOptions & { readonly tenant?: string },
): Promise<void> => {
  using session = await openSession(context, options);
  const hosts = await hostsOf(session, options);
  const text = tableText(
    ['HOST', 'STATE', 'CONNECTED', 'LAST SEEN', 'AGENT', 'TENANTS', 'POLICIES'],
    hosts.map((host) => [
      host.host,
      stateText(host.state),
      host.connected,
      host.lastSeen,
      host.agentVersion,
      host.tenants.join(' '),
      policiesText(host),
    ]),
  );
  await context.print({ text, json: { hosts } });
};

export const revokeHost = async (
  context: Context,
  options: SessionOptions & { readonly reason?: string },
  host: string,
): Promise<void> => {
  using session = await openSession(context, options);
  const answer = await session.call(AdminServiceService.revokeHost, { host, reason: options.reason ?? '' });
  await context.print({ text: `host ${host} is cut off\n`, json: answer.host });
};

export interface EnrolAdminOptions extends SessionOptions {
  readonly scope: readonly string[];
  readonly tenant?: readonly string[];
  readonly tokenSeconds?: number;
  readonly out?: string;
}

export const enrolAdmin = async (context: Context, options: EnrolAdminOptions, name: string): Promise<void> => {
  using session = await openSession(context, options);
  const { scope, tenant = [], tokenSeconds = 0, out } = options;
  const request = { name, scopes: [...scope], tenants: [...tenant], tokenSeconds };
  const { token } = await session.call(AdminServiceService.createAdmin, request);
  if (token === undefined) throw new CliError('failure', 'the registry gave no token');
  await deliverToken(context, token, { what: `the administrator ${name}`, ...(out !== undefined && { out }) });
};

export const listAdmins = async (context: Context, options: SessionOptions): Promise<void> => {
  using session = await openSession(context, options);
  const { admins } = await session.call(AdminServiceService.listAdmins, {});
  const rows = admins.map(({ name, revoked, tenants, scopes, certificateExpireTime }) => [
    name,
    revoked ? 'revoked' : 'active',
    tenants.join(' ') || 'all',
    certificateExpireTime,
    scopes.join(' '),
  ]);
  await context.print({
    text: tableText(['NAME', 'STATE', 'TENANTS', 'CERTIFICATE UNTIL', 'SCOPES'], rows),
    json: { admins },
  });
};

export const revokeAdmin = async (context: Context, options: SessionOptions, name: string): Promise<void> => {
  using session = await openSession(context, options);
  const answer = await session.call(AdminServiceService.revokeAdmin, { name });
  await context.print({ text: `administrator ${name} is cut off\n`, json: answer.admin });
};

export const registryStatus = async (context: Context, options: SessionOptions): Promise<'ok' | 'failure'> => {
  using session = await openSession(context, options);
  const answer = await session.call(AdminServiceService.getRegistryStatus, {});
  const facts = factsText([
    ['registry', `${answer.version}, replica ${answer.replica}, ${answer.trustDomain}`],
    ['since', answer.startTime],
    ['store', answer.store],
    ['tenants', String(answer.tenants)],
    ['hosts', `${answer.hosts} may connect, ${answer.connectedHosts} do here`],
    ['root', `SHA-256 ${answer.rootSha256}`],
    ['root until', answer.rootExpireTime],
    ['cosigner', answer.cosigner],
    ['TLS', answer.requiresHybridTls ? 'X25519MLKEM768 required' : 'X25519MLKEM768 preferred'],
  ]);
  const parts = answer.parts.map(({ part, healthy, detail }) => [part, healthy, detail]);
  const json = {
    ...answer,
    hosts: Number(answer.hosts),
    connectedHosts: Number(answer.connectedHosts),
    tenants: Number(answer.tenants),
  };
  await context.print({ text: `${facts}\n${tableText(['PART', 'HEALTHY', 'DETAIL'], parts)}`, json });
  return answer.parts.every(({ healthy }) => healthy) ? 'ok' : 'failure';
};
