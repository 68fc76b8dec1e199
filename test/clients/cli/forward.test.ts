// mortise audit forward as a program, from a real agent to a real HTTPS receiver that fails in between.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { connect, type MortiseClient } from '../../../clients/typescript/index.ts';
import { type RunningAgent, startAgent } from '../../support/agent.ts';
import { type CertificateFiles, makeCertificate } from '../../support/certificates.ts';
import { CLI, runCli } from './run-cli.ts';

const PATIENCE_MS = 30_000; // a record that does not come fails the test rather than hang it
const folder = mkdtempSync(join(tmpdir(), 'mortise-forward-'));
const at = (name: string): string => join(folder, name);
let agent: RunningAgent;
let client: MortiseClient;
let env: Record<string, string>;
let certificate: CertificateFiles;
const children = new Set<ChildProcess>();

before(async () => {
  certificate = makeCertificate(folder);
  agent = await startAgent();
  const token = agent.bearer('acme').slice('Bearer '.length);
  writeFileSync(at('token'), token, { mode: 0o600 });
  writeFileSync(at('hec'), 'a-token-of-splunk\n', { mode: 0o600 });
  env = { MORTISE_SOCKET: agent.socket, MORTISE_TOKEN_FILE: at('token') };
  client = connect({ socketPath: agent.socket, token });
});
after(async () => {
  for (const child of children) child.kill('SIGKILL');
  client?.close();
  await agent?.stop();
  rmSync(folder, { recursive: true, force: true });
});

/** A Splunk that breaks the first `failures` connections, and keeps the event ids that it has taken. */
const splunk = async (failures = 0) => {
  const taken: string[] = [];
  const arrived = new Set<() => void>();
  const server = createServer({ cert: certificate.cert, key: certificate.key }, async (request, response) => {
    let body = '';
    for await (const chunk of request.setEncoding('utf8')) body += chunk;
    if (request.headers.authorization !== 'Splunk a-token-of-splunk') return response.writeHead(401).end('{}');
    if (failures > 0) {
      failures -= 1;
      return response.destroy();
    }
    for (const line of body.split('\n')) taken.push(JSON.parse(line).event.event_id);
    response.end('{"text":"Success","code":0}');
    for (const look of arrived) look();
    return undefined;
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const until = (fits: () => boolean): Promise<void> =>
    new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`the receiver has only ${taken.join(' ')}`)), PATIENCE_MS);
      const look = (): void => {
        if (!fits()) return;
        clearTimeout(timer);
        arrived.delete(look);
        resolve();
      };
      arrived.add(look);
      look();
    });
  return {
    url: `https://localhost:${(server.address() as AddressInfo).port}`,
    taken,
    until,
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  };
};

const argsTo = (url: string, state: string): string[] => [
  ...['audit', 'forward', 'splunk', url, '--state', at(state)],
  ...['--credential-file', at('hec'), '--ca', certificate.certFile],
];
const idsOfLog = async (): Promise<string[]> =>
  (await client.audit.records({ pageSize: 1000 })).records.map(({ eventId }) => eventId);

test('a program that is killed goes on where the receiver was, with every record in order', async () => {
  const receiver = await splunk(2);
  try {
    const args = argsTo(receiver.url, 'killed');
    const first = spawn(process.execPath, [CLI, ...args, '--batch', '2'], { env, stdio: 'ignore' });
    const ended = once(first, 'exit');
    children.add(first);
    for (let i = 0; i < 5; i += 1) await client.generateRandom(8);
    await receiver.until(() => receiver.taken.length >= 4);
    first.kill('SIGKILL');
    await ended;
    for (let i = 0; i < 5; i += 1) await client.generateRandom(8);
    const expected = await idsOfLog();
    const second = await runCli([...args, '--once', '--output', 'json'], { env });
    assert.equal(second.code, 0, second.stderr);
    assert.ok(JSON.parse(second.stdout).next >= expected.length);
    const firstTimes = [...new Set(receiver.taken)];
    assert.deepEqual(firstTimes.slice(0, expected.length), expected, 'nothing is missing, nothing overtook');
  } finally {
    receiver.close();
  }
});

test('it follows the log over a restart of the agent, and SIGTERM ends it well', async () => {
  const receiver = await splunk();
  try {
    const child = spawn(process.execPath, [CLI, ...argsTo(receiver.url, 'follows')], {
      env,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const ended = once(child, 'exit');
    children.add(child);
    let text = '';
    child.stdout.setEncoding('utf8').on('data', (chunk) => {
      text += chunk;
    });
    await receiver.until(() => receiver.taken.length > 0);
    await agent.end();
    await agent.start();
    await client.generateRandom(8);
    const last = (await client.audit.records({ newest: true, pageSize: 1 })).records[0]?.eventId as string;
    await receiver.until(() => receiver.taken.includes(last));
    child.kill('SIGTERM');
    assert.deepEqual(await ended, [0, null]);
    assert.match(text, /^forwarded up to position \d+\n$/);
  } finally {
    receiver.close();
  }
});

test('what cannot work is refused before anything is sent', async () => {
  const refused = async (args: readonly string[], words: RegExp): Promise<void> => {
    const { code, stderr } = await runCli(['audit', 'forward', ...args, '--state', at('none')], { env });
    assert.notEqual(code, 0);
    assert.match(stderr, words);
  };
  await refused(
    ['kafka', 'https://localhost'],
    /no kind of receiver; there are splunk, elasticsearch, otlp, syslog, cef/,
  );
  await refused(['splunk', 'http://siem.example'], /plain http:\/\/ goes to a collector on this host only/);
  await refused(['splunk', 'https://user:secret@siem.example'], /use --credential-file/);
  await refused(['syslog', 'udp://siem.example'], /syslog takes tls:\/\/HOST/);
  await refused(['syslog', 'tls://siem.example', '--credential-file', at('hec')], /no credential but --certificate/);
  await refused(['otlp', 'https://localhost', '--batch', '0'], /--batch is 1 to 5000/);
  writeFileSync(at('open'), 'x');
  chmodSync(at('open'), 0o644);
  await refused(['splunk', 'https://localhost', '--credential-file', at('open')], /can be read by others; chmod 0600/);
});

test('a state file of another receiver is not used', async () => {
  const receiver = await splunk();
  try {
    const args = argsTo(receiver.url, 'mine');
    assert.equal((await runCli([...args, '--once'], { env })).code, 0);
    const other = await runCli([...argsTo('https://localhost:1', 'mine'), '--once'], { env });
    assert.equal(other.code, 2);
    assert.match(other.stderr, /is of tenant acme to splunk https:\/\/localhost:\d+; take another file/);
    const from = await runCli([...args, '--once', '--from', '0'], { env });
    assert.match(from.stderr, /--from needs a new one/);
    writeFileSync(at('hec'), 'revoked', { mode: 0o600 });
    const revoked = await runCli([...args, '--once'], { env });
    assert.equal(revoked.code, 1);
    assert.match(revoked.stderr, /does not take the records from position \d+ on: the receiver answers 401/);
  } finally {
    receiver.close();
  }
});
