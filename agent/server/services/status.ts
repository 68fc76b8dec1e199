// StatusService: proto types to plain values and back.
import type { StatusServiceService } from '../../../proto/gen/mortise/agent/v1/status.ts';
import { explain } from '../../operations/explain.ts';
import { getStatus, type StatusPorts } from '../../operations/get-status.ts';
import type { TokenView } from '../../operations/ports/status.ts';
import { whoAmI } from '../../operations/who-am-i.ts';
import type { Handlers } from '../rpc.ts';

const tokenStatus = (token: TokenView | undefined) => token && { ...token, abilities: [...token.abilities] };

export const statusHandlers = (ports: StatusPorts): Handlers<typeof StatusServiceService> => ({
  whoAmI: async (call) => {
    const { caller, peer } = (await whoAmI(ports, call)).value;
    const { tenant, principal, authenticatedBy } = caller;
    return { tenant, principal, scopes: [...caller.scopes].sort(), authenticatedBy, ...peer };
  },

  getStatus: async (call) => {
    const { value: state } = await getStatus(ports, call);
    return {
      version: state.version,
      host: state.host,
      startTime: new Date(state.startedAt),
      parts: state.parts.map((part) => ({ ...part })),
      policies: state.policies.map(({ version, expiresAt, verifiedAt, ...policy }) => ({
        ...policy,
        version: BigInt(version),
        expiresAt: new Date(expiresAt),
        verifiedAt: new Date(verifiedAt),
      })),
      token: tokenStatus(state.token),
      tokens: state.tokens.map(({ name, healthy, detail, token, certificate }) => ({
        name,
        healthy,
        detail,
        token: tokenStatus(token),
        certificate: certificate && { ...certificate, expireTime: new Date(certificate.expires) },
      })),
      fipsBoundary: state.fipsBoundary,
      opensslFips: state.opensslFips,
    };
  },

  explain: async (call, request) => (await explain(ports, call, request)).value,
});
