// Policies as the registry publishes them, handed to the policy room, which alone decides what comes into force. A
// message without policies says that nothing is newer: it renews the lease.
import type { Client } from '@grpc/grpc-js';
import { PoliciesServiceService } from '../../proto/gen/mortise/registry/v1/policies.ts';
import { answers } from './calls.ts';
import type { PoliciesSink } from './ports.ts';
import { silence } from './silence.ts';

const SILENT_TIMES = 3; // as WatchPoliciesResponse.refresh_seconds says
const DEFAULT_REFRESH_S = 30;

/** Until the stream ends. Rejects with a Refusal. */
export const followPolicies = async (client: Client, sink: PoliciesSink, signal: AbortSignal): Promise<void> => {
  const known = sink.applied().map(({ tenant, version, digest }) => ({ tenant, version: BigInt(version), digest }));
  using watchdog = silence(signal);
  watchdog.expect(DEFAULT_REFRESH_S * SILENT_TIMES * 1000);
  let complete = false;
  for await (const answer of answers(
    client,
    PoliciesServiceService.watchPolicies,
    { tenants: [], known },
    watchdog.signal,
  )) {
    watchdog.expect((answer.refreshSeconds || DEFAULT_REFRESH_S) * SILENT_TIMES * 1000);
    complete ||= answer.snapshotComplete;
    const policies = answer.policies.map(({ tenant, jws }) => ({ tenant, jws: Buffer.from(jws) }));
    await sink.receive({ policies, upToDate: complete });
  }
  watchdog.throwIfSilent();
};
