// --wait-for-hosts: proof from the registry that every host of the tenant has applied a change of a key.
import {
  CatalogServiceService,
  EntryKind,
  type WaitForHostsResponse,
} from '../../../proto/gen/mortise/registry/v1/catalog.ts';
import type { Context } from '../context.ts';
import { CliError, type Exit } from '../exit-codes.ts';
import { openSession, type Session, type SessionOptions } from './session.ts';

export interface WaitOptions extends SessionOptions {
  /** Milliseconds. */
  readonly waitForHosts?: number;
}

export interface Arrival {
  readonly position: number;
  readonly applied: readonly string[];
  readonly missing: readonly {
    readonly host: string;
    readonly connected: boolean;
    readonly lastSeen: Date | undefined;
  }[];
}

const arrivalOf = (position: number, { applied, missing }: WaitForHostsResponse): Arrival => ({
  position,
  applied,
  missing: missing.map(({ host, connected, lastSeen }) => ({ host, connected, lastSeen })),
});

/** What the wait came to when nobody was missing any more, or its time was over. */
const waited = async (
  session: Session,
  about: { readonly tenant: string; readonly position: bigint },
  waitMs: number,
): Promise<Arrival> => {
  const late = AbortSignal.timeout(waitMs);
  let arrival: Arrival = { position: Number(about.position), applied: [], missing: [] };
  try {
    for await (const answer of session.stream(CatalogServiceService.waitForHosts, about, late)) {
      arrival = arrivalOf(arrival.position, answer);
    }
  } catch (thrown) {
    if (!late.aborted) throw thrown;
  }
  return arrival;
};

export const waitForHosts = async (
  context: Context,
  options: WaitOptions,
  key: { readonly tenant: string; readonly keyId: string },
): Promise<Arrival> => {
  using session = await openSession(context, options);
  const request = { tenant: key.tenant, kind: EntryKind.KEY, name: key.keyId };
  const { change } = await session.call(CatalogServiceService.getEntry, request);
  const position = change?.at?.position;
  if (position === undefined) throw new CliError('failure', 'the registry answered without a position');
  return await waited(session, { tenant: key.tenant, position }, options.waitForHosts ?? 0);
};

/** Names the hosts that have not applied the change. */
export const reportArrival = (context: Context, { applied, missing }: Arrival): Exit => {
  context.note(`applied on ${applied.length} of ${applied.length + missing.length} hosts\n`);
  for (const { host, connected, lastSeen } of missing) {
    const state = connected ? 'connected' : `last heard ${lastSeen?.toISOString() ?? 'never'}`;
    context.note(`missing: ${host} (${state})\n`);
  }
  return missing.length === 0 ? 'ok' : 'retryable';
};
