// Elasticsearch's bulk API with documents of the Elastic Common Schema. The document id is the event id and the action is
// `create`, so that what is sent twice is stored once, in data streams too.
import type { AuditRecord } from '../../typescript/index.ts';
import { DeliveryError, type Destination } from './destination.ts';
import { hostOf, keyOf, sentenceOf, severityOf } from './event.ts';
import { answerJson, type HttpEndpoint, isRetryable } from './http-endpoint.ts';

const ECS_VERSION = '8.17.0';
const CONFLICT = 409;

/** ECS, "event.type". */
const eventType = ({ operation, outcome }: AuditRecord): readonly string[] => {
  const kind = /^(create|import)-/.test(operation)
    ? 'creation'
    : /^(destroy)-/.test(operation)
      ? 'deletion'
      : /^(update|rotate|suspend|resume|revoke|restore|load)-/.test(operation)
        ? 'change'
        : 'access';
  return outcome === 'ok' || outcome === 'intent' ? [kind] : [kind, 'denied'];
};

const eventOutcome = ({ outcome }: AuditRecord): string =>
  outcome === 'ok' ? 'success' : outcome === 'intent' ? 'unknown' : 'failure';

export const ecsDocument = (record: AuditRecord): Readonly<Record<string, unknown>> => ({
  '@timestamp': record.time,
  'ecs.version': ECS_VERSION,
  message: sentenceOf(record),
  'log.level': severityOf(record),
  'event.kind': 'event',
  'event.module': 'mortise',
  'event.dataset': 'mortise.audit',
  'event.id': record.eventId,
  'event.sequence': record.index,
  'event.action': record.operation,
  'event.type': eventType(record),
  'event.outcome': eventOutcome(record),
  ...(record.outcome !== 'ok' && { 'error.code': record.outcome }),
  'host.name': hostOf(record),
  'organization.id': record.tenant,
  'user.name': record.principal,
  'mortise.correlation_id': record.correlationId,
  'mortise.algorithm': record.algorithm,
  'mortise.key': keyOf(record),
  'mortise.mac': record.mac.toString('base64url'),
  ...(record.detail !== '' && { 'mortise.detail': record.detail }),
});

interface BulkAnswer {
  readonly errors?: boolean;
  readonly items?: readonly { readonly create?: { readonly status: number; readonly error?: { reason?: string } } }[];
}

/** Every item must have been created, or be there already. */
const judge = (answer: BulkAnswer, records: readonly AuditRecord[]): void => {
  if (answer.items?.length !== records.length) {
    throw new DeliveryError('the answer does not speak of every record', { retryable: true });
  }
  for (const [position, { create }] of answer.items.entries()) {
    const status = create?.status ?? 0;
    if ((status >= 200 && status < 300) || status === CONFLICT) continue;
    const what = `record ${records[position]?.index}: ${status} ${create?.error?.reason ?? 'without a reason'}`;
    throw new DeliveryError(what, { retryable: isRetryable(status) });
  }
};

export const createElasticsearch = (parts: {
  readonly endpoint: HttpEndpoint;
  readonly index: string;
  readonly batch: number;
}): Destination => {
  const { endpoint, index, batch } = parts;
  return {
    name: `elasticsearch ${endpoint.address} ${index}`,
    batch,
    deliver: async (records, signal) => {
      const lines = records.flatMap((record) => [
        JSON.stringify({ create: { _index: index, _id: record.eventId } }),
        JSON.stringify(ecsDocument(record)),
      ]);
      const body = `${lines.join('\n')}\n`;
      judge(answerJson(await endpoint.post({ path: '/_bulk', type: 'application/x-ndjson', body, signal })), records);
    },
    close: () => endpoint.close(),
  };
};
