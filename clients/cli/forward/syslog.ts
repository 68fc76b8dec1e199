// RFC 5424 messages and ArcSight CEF, framed by octet counts (RFC 5425 section 4.3) for syslog over TLS.
import type { AuditRecord } from '../../typescript/index.ts';
import { hostOf, microsOf, plainOf, SEVERITY, sentenceOf, severityOf } from './event.ts';

const LOG_AUDIT = 13; // facility, RFC 5424 section 6.2.1
const APP_NAME = 'mortise-agent';
const BOM = '\ufeff'; // marks MSG as UTF-8, RFC 5424 section 6.4
// RFC 5612 reserves it for examples: there is no number of our own, and an SD-ID needs one.
const ENTERPRISE = 32473;
const CEF_SEVERITY = { informational: 3, notice: 4, warning: 6, error: 9 } as const;
const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'] as const;

const priorityOf = (record: AuditRecord): string => `<${LOG_AUDIT * 8 + SEVERITY[severityOf(record)]}>`;

/** PARAM-VALUE of RFC 5424 section 6.3.3. */
const parameter = (value: string | number): string => String(value).replace(/["\\\]]/g, '\\$&');

export const syslogMessage = (record: AuditRecord): string => {
  const data = Object.entries(plainOf(record))
    .map(([name, value]) => ` ${name}="${parameter(value)}"`)
    .join('');
  const header = `${priorityOf(record)}1 ${record.time} ${hostOf(record)} ${APP_NAME} - ${record.operation.slice(0, 32)}`;
  return `${header} [mortise@${ENTERPRISE}${data}] ${BOM}${sentenceOf(record)}`;
};

const cefHeader = (value: string): string => value.replace(/[\\|]/g, '\\$&').replace(/[\r\n]/g, ' ');
const cefValue = (value: string | number): string =>
  String(value).replace(/[\\=]/g, '\\$&').replace(/\r/g, '\\r').replace(/\n/g, '\\n');

/** RFC 3164 section 4.1.2, in UTC; CEF's own `rt` has the year and the milliseconds. */
const bsdTime = ({ time }: AuditRecord): string =>
  `${MONTHS[Number(time.slice(5, 7)) - 1]} ${String(Number(time.slice(8, 10))).padStart(2)} ${time.slice(11, 19)}`;

/** CEF version 0 behind the header that its receivers expect ("Implementing ArcSight Common Event Format"). */
export const cefMessage = (record: AuditRecord): string => {
  const extension = {
    rt: Math.floor(microsOf(record) / 1000),
    dvchost: hostOf(record),
    suser: record.principal,
    act: record.operation,
    outcome: record.outcome === 'ok' ? 'success' : record.outcome === 'intent' ? 'intent' : 'failure',
    ...(record.outcome !== 'ok' && { reason: record.outcome }),
    externalId: record.eventId,
    cn1Label: 'index',
    cn1: record.index,
    cs1Label: 'tenant',
    cs1: record.tenant,
    cs2Label: 'key',
    cs2: record.key,
    cs3Label: 'algorithm',
    cs3: record.algorithm,
    cs4Label: 'correlationId',
    cs4: record.correlationId,
    cs5Label: 'mac',
    cs5: record.mac.toString('base64url'),
    ...(record.detail !== '' && { cs6Label: 'detail', cs6: record.detail }),
  };
  const fields = Object.entries(extension)
    .map(([name, value]) => `${name}=${cefValue(value)}`)
    .join(' ');
  const names = [APP_NAME, '1', record.operation, sentenceOf(record)].map(cefHeader).join('|');
  const cef = `CEF:0|Mortise|${names}|${CEF_SEVERITY[severityOf(record)]}|${fields}`;
  return `${priorityOf(record)}${bsdTime(record)} ${hostOf(record)} ${cef}`;
};

export const frame = (message: string): string => `${Buffer.byteLength(message)} ${message}`;
