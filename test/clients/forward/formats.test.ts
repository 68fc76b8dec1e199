// The bytes that receivers get, by the rules of each format.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ecsDocument } from '../../../clients/cli/forward/elasticsearch.ts';
import { hostOf, keyOf, microsOf, severityOf } from '../../../clients/cli/forward/event.ts';
import { otlpRecord, otlpRequest } from '../../../clients/cli/forward/otlp.ts';
import { splunkEvent } from '../../../clients/cli/forward/splunk.ts';
import { cefMessage, frame, syslogMessage } from '../../../clients/cli/forward/syslog.ts';
import { record } from './support.ts';

const MICROS = Date.UTC(2026, 10, 24, 8, 5, 9) * 1000 + 42;

test('time keeps its microseconds, the key comes apart, the host is that of the event id', () => {
  assert.equal(microsOf(record(1)), MICROS);
  assert.deepEqual(keyOf(record(1)), { id: 'orders', version: 2 });
  assert.deepEqual(keyOf(record(1, { key: 'orders' })), { id: 'orders' });
  assert.deepEqual(keyOf(record(1, { key: '-' })), {});
  assert.equal(hostOf(record(1, { eventId: 'a.b-c/17/9' })), 'a.b-c');
});

test('refusals weigh more than successes, and trouble of the agent itself more than refusals', () => {
  const of = (outcome: string) => severityOf(record(1, { outcome }));
  assert.deepEqual(['ok', 'intent', 'POLICY_DENIED', 'AUDIT_CORRUPT'].map(of), [
    'informational',
    'notice',
    'warning',
    'error',
  ]);
});

test('a Splunk event has its own time, host and index', () => {
  const { event, ...rest } = JSON.parse(splunkEvent(record(3), 'security'));
  assert.deepEqual(rest, {
    time: `${MICROS / 1_000_000}`,
    host: 'host-a',
    source: 'mortise',
    sourcetype: 'mortise:audit',
    index: 'security',
  });
  assert.deepEqual(
    [event.tenant, event.operation, event.event_id, event.index, event.detail],
    ['acme', 'encrypt', 'host-a/1764000000/3', 3, '{"uid":0}'],
  );
  assert.equal('index' in JSON.parse(splunkEvent(record(3), undefined)), false);
});

test('an ECS document says what was done, by whom, and how it ended', () => {
  const refused = ecsDocument(record(4, { operation: 'rotate-key', outcome: 'PERMISSION_DENIED', detail: '' }));
  assert.deepEqual(refused, {
    '@timestamp': '2026-11-24T08:05:09.000042Z',
    'ecs.version': '8.17.0',
    message: 'payments rotate-key orders/2: PERMISSION_DENIED',
    'log.level': 'warning',
    'event.kind': 'event',
    'event.module': 'mortise',
    'event.dataset': 'mortise.audit',
    'event.id': 'host-a/1764000000/4',
    'event.sequence': 4,
    'event.action': 'rotate-key',
    'event.type': ['change', 'denied'],
    'event.outcome': 'failure',
    'error.code': 'PERMISSION_DENIED',
    'host.name': 'host-a',
    'organization.id': 'acme',
    'user.name': 'payments',
    'mortise.correlation_id': 'c-1',
    'mortise.algorithm': 'A256GCMKW',
    'mortise.key': { id: 'orders', version: 2 },
    'mortise.mac': Buffer.alloc(32, 7).toString('base64url'),
  });
  assert.deepEqual(ecsDocument(record(5, { operation: 'import-key' }))['event.type'], ['creation']);
  assert.equal(ecsDocument(record(5, { outcome: 'intent' }))['event.outcome'], 'unknown');
});

