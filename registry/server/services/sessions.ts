// SessionsService: proto to plain and back, and the record of everything that is changed.
import type {
  LeaseSessionsRequest,
  SessionBudget,
  SessionShare,
  SessionsServiceService,
  TokenName as TokenNameMessage,
} from '../../../proto/gen/mortise/registry/v1/sessions.ts';
import { invalid, RegistryError } from '../../errors.ts';
import { type RecordPort, recorded } from '../audit-trail.ts';
import { adminOf, type Call, hostOf } from '../caller.ts';
import type { Handlers } from '../rpc.ts';

interface TokenName {
  readonly label: string;
  readonly serial: string;
}

interface Asked {
  readonly host: string;
  readonly name: string;
  readonly held: number;
  readonly grant: number;
  readonly wanted: number;
  readonly fallback: number;
}

interface Share {
  readonly host: string;
  readonly name: string;
  readonly share: number;
  readonly held: number;
  readonly since: number;
  readonly leaseEnd: number;
}

interface Budget<S extends Share> extends TokenName {
  readonly total: number;
  readonly reserve: number;
  readonly leaseSeconds: number;
  readonly setBy: string;
  readonly setAt: number;
  readonly shares: readonly S[];
}

export interface SessionsPort<S extends Share = Share> {
  lease(
    token: TokenName,
    asked: Asked,
  ): Promise<
    | {
        readonly share: number;
        readonly grant: number;
        readonly leaseSeconds: number;
        readonly renewSeconds: number;
        readonly total: number;
        readonly hosts: number;
      }
    | undefined
  >;
  leave(token: TokenName, asked: Asked): Promise<void>;
  set(
    admin: string,
    token: TokenName,
    input: { readonly total: number; readonly reserve: number; readonly leaseSeconds: number },
  ): Promise<Budget<S> | undefined>;
  list(): Promise<readonly Budget<S>[]>;
  stateOf(share: S): string;
  forget(token: TokenName, host: string): Promise<Budget<S>>;
  readonly unlimitedRenewSeconds: number;
}

const MAX_LABEL = 32; // of CK_TOKEN_INFO, and so is the next
const MAX_SERIAL = 16;
const MAX_NAME = 63;
const MAX_SESSIONS = 1024; // of one host
const PRINTABLE = /^[^\p{Cc}]*$/u;

const tokenOf = (token: TokenNameMessage | undefined): TokenName => {
  if (token === undefined) throw invalid('token', 'is missing');
  const { label, serial } = token;
  if (label === '' || [...label].length > MAX_LABEL || !PRINTABLE.test(label)) {
    throw invalid('token.label', `must be 1 to ${MAX_LABEL} printable characters`);
  }
  if ([...serial].length > MAX_SERIAL || !PRINTABLE.test(serial)) {
    throw invalid('token.serial', `must be up to ${MAX_SERIAL} printable characters`);
  }
  return { label, serial };
};

const askedOf = (host: string, { name, held, grant, wanted, fallback }: LeaseSessionsRequest): Asked => {
  if (name === '' || name.length > MAX_NAME || !PRINTABLE.test(name)) {
    throw invalid('name', `must be 1 to ${MAX_NAME} printable characters`);
  }
  for (const [field, value] of Object.entries({ held, wanted, fallback })) {
    if (value > MAX_SESSIONS) throw invalid(field, `at most ${MAX_SESSIONS}`);
  }
  if (wanted < 2) throw invalid('wanted', 'at least 2: one session for the login, one that works');
  if (grant > BigInt(Number.MAX_SAFE_INTEGER)) throw invalid('grant', 'too large');
  return { host, name, held, grant: Number(grant), wanted, fallback };
};

const shareMessage = <S extends Share>(sessions: SessionsPort<S>, row: S): SessionShare => {
  const { host, name, share, held, since, leaseEnd } = row;
  const [from, to] = [new Date(since), new Date(leaseEnd)];
  return { host, name, share, held, since: from, leaseEnd: to, state: sessions.stateOf(row) };
};

const budgetMessage = <S extends Share>(sessions: SessionsPort<S>, budget: Budget<S>): SessionBudget => {
  const { label, serial, total, reserve, leaseSeconds, setBy, setAt, shares } = budget;
  const sorted = [...shares].sort((a, b) => (`${a.host} ${a.name}` < `${b.host} ${b.name}` ? -1 : 1));
  return {
    token: { label, serial },
    ...{ total, reserve, leaseSeconds, setBy },
    setTime: new Date(setAt),
    shares: sorted.map((row) => shareMessage(sessions, row)),
  };
};

/** A token is nobody's of the tenants'. */
const platformAdmin = (call: Call): string => {
  const { name, tenants } = adminOf(call);
  if (tenants.length > 0) throw new RegistryError('PERMISSION_DENIED');
  return name;
};

export const sessionsHandlers = <S extends Share>(parts: {
  readonly sessions: SessionsPort<S>;
  readonly records: RecordPort;
}): Handlers<typeof SessionsServiceService> => {
  const { sessions, records } = parts;
  return {
    leaseSessions: async (call, request) => {
      const token = tokenOf(request.token);
      const asked = askedOf(hostOf(call).name, request);
      if (request.leaving) await sessions.leave(token, asked);
      const lease = request.leaving ? undefined : await sessions.lease(token, asked);
      if (lease === undefined) {
        const none = { share: 0, grant: 0n, leaseSeconds: 0, total: 0, hosts: 0 };
        return { limited: false, ...none, renewSeconds: sessions.unlimitedRenewSeconds };
      }
      return { limited: true, ...lease, grant: BigInt(lease.grant) };
    },

    setBudget: async (call, request) => {
      const { total, reserve, leaseSeconds } = request;
      const { label = '', serial = '' } = request.token ?? {};
      const detail = { token: label.slice(0, 64), serial: serial.slice(0, 64), total, reserve };
      return recorded(records, call, { operation: 'set-session-budget', tenants: [], detail }, async () => {
        const admin = platformAdmin(call);
        const budget = await sessions.set(admin, tokenOf(request.token), { total, reserve, leaseSeconds });
        return { result: { budget: budget && budgetMessage(sessions, budget) } };
      });
    },

    listBudgets: async (call) => {
      platformAdmin(call);
      return { budgets: (await sessions.list()).map((budget) => budgetMessage(sessions, budget)) };
    },

    forgetShare: async (call, { token, host }) => {
      const { label = '', serial = '' } = token ?? {};
      const detail = { token: label.slice(0, 64), serial: serial.slice(0, 64), host: host.slice(0, 253) };
      return recorded(records, call, { operation: 'forget-session-share', tenants: [], detail }, async () => {
        platformAdmin(call);
        return { result: { budget: budgetMessage(sessions, await sessions.forget(tokenOf(token), host)) } };
      });
    },
  };
};
