// AdminService: proto to plain and back, and the record of everything that is changed.
import {
  type AdminServiceService,
  type GetRegistryStatusResponse,
  HostState,
} from '../../../proto/gen/mortise/registry/v1/admin.ts';
import { asRegistryError } from '../../errors.ts';
import { type RecordPort, recordCrossing, recordDeed, recorded } from '../audit-trail.ts';
import { adminOf, type Call, reaches, requireTenant } from '../caller.ts';
import { nextPage, pageSize, pageStart } from '../pages.ts';
import type { Handlers } from '../rpc.ts';
import { adminMessage, hostMessage, tenantMessage, tokenMessage } from './admin-messages.ts';
import type { AdminsPort, HostsPort, PresencePort, PublishPort } from './admin-ports.ts';
import { policyVersionOf } from './policies.ts';

export interface AdminServiceParts {
  readonly hosts: HostsPort;
  readonly admins: AdminsPort;
  readonly presence: PresencePort;
  readonly policies: PublishPort;
  readonly records: RecordPort;
  readonly status: () => Promise<GetRegistryStatusResponse>;
}

const STATES = ['PENDING', 'ACTIVE', 'REVOKED'] as const;

const hostsRpcs = ({ hosts, presence, records }: AdminServiceParts) => ({
  createHost: async (call: Call, input: Parameters<Handlers<typeof AdminServiceService>['createHost']>[1]) => {
    const { host, tenants, tokenSeconds, bringsCertificate, reinstate } = input;
    const detail = { host: host.slice(0, 253), bringsCertificate, reinstate };
    const own = tenants.filter((tenant) => reaches(adminOf(call), tenant));
    return recorded(records, call, { operation: 'create-host', tenants: own, detail }, async () => {
      const plain = { host, tenants, tokenSeconds, bringsCertificate, reinstate };
      const { row, token } = await hosts.createHost(adminOf(call), plain);
      const message = hostMessage(row, undefined, false, adminOf(call));
      return { result: { host: message, token: token && tokenMessage(token) }, tenants: row.tenants };
    });
  },

  listHosts: async (call: Call, request: Parameters<Handlers<typeof AdminServiceService>['listHosts']>[1]) => {
    const admin = adminOf(call);
    const { tenant } = request;
    if (tenant !== '') requireTenant(call, tenant);
    const state = STATES.find((name) => HostState[name] === request.state);
    const question = ['hosts', tenant, state];
    const after = pageStart(request, question);
    const query = {
      limit: pageSize(request),
      ...(after && { after }),
      ...(tenant && { tenant }),
      ...(state && { state }),
    };
    const { rows, next } = await hosts.listHosts(admin, query);
    const shown = tenant === '' ? [...new Set(rows.flatMap((row) => row.tenants))].sort() : [tenant];
    await recordCrossing(records, call, { operation: 'list-hosts', tenants: shown });
    const said = new Map((await presence.presences(rows.map(({ host }) => host))).map((row) => [row.host, row]));
    const messages = rows.map((row) => {
      const heard = said.get(row.host);
      return hostMessage(row, heard, heard !== undefined && presence.isConnected(heard), admin);
    });
    return { hosts: messages, nextPageToken: nextPage(next, question) };
  },

  revokeHost: async (call: Call, { host, reason }: { host: string; reason: string }) => {
    const row = await hosts.host(host);
    const own = row?.tenants.filter((tenant) => reaches(adminOf(call), tenant)) ?? [];
    const detail = { host: host.slice(0, 253), reason: reason.slice(0, 255) };
    const deed = { operation: 'revoke-host', tenants: own, detail, final: true };
    return recorded(records, call, deed, async () => {
      const revoked = await hosts.revokeHost(adminOf(call), { host, reason });
      return { result: { host: hostMessage(revoked, undefined, false, adminOf(call)) } };
    });
  },
});

const adminsRpcs = ({ admins, records }: AdminServiceParts) => ({
  createAdmin: async (
    call: Call,
    input: { name: string; scopes: string[]; tenants: string[]; tokenSeconds: number },
  ) => {
    const detail = {
      admin: input.name.slice(0, 64),
      scopes: input.scopes.slice(0, 16).map((scope) => scope.slice(0, 32)),
    };
    const own = input.tenants.filter((tenant) => reaches(adminOf(call), tenant));
    return recorded(records, call, { operation: 'create-admin', tenants: own, detail }, async () => {
      const { row, token } = await admins.create(adminOf(call), input);
      return { result: { admin: adminMessage(row), token: tokenMessage(token) } };
    });
  },

  listAdmins: async (call: Call) => ({ admins: (await admins.list(adminOf(call))).map(adminMessage) }),

  revokeAdmin: async (call: Call, { name }: { name: string }) => {
    const deed = { operation: 'revoke-admin', tenants: [], detail: { admin: name.slice(0, 64) }, final: true };
    return recorded(records, call, deed, async () => {
      const row = await admins.revoke(adminOf(call), name);
      return { result: { admin: adminMessage(row) }, tenants: row.tenants };
    });
  },
});

/** Whose policy it is. One that its officers did not sign is nobody's, and whoever brought it is recorded. */
const signedFor = async ({ policies, records }: AdminServiceParts, call: Call, jws: Buffer): Promise<string> => {
  try {
    return policies.tenantOf(jws);
  } catch (thrown) {
    const deed = { operation: 'publish-policy', tenants: [], detail: {} };
    await recordDeed(records, call, deed, asRegistryError(thrown).code);
    throw thrown;
  }
};

export const adminHandlers = (parts: AdminServiceParts): Handlers<typeof AdminServiceService> => {
  const { hosts, policies, records, status } = parts;
  return {
    createTenant: async (call, { tenant, displayName }) =>
      recorded(
        records,
        call,
        { operation: 'create-tenant', tenants: [], detail: { tenant: tenant.slice(0, 63) } },
        async () => {
          const row = await hosts.createTenant(adminOf(call), { tenant, displayName });
          return { result: { tenant: tenantMessage(row) }, tenants: [row.tenant] };
        },
      ),

    listTenants: async (call, request) => {
      const question = ['tenants', adminOf(call).name];
      const after = pageStart(request, question);
      const limit = pageSize(request);
      const rows = await hosts.listTenants(adminOf(call), { limit, ...(after && { after }) });
      const next = rows.length < limit ? undefined : rows.at(-1)?.tenant;
      return { tenants: rows.map(tenantMessage), nextPageToken: nextPage(next, question) };
    },

    ...hostsRpcs(parts),
    ...adminsRpcs(parts),

    publishPolicy: async (call, { jws, acceptConflicts }) => {
      const tenant = await signedFor(parts, call, jws);
      requireTenant(call, tenant);
      const deed = {
        operation: 'publish-policy',
        tenants: tenant === '_platform' ? [] : [tenant],
        detail: {},
        final: true,
      };
      return recorded(records, call, deed, async () => {
        const options = { admin: adminOf(call).name, acceptConflicts };
        const { row, conflicts } = await policies.publish(jws, options);
        const detail = { version: row.version, digest: row.digest, conflicts: conflicts.slice(0, 16) };
        return { result: { version: policyVersionOf(row), tenant, conflicts: [...conflicts] }, detail };
      });
    },

    getRegistryStatus: () => status(),
  };
};
