// OpenTelemetry logs by OTLP/HTTP with JSON (opentelemetry-proto, "OTLP Specification", sections "OTLP/HTTP" and "JSON
// Protobuf Encoding"). One resource per host, since a SIEM groups by it.
import type { AuditRecord } from '../../typescript/index.ts';
import { DeliveryError, type Destination } from './destination.ts';
import { hostOf, microsOf, plainOf, sentenceOf, severityOf } from './event.ts';
import { answerJson, type HttpEndpoint } from './http-endpoint.ts';

/** Logs data model, "Field: SeverityNumber". */
const SEVERITY_NUMBER = { informational: 9, notice: 10, warning: 13, error: 17 } as const;

type Value = { readonly stringValue: string } | { readonly intValue: string };
const attribute = (key: string, value: string | number): { readonly key: string; readonly value: Value } => ({
  key,
  value: typeof value === 'number' ? { intValue: String(value) } : { stringValue: value },
});

export const otlpRecord = (record: AuditRecord): Readonly<Record<string, unknown>> => {
  const time = `${microsOf(record)}000`; // 64-bit numbers are decimal text in this encoding
  const severity = severityOf(record);
  return {
    timeUnixNano: time,
    observedTimeUnixNano: time,
    severityNumber: SEVERITY_NUMBER[severity],
    severityText: severity,
    eventName: `mortise.audit.${record.operation}`,
    body: { stringValue: sentenceOf(record) },
    attributes: Object.entries(plainOf(record)).map(([name, value]) => attribute(`mortise.${name}`, value)),
  };
};

export const otlpRequest = (records: readonly AuditRecord[]): unknown => ({
  resourceLogs: [...Map.groupBy(records, hostOf)].map(([host, own]) => ({
    resource: { attributes: [attribute('service.name', 'mortise-agent'), attribute('host.name', host)] },
    scopeLogs: [{ scope: { name: 'mortise.audit' }, logRecords: own.map(otlpRecord) }],
  })),
});

interface ExportAnswer {
  readonly partialSuccess?: { readonly rejectedLogRecords?: string | number; readonly errorMessage?: string };
}

export const createOtlp = (parts: { readonly endpoint: HttpEndpoint; readonly batch: number }): Destination => {
  const { endpoint, batch } = parts;
  return {
    name: `otlp ${endpoint.address}`,
    batch,
    deliver: async (records, signal) => {
      const body = JSON.stringify(otlpRequest(records));
      const answer = await endpoint.post({ path: '/v1/logs', type: 'application/json', body, signal });
      const { rejectedLogRecords = 0, errorMessage = '' } = answerJson<ExportAnswer>(answer).partialSuccess ?? {};
      // "The client MUST NOT retry the request when it receives a partial success response."
      if (Number(rejectedLogRecords) > 0) {
        throw new DeliveryError(`${rejectedLogRecords} records were rejected: ${errorMessage}`, { retryable: false });
      }
    },
    close: () => endpoint.close(),
  };
};
