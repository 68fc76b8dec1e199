// Receivers on real TLS and HTTP that take, refuse, stall and die, as the protocols say they may.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer as createHttp, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createHttps } from 'node:https';
import type { AddressInfo } from 'node:net';
import { after, before, type TestContext, test } from 'node:test';
import { createServer as createTls, type TLSSocket } from 'node:tls';
import { DeliveryError, type Destination } from '../../../clients/cli/forward/destination.ts';
import { createElasticsearch } from '../../../clients/cli/forward/elasticsearch.ts';
import { createHttpEndpoint, type HttpEndpoint } from '../../../clients/cli/forward/http-endpoint.ts';
import { createOtlp } from '../../../clients/cli/forward/otlp.ts';
import { createSplunk } from '../../../clients/cli/forward/splunk.ts';
import { syslogMessage } from '../../../clients/cli/forward/syslog.ts';
import { createSyslog } from '../../../clients/cli/forward/syslog-connection.ts';
import { type CertificateFiles, makeCertificate } from '../../support/certificates.ts';
import { temporaryFolder } from '../../support/folder.ts';
import { record } from './support.ts';

let certificate: CertificateFiles;
let stranger: CertificateFiles;
const cleanUps: (() => void)[] = [];
before(() => {
  const folder = temporaryFolder({ after: (act) => void cleanUps.push(act as () => void) });
  certificate = makeCertificate(folder);
  stranger = makeCertificate(folder, 'stranger');
});
after(() => cleanUps.forEach((act) => void act()));

const { signal } = new AbortController();
const RECORDS = [record(1), record(2), record(3)];

interface Asked {
  readonly path: string;
  readonly headers: IncomingMessage['headers'];
  readonly body: string;
}
type Reply = (asked: Asked, response: ServerResponse) => void;

/** An HTTPS receiver that answers as the test says, one reply per request; the last one goes on. */
const receiver = async (t: TestContext, ...replies: Reply[]): Promise<{ endpoint: HttpEndpoint; asked: Asked[] }> => {
  const asked: Asked[] = [];
  const server = createHttps({ cert: certificate.cert, key: certificate.key }, async (request, response) => {
    let body = '';
    for await (const chunk of request.setEncoding('utf8')) body += chunk;
    const seen = { path: request.url ?? '', headers: request.headers, body };
    asked.push(seen);
    (replies.length > 1 ? (replies.shift() as Reply) : (replies[0] as Reply))(seen, response);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const endpoint = createHttpEndpoint({
    url: new URL(`https://localhost:${(server.address() as AddressInfo).port}/base/`),
    authorization: async () => 'Splunk of-the-test',
    tls: { ca: certificate.cert },
  });
  t.after(() => {
    endpoint.close();
    server.closeAllConnections();
    server.close();
  });
  return { endpoint, asked };
};

const json =
  (body: unknown, status = 200, headers: Record<string, string> = {}): Reply =>
  (_, response) =>
    response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body));

const failure = async (destination: Destination): Promise<DeliveryError> => {
  const error = await destination.deliver(RECORDS, signal).then(
    () => assert.fail('it was delivered'),
    (thrown: unknown) => thrown,
  );
  assert.ok(error instanceof DeliveryError, String(error));
  return error;
};

test('Splunk gets its token, and a delivery counts once the indexer has acknowledged it', async (t) => {
  const { endpoint, asked } = await receiver(
    t,
    json({ text: 'Success', code: 0, ackId: 7 }),
    json({ acks: { 7: false } }),
    json({ acks: { 7: true } }),
  );
  await createSplunk({ endpoint, index: undefined, batch: 10, pollMs: 1 }).deliver(RECORDS, signal);
  assert.deepEqual(
    asked.map(({ path }) => path),
    ['/base/services/collector/event', '/base/services/collector/ack', '/base/services/collector/ack'],
  );
  assert.equal(asked[0]?.headers.authorization, 'Splunk of-the-test');
  assert.equal(new Set(asked.map(({ headers }) => headers['x-splunk-request-channel'])).size, 1);
  const events = asked[0]?.body.split('\n').map((line) => JSON.parse(line).event.index);
  assert.deepEqual(events, [1, 2, 3]);
  assert.deepEqual(JSON.parse(asked[1]?.body ?? ''), { acks: [7] });
});

test('a busy receiver is asked again, as late as it wishes; one that refuses is not', async (t) => {
  const { endpoint } = await receiver(
    t,
    json({ text: 'Server is busy', code: 9 }, 503, { 'retry-after': '7' }),
    json({}, 429),
    json({ text: 'Invalid token', code: 4 }, 403),
    (_, response) => response.end('<html>a proxy</html>'),
    (_, response) => response.destroy(),
  );
  const splunk = createSplunk({ endpoint, index: undefined, batch: 10 });
  const busy = await failure(splunk);
  assert.deepEqual([busy.retryable, busy.retryAfterMs], [true, 7000]);
  assert.match(busy.message, /503: .*busy/);
  assert.equal((await failure(splunk)).retryable, true);
  const forbidden = await failure(splunk);
  assert.equal(forbidden.retryable, false);
  assert.match(forbidden.message, /403: .*Invalid token/);
  assert.match((await failure(splunk)).message, /not JSON: <html>/);
  assert.equal((await failure(splunk)).retryable, true, 'a connection that breaks');
});

