// HostsService: proto to plain and back.
import type {
  Credentials,
  HeartbeatRequest,
  HeartbeatResponse,
  HostsServiceService,
} from '../../../proto/gen/mortise/registry/v1/hosts.ts';
import { invalid, RegistryError } from '../../errors.ts';
import { type RecordPort, recordCertificate } from '../audit-trail.ts';
import { type Call, hostOf } from '../caller.ts';
import type { Handlers } from '../rpc.ts';

interface PlainCredentials {
  readonly chain: readonly Buffer[];
  readonly renewAt: number;
  readonly expiresAt: number;
}

export interface EnrolmentPort {
  enrol(input: { readonly token: string; readonly certificateRequest: Uint8Array }): Promise<{
    readonly kind: 'host' | 'admin';
    readonly name: string;
    readonly tenants: readonly string[];
    readonly credentials: PlainCredentials;
  }>;
  renew(
    holder: { readonly kind: 'host' | 'admin'; readonly name: string; readonly serial: string },
    certificateRequest: Uint8Array,
  ): Promise<PlainCredentials>;
}

/** What a heartbeat message says, plainly. */
export interface SaidByHost {
  readonly agentVersion?: string;
  readonly startedAt?: number;
  readonly policies: readonly { tenant: string; version: number; digest: string; since: number }[];
  readonly catalogs: readonly { tenant: string; position: number }[];
  readonly backlogs: readonly { tenant: string; records: number }[];
  readonly parts: readonly { part: string; healthy: boolean; detail: string }[];
}

export interface HeartbeatPort {
  join(
    host: string,
    tenants: readonly string[],
    first: SaidByHost,
  ): {
    /** Aborts with the RegistryError that ends it. */
    readonly signal: AbortSignal;
    said(said: SaidByHost): void;
    leave(reason: string): Promise<void>;
  };
}

/** What is pinned at an enrolment. */
export interface Pinned {
  readonly registryRoots: readonly Buffer[];
  readonly trustDomain: string;
  readonly trustAnchor: Buffer;
  readonly sealingJwk: string;
  readonly cosigner: string;
}

export interface HostsServiceParts {
  readonly records: RecordPort;
  readonly enrolment: EnrolmentPort;
  readonly heartbeats: HeartbeatPort;
  readonly pinned: Pinned;
  readonly replica: string;
  readonly heartbeatSeconds: number;
  readonly now: () => number;
}

const MAX_ROWS = 20_000; // a platform policy and those of 10000 tenants
const MAX_DETAIL = 255;
const MAX_VERSION = 64;
const DIGEST = /^[0-9a-f]{64}$/;

const count = (value: bigint, field: string): number => {
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw invalid(field, 'too large');
  return Number(value);
};

const plainOf = (message: HeartbeatRequest): SaidByHost => {
  const { agentVersion, startTime, policies, catalogs, backlogs, parts } = message;
  if ([policies, catalogs, backlogs, parts].some((rows) => rows.length > MAX_ROWS))
    throw new RegistryError('TOO_LARGE');
  if (agentVersion.length > MAX_VERSION) throw invalid('agent_version', `at most ${MAX_VERSION} bytes`);
  return {
    ...(agentVersion !== '' && { agentVersion }),
    ...(startTime !== undefined && { startedAt: startTime.getTime() }),
    policies: policies.map(({ tenant, version, digest, since }) => {
      if (!DIGEST.test(digest)) throw invalid('policies.digest', 'not a SHA-256 in lower-case hex');
      return { tenant, version: count(version, 'policies.version'), digest, since: since?.getTime() ?? 0 };
    }),
    catalogs: catalogs.map(({ tenant, position }) => ({ tenant, position: count(position, 'catalogs.position') })),
    backlogs: backlogs.map(({ tenant, records }) => ({ tenant, records: count(records, 'backlogs.records') })),
    parts: parts.slice(0, 16).map(({ part, healthy, detail }) => ({
      part: part.slice(0, 32),
      healthy,
      detail: detail.slice(0, MAX_DETAIL),
    })),
  };
};

/** The next message, or the reason of the signal; a stream of months leaves nothing behind per message. */
const orEnded = <T>(messages: AsyncIterator<T>, signal: AbortSignal): (() => Promise<IteratorResult<T>>) => {
  let end: (reason: unknown) => void = () => undefined;
  signal.addEventListener('abort', () => end(signal.reason), { once: true });
  return () =>
    new Promise((resolve, reject) => {
      end = reject;
      if (signal.aborted) reject(signal.reason);
      else messages.next().then(resolve, reject);
    });
};

async function* heartbeat(
  parts: HostsServiceParts,
  call: Call,
  requests: AsyncIterable<HeartbeatRequest>,
): AsyncGenerator<HeartbeatResponse> {
  const { name, tenants } = hostOf(call);
  const messages = requests[Symbol.asyncIterator]();
  const first = await messages.next();
  if (first.done === true) return;
  const joined = parts.heartbeats.join(name, tenants, plainOf(first.value));
  let reason = 'ended by the host';
  try {
    const interval = { intervalSeconds: parts.heartbeatSeconds, time: new Date(parts.now()) };
    yield { command: { $case: 'welcome', value: { tenants: [...tenants], ...interval, replica: parts.replica } } };
    const nextMessage = orEnded(messages, joined.signal);
    for (;;) {
      const next = await nextMessage();
      if (next.done === true) return;
      joined.said(plainOf(next.value));
    }
  } catch (error) {
    reason = error instanceof RegistryError ? error.code : 'INTERNAL';
    if (reason === 'HOST_REVOKED') {
      const why = (error as RegistryError).metadata['reason'] ?? '';
      yield { command: { $case: 'revoked', value: { reason: why } } };
    } else if (reason === 'SHUTTING_DOWN') {
      yield { command: { $case: 'goAway', value: { graceSeconds: 0 } } };
    }
    throw error;
  } finally {
    await joined.leave(reason);
  }
}

export const hostsHandlers = (parts: HostsServiceParts): Handlers<typeof HostsServiceService> => {
  const { enrolment, pinned, records } = parts;
  const credentialsOf = ({ chain, renewAt, expiresAt }: PlainCredentials): Credentials => ({
    certificateChain: [...chain],
    renewTime: new Date(renewAt),
    expireTime: new Date(expiresAt),
    ...pinned,
    registryRoots: [...pinned.registryRoots],
  });
  return {
    enrol: async (call, { token, certificateRequest }) => {
      const { kind, name, tenants, credentials } = await enrolment.enrol({ token, certificateRequest });
      const { expiresAt } = credentials;
      await recordCertificate(records, call, { operation: 'enrol', holder: { kind, name }, tenants, expiresAt });
      return { kind, name, tenants: [...tenants], credentials: credentialsOf(credentials) };
    },
    renew: async (call, { certificateRequest }) => {
      const { caller: holder } = call;
      if (holder === undefined) throw new RegistryError('UNAUTHENTICATED');
      const credentials = await enrolment.renew(holder, certificateRequest);
      const { expiresAt } = credentials;
      await recordCertificate(records, call, { operation: 'renew', holder, tenants: [], expiresAt });
      return { credentials: credentialsOf(credentials) };
    },
    heartbeat: (call, requests) => heartbeat(parts, call, requests),
  };
};
