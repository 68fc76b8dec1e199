// mortise audit forward to Debian's rsyslog over TLS, which is killed and restarted in between: every record arrives.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect as connectTls } from 'node:tls';
import { connect, type MortiseClient } from '../../clients/typescript/index.ts';
import { CLI } from '../clients/cli/run-cli.ts';
import { requireProgram } from '../interop/run-tool.ts';
import { type RunningAgent, startAgent } from '../support/agent.ts';
import { type CertificateFiles, makeCertificate } from '../support/certificates.ts';

const RSYSLOGD = '/usr/sbin/rsyslogd';
const PATIENCE_MS = 60_000;
const RECORDS = 2_000;
const KILLS = 3;

const folder = mkdtempSync(join(tmpdir(), 'mortise-rsyslog-'));
const at = (name: string): string => join(folder, name);
const children = new Set<ChildProcess>();
let agent: RunningAgent;
let client: MortiseClient;
let certificate: CertificateFiles;

before(async () => {
  await requireProgram(RSYSLOGD, 'rsyslog');
  certificate = makeCertificate(folder);
  agent = await startAgent({ platform: { rateLimits: { operationsPerSecond: 100_000, burst: 100_000 } } });
  const token = agent.bearer('acme').slice('Bearer '.length);
  writeFileSync(at('token'), token, { mode: 0o600 });
  client = connect({ socketPath: agent.socket, token });
});
after(async () => {
  for (const child of children) child.kill('SIGKILL');
  client?.close();
  await agent?.stop();
  rmSync(folder, { recursive: true, force: true });
});

const freePort = async (): Promise<number> => {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
};

/** Structured data and message of each record, one a line, written when it is received. */
const configuration = (port: number): string => `
global(workDirectory="${folder}" defaultNetstreamDriver="gtls" defaultNetstreamDriverCAFile="${certificate.certFile}"
  defaultNetstreamDriverCertFile="${certificate.certFile}" defaultNetstreamDriverKeyFile="${certificate.keyFile}"
  maxMessageSize="64k")
module(load="imtcp" streamDriver.name="gtls" streamDriver.mode="1" streamDriver.authMode="anon")
input(type="imtcp" port="${port}" address="127.0.0.1")
template(name="line" type="string" string="%structured-data% %msg%\\n")
main_queue(queue.type="Direct")
action(type="omfile" file="${at('received')}" template="line" asyncWriting="off" flushOnTXEnd="on")
`;

const listening = async (port: number): Promise<void> => {
  for (const end = Date.now() + PATIENCE_MS; Date.now() < end; ) {
    const socket = connectTls({ host: '127.0.0.1', port, ca: certificate.cert });
    const connected = await once(socket, 'secureConnect').then(
      () => true,
      () => false,
    );
    socket.destroy();
    if (connected) return;
    await sleep(50);
  }
  throw new Error('rsyslogd does not listen');
};

const startRsyslog = async (port: number): Promise<ChildProcess> => {
  const child = spawn(RSYSLOGD, ['-n', '-f', at('rsyslog.conf'), '-i', at('rsyslog.pid')], { stdio: 'inherit' });
  children.add(child);
  await listening(port);
  return child;
};

const received = (): string[] => {
  try {
    return [...readFileSync(at('received'), 'utf8').matchAll(/event_id="([^"]+)"/g)].map(([, id]) => id as string);
  } catch {
    return [];
  }
};

const until = async (fits: () => boolean, what: string): Promise<void> => {
  for (const end = Date.now() + PATIENCE_MS; !fits(); await sleep(20)) {
    if (Date.now() > end) throw new Error(`${what} did not come; ${received().length} records have`);
  }
};

test('every record reaches an rsyslog that is killed again and again', async (t) => {
  const port = await freePort();
  writeFileSync(at('rsyslog.conf'), configuration(port));
  let rsyslog = await startRsyslog(port);
  const args = ['audit', 'forward', 'syslog', `tls://localhost:${port}`, '--state', at('state')];
  const env = { MORTISE_SOCKET: agent.socket, MORTISE_TOKEN_FILE: at('token') };
  const forwarder = spawn(process.execPath, [CLI, ...args, '--ca', certificate.certFile, '--batch', '50'], {
    env,
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  children.add(forwarder);
  const ended = once(forwarder, 'exit');
  for (let kill = 0; kill <= KILLS; kill += 1) {
    await Promise.all(Array.from({ length: RECORDS / (KILLS + 1) }, () => client.generateRandom(8)));
    if (kill === KILLS) break;
    const before = received().length;
    await until(() => received().length > before, 'the next record');
    const gone = once(rsyslog, 'exit');
    rsyslog.kill('SIGKILL');
    await gone;
    rmSync(at('rsyslog.pid'), { force: true });
    rsyslog = await startRsyslog(port);
  }
  const { records, size } = await client.audit.records({ newest: true, pageSize: 1 });
  const last = records[0]?.eventId as string;
  await until(() => received().includes(last), 'the last record');
  forwarder.kill('SIGTERM');
  await ended;
  const taken = new Set(received());
  const missing: number[] = [];
  for (let from = 0; from < size; from += 1000) {
    const page = await client.audit.records({ from, pageSize: 1000 });
    for (const { eventId, index } of page.records) if (index < size && !taken.has(eventId)) missing.push(index);
  }
  t.diagnostic(`${taken.size} records, ${received().length - taken.size} of them twice`);
  assert.deepEqual(missing, []);
});