test('Elasticsearch creates by event id: what is there already counts as taken', async (t) => {
  const created = { create: { status: 201 } };
  const { endpoint, asked } = await receiver(
    t,
    json({ errors: true, items: [created, { create: { status: 409, error: { reason: 'exists' } } }, created] }),
  );
  await createElasticsearch({ endpoint, index: 'logs-a', batch: 10 }).deliver(RECORDS, signal);
  assert.equal(asked[0]?.path, '/base/_bulk');
  assert.equal(asked[0]?.headers['content-type'], 'application/x-ndjson');
  const lines = (asked[0]?.body ?? '').split('\n');
  assert.equal(lines.pop(), '', 'the body ends with a line break');
  assert.deepEqual(JSON.parse(lines[2] ?? ''), { create: { _index: 'logs-a', _id: 'host-a/1764000000/2' } });
  assert.equal(JSON.parse(lines[3] ?? '')['event.sequence'], 2);
});

test('one item that Elasticsearch does not take fails the delivery, with its position and reason', async (t) => {
  const created = { create: { status: 201 } };
  const items = (status: number) =>
    json({ errors: true, items: [created, { create: { status, error: { reason: 'no' } } }, created] });
  const { endpoint } = await receiver(t, items(429), items(400), json({ items: [created] }));
  const elasticsearch = createElasticsearch({ endpoint, index: 'logs-a', batch: 10 });
  assert.equal((await failure(elasticsearch)).retryable, true);
  const refused = await failure(elasticsearch);
  assert.equal(refused.retryable, false);
  assert.equal(refused.message, 'record 2: 400 no');
  assert.match((await failure(elasticsearch)).message, /does not speak of every record/);
});

test('an OTLP collector that rejects a part is not asked again with it', async (t) => {
  const { endpoint, asked } = await receiver(
    t,
    json({}),
    json({ partialSuccess: { rejectedLogRecords: '2', errorMessage: 'too old' } }),
  );
  const otlp = createOtlp({ endpoint, batch: 10 });
  await otlp.deliver(RECORDS, signal);
  assert.equal(asked[0]?.path, '/base/v1/logs');
  const refused = await failure(otlp);
  assert.deepEqual([refused.retryable, refused.message], [false, '2 records were rejected: too old']);
});

test('a receiver with another certificate gets nothing', async (t) => {
  const server = createHttps({ cert: stranger.cert, key: stranger.key }, () => assert.fail('was asked')).listen(0);
  await once(server, 'listening');
  t.after(() => server.close());
  const url = new URL(`https://localhost:${(server.address() as AddressInfo).port}`);
  const endpoint = createHttpEndpoint({ url, tls: { ca: certificate.cert } });
  t.after(() => endpoint.close());
  assert.match((await failure(createOtlp({ endpoint, batch: 1 }))).message, /self-signed|certificate/);
});

test('a cancelled delivery ends at once and is no failure of the receiver', async (t) => {
  const reached = Promise.withResolvers<void>();
  const server = createHttp(() => reached.resolve()).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const endpoint = createHttpEndpoint({
    url: new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}`),
    tls: {},
  });
  t.after(() => {
    endpoint.close();
    server.closeAllConnections();
    server.close();
  });
  const stop = new AbortController();
  const sent = createOtlp({ endpoint, batch: 1 }).deliver(RECORDS, stop.signal);
  const rejected = assert.rejects(sent, { name: 'AbortError' });
  await reached.promise;
  stop.abort();
  await rejected;
});

/** A syslog receiver over TLS; `take` has each connection, and its text once it has ended. */
const syslogReceiver = async (
  t: TestContext,
  take: (socket: TLSSocket) => void,
): Promise<{ readonly destination: Destination; readonly texts: string[] }> => {
  const texts: string[] = [];
  const server = createTls({ cert: certificate.cert, key: certificate.key }, (socket) => {
    let text = '';
    socket.setEncoding('utf8').on('data', (chunk) => {
      text += chunk;
    });
    socket.on('end', () => texts.push(text)).on('error', () => undefined);
    take(socket);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  const { port } = server.address() as AddressInfo;
  const destination = createSyslog({
    kind: 'syslog',
    url: new URL(`tls://localhost:${port}`),
    tls: { ca: certificate.cert },
    message: syslogMessage,
    batch: 10,
  });
  return { destination, texts };
};

test('syslog counts as delivered once the receiver has read to the end and closed', async (t) => {
  const { destination, texts } = await syslogReceiver(t, () => undefined);
  await destination.deliver(RECORDS, signal);
  await destination.deliver([record(4)], signal);
  assert.equal(texts.length, 2);
  const [first = '', second = ''] = texts;
  let rest = Buffer.from(first);
  const messages: string[] = [];
  while (rest.length > 0) {
    const space = rest.indexOf(' ');
    const length = Number(rest.subarray(0, space));
    messages.push(rest.subarray(space + 1, space + 1 + length).toString());
    rest = rest.subarray(space + 1 + length);
  }
  assert.deepEqual(messages, RECORDS.map(syslogMessage));
  assert.ok(second.endsWith(syslogMessage(record(4))));
});

test('a syslog receiver that dies before it has read everything has not taken it', async (t) => {
  const large = Array.from({ length: 500 }, (_, index) => record(index, { detail: 'x'.repeat(4000) }));
  const { destination } = await syslogReceiver(t, (socket) => {
    socket.pause();
    socket.destroy();
  });
  await assert.rejects(destination.deliver(large, signal), (error) => {
    assert.ok(error instanceof DeliveryError && error.retryable, String(error));
    return true;
  });
});

test('a syslog receiver that closes before our end has not taken it', async (t) => {
  const large = Array.from({ length: 2000 }, (_, index) => record(index, { detail: 'x'.repeat(4000) }));
  const { destination } = await syslogReceiver(t, (socket) => {
    socket.pause();
    socket.end();
    socket.once('finish', () => socket.destroy());
  });
  await assert.rejects(destination.deliver(large, signal), (error) => error instanceof DeliveryError);
});
