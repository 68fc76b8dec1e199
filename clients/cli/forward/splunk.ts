// Splunk's HTTP Event Collector: events one behind the other in one request, and where the token asks for indexer
// acknowledgement the wait for it. https://help.splunk.com, "Format events for HTTP Event Collector".
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { AuditRecord } from '../../typescript/index.ts';
import { DeliveryError, type Destination } from './destination.ts';
import { hostOf, microsOf, plainOf } from './event.ts';
import { answerJson, type HttpEndpoint } from './http-endpoint.ts';

const ACK_POLL_MS = 500;
const ACK_PATIENCE_MS = 60_000;

export const splunkEvent = (record: AuditRecord, index: string | undefined): string =>
  JSON.stringify({
    time: (microsOf(record) / 1_000_000).toFixed(6),
    host: hostOf(record),
    source: 'mortise',
    sourcetype: 'mortise:audit',
    ...(index !== undefined && { index }),
    event: plainOf(record),
  });

export const createSplunk = (parts: {
  readonly endpoint: HttpEndpoint;
  readonly index: string | undefined;
  readonly batch: number;
  readonly pollMs?: number;
}): Destination => {
  const { endpoint, index, batch, pollMs = ACK_POLL_MS } = parts;
  const headers = { 'x-splunk-request-channel': randomUUID() };

  /** Written to an index, not only taken in. */
  const indexed = async (ackId: number, signal: AbortSignal): Promise<void> => {
    const path = '/services/collector/ack';
    const body = JSON.stringify({ acks: [ackId] });
    for (const end = Date.now() + ACK_PATIENCE_MS; Date.now() < end; ) {
      const answer = await endpoint.post({ path, type: 'application/json', body, headers, signal });
      if (answerJson<{ acks?: Record<string, boolean> }>(answer).acks?.[String(ackId)] === true) return;
      await sleep(pollMs, undefined, { signal });
    }
    throw new DeliveryError('the indexer did not acknowledge in time', { retryable: true });
  };

  return {
    name: `splunk ${endpoint.address}`,
    batch,
    deliver: async (records, signal) => {
      const body = records.map((record) => splunkEvent(record, index)).join('\n');
      const path = '/services/collector/event';
      const answer = await endpoint.post({ path, type: 'application/json', body, headers, signal });
      const { ackId } = answerJson<{ ackId?: number }>(answer);
      if (ackId !== undefined) await indexed(ackId, signal);
    },
    close: () => endpoint.close(),
  };
};