test('OTLP groups by host, and writes 64-bit numbers as text', () => {
  const request = otlpRequest([record(1), record(2, { eventId: 'host-b/1/2' }), record(3)]) as {
    resourceLogs: { resource: { attributes: unknown[] }; scopeLogs: { logRecords: unknown[] }[] }[];
  };
  assert.deepEqual(
    request.resourceLogs.map(({ scopeLogs }) => scopeLogs[0]?.logRecords.length),
    [2, 1],
  );
  assert.deepEqual(request.resourceLogs[1]?.resource.attributes[1], {
    key: 'host.name',
    value: { stringValue: 'host-b' },
  });
  const one = otlpRecord(record(7));
  assert.equal(one['timeUnixNano'], `${MICROS}000`);
  assert.equal(one['eventName'], 'mortise.audit.encrypt');
  assert.ok(
    (one['attributes'] as unknown[]).some(
      (row) => JSON.stringify(row) === '{"key":"mortise.index","value":{"intValue":"7"}}',
    ),
  );
});

test('a syslog message is RFC 5424, counted in octets', () => {
  const message = syslogMessage(record(1, { principal: 'a"b]c\\', detail: '' }));
  assert.ok(
    message.startsWith(
      '<110>1 2026-11-24T08:05:09.000042Z host-a mortise-agent - encrypt [mortise@32473 tenant="acme" principal="a\\"b\\]c\\\\"',
    ),
    message,
  );
  assert.ok(message.endsWith('] \ufeffa"b]c\\ encrypt orders/2: ok'));
  assert.equal(frame('ä'), '2 ä');
});

test('CEF has its seven header fields and an extension that can be taken apart', () => {
  const message = cefMessage(record(1, { principal: 'a|b=c\\d', outcome: 'KEY_STATE', detail: '' }));
  assert.ok(
    message.startsWith(
      '<108>Nov 24 08:05:09 host-a CEF:0|Mortise|mortise-agent|1|encrypt|a\\|b=c\\\\d encrypt orders/2: KEY_STATE|6|',
    ),
    message,
  );
  assert.ok(message.includes(' suser=a|b\\=c\\\\d act=encrypt outcome=failure reason=KEY_STATE externalId='), message);
  assert.match(cefMessage(record(1, { time: '2026-01-05T01:02:03.000001Z' })), /^<110>Jan {2}5 01:02:03 host-a CEF/);
});

/** PARAM-VALUEs of the one SD-ELEMENT, by a reader that knows RFC 5424 only. */
const parametersOf = (message: string): Record<string, string> => {
  const found: Record<string, string> = {};
  let at = message.indexOf('[mortise@32473') + '[mortise@32473'.length;
  while (message[at] === ' ') {
    const equals = message.indexOf('="', at);
    let value = '';
    let end = equals + 2;
    for (; message[end] !== '"'; end += 1) {
      if (message[end] === '\\') end += 1;
      value += message[end];
    }
    found[message.slice(at + 1, equals)] = value;
    at = end + 1;
  }
  assert.equal(message[at], ']');
  return found;
};

const extensionOf = (message: string): Record<string, string> => {
  const text = message.slice(message.search(/\|rt=/) + 1);
  const unescaped = (value: string): string =>
    value.replace(/\\([\\=nr])/g, (_, sign: string) => ({ n: '\n', r: '\r' })[sign] ?? sign);
  return Object.fromEntries(
    text
      .split(/ (?=[A-Za-z0-9]+(?<!\\)=)/)
      .map((field) => [field.slice(0, field.indexOf('=')), unescaped(field.slice(field.indexOf('=') + 1))]),
  );
};

test('whatever is in a field, readers of syslog and CEF get it back, on one line of CEF', () => {
  const text = fc.string({ unit: fc.constantFrom('a', '"', ']', '\\', '=', '|', '\n', '\r', 'ä', '['), minLength: 1 });
  fc.assert(
    fc.property(text, text, (principal, detail) => {
      const given = record(1, { principal, detail });
      const parameters = parametersOf(syslogMessage(given));
      assert.deepEqual([parameters['principal'], parameters['detail']], [principal, detail]);
      const cef = cefMessage(given);
      assert.ok(!/[\r\n]/.test(cef), 'one line');
      const extension = extensionOf(cef);
      assert.deepEqual([extension['suser'], extension['cs6']], [principal, detail]);
    }),
  );
});
