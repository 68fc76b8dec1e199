// The sidecar form for real, in processes: the pod that the chart renders, its containers with their own users, mounts and
// process namespaces. The application starts first and waits; the agent is restarted and killed under it.
import assert from 'node:assert/strict';
import { cpSync, existsSync, readFileSync } from 'node:fs';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { SIDECAR } from '../helm/cases.ts';
import {
  atomicVolume,
  giveTo,
  IMAGE,
  NODE,
  type RunningContainer,
  startContainer,
  type User,
  writableVolume,
} from '../helm/containers.ts';
import { type Container, environmentOf, type PodSpec, podOf } from '../helm/pods.ts';
import { openRenderer } from '../helm/render.ts';
import { type Issuer, makeAgentPolicy, makeIssuer } from '../support/agent.ts';
import type { PolicyFolder } from '../support/policy.ts';
import { makeSoftHsm, type SoftHsm } from '../support/softhsm.ts';

const MAIN = `${IMAGE}/agent/main.ts`;
const APPLICATION = `${IMAGE}/test/helm/sidecar-application.ts`;
const KUBERNETES = 'https://kubernetes.default.svc.cluster.local';
const SUBJECT = 'system:serviceaccount:shop:checkout';
const PATIENCE_MS = 60_000;
const skip = process.getuid?.() === 0 ? false : 'needs root, for users and namespaces';

let volumes: string;
let hsm: SoftHsm;
let policy: PolicyFolder;
let issuer: Issuer;
let pod: PodSpec;
let port: number;
let agentUser: User;
let applicationUser: User;
let application: RunningContainer | undefined;
let agent: RunningContainer | undefined;

const freePort = (): Promise<number> =>
  new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0));
    });
  });

const containerNamed = (name: string): Container => {
  const found = [...(pod.initContainers ?? []), ...pod.containers].find((row) => row.name === name);
  assert.ok(found, `the pod has no ${name}`);
  return found;
};

const writeToken = (lifetimeSeconds: number): void => {
  const token = issuer.issue({
    tenant: 'globex', // a stranger's word, which must not count
    principal: SUBJECT,
    lifetimeSeconds,
    claims: { 'kubernetes.io': { namespace: 'shop', serviceaccount: { name: 'checkout' } } },
  });
  const group = pod.securityContext?.fsGroup ?? 0;
  atomicVolume(join(volumes, 'mortise-jwt'), { token }, 0o440, group);
};

/** Everything that the kubelet would have put into the pod's volumes. */
const layOutVolumes = async (): Promise<void> => {
  const group = pod.securityContext?.fsGroup ?? 0;
  const at = (name: string): string => join(volumes, name);
  for (const name of [
    'mortise-tmp',
    'mortise-data',
    'mortise-socket',
    'mortise-jwt',
    'mortise-pin',
    'mortise-policy',
    'mortise-pkcs11-configuration',
  ]) {
    writableVolume(at(name), group);
  }
  atomicVolume(at('mortise-pin'), { pin: `${hsm.pin}\n` }, 0o440, group);
  const tenants = existsSync(join(policy.dir, 'tenants')) ? await readdir(join(policy.dir, 'tenants')) : [];
  const names = ['platform.json', 'trust-anchor.json', ...tenants.map((name) => `tenants/${name}`)];
  const files = Object.fromEntries(names.map((name) => [name, readFileSync(join(policy.dir, name))]));
  atomicVolume(at('mortise-policy'), files, 0o644, group);
  const conf = readFileSync(hsm.confPath, 'utf8').replace(/tokendir = .*/, 'tokendir = /var/lib/softhsm');
  atomicVolume(at('mortise-pkcs11-configuration'), { 'softhsm2.conf': conf }, 0o644, group);
  cpSync(join(hsm.folder, 'tokens'), at('softhsm'), { recursive: true });
  giveTo(at('softhsm'), agentUser);
  writeToken(600);
};

before(async () => {
  if (skip !== false) return;
  volumes = await mkdtemp(join(tmpdir(), 'mortise-pod-'));
  hsm = await makeSoftHsm();
  issuer = makeIssuer(KUBERNETES);
  const kubernetes = {
    issuer: KUBERNETES,
    audiences: ['mortise'],
    jwks: { keys: [issuer.publicJwk] },
    tenants: ['acme'],
    subjects: [{ subject: SUBJECT, tenant: 'acme', scopes: ['keys.manage', 'keys.read', 'crypto.sign', 'audit.read'] }],
    maxLifetimeSeconds: 3600,
    singleUse: false,
  };
  policy = await makeAgentPolicy(makeIssuer(), { platform: { issuers: [kubernetes as never] } });
  port = await freePort();
  const values = {
    image: 'application:1',
    'mortise-sidecar': {
      ...SIDECAR,
      program: [NODE, MAIN],
      token: { ...SIDECAR.token, label: hsm.label },
      policy: { configMap: 'policy', tenants: [] },
      metrics: { port },
    },
  };
  const manifests = await openRenderer().render('example-application', values);
  pod = manifests.map(podOf).find((row) => row !== undefined) as PodSpec;
  const groups = [pod.securityContext?.fsGroup ?? 0];
  agentUser = { uid: 65532, gid: 65532, groups };
  applicationUser = { uid: 10001, gid: 10001, groups };
  await layOutVolumes();
});

after(async () => {
  await application?.[Symbol.asyncDispose]();
  await agent?.[Symbol.asyncDispose]();
  await hsm?.dispose();
  await policy?.remove();
  if (volumes !== undefined) await rm(volumes, { recursive: true, force: true });
});

const environment = (container: Container): Record<string, string> => environmentOf(container, 'pod-0');

const startAgent = (): RunningContainer => {
  const container = containerNamed('mortise');
  return startContainer(container, { volumes, user: agentUser, env: environment(container) });
};

const startApplication = (command: readonly string[], user = applicationUser): RunningContainer => {
  const container = containerNamed('application');
  return startContainer(container, { volumes, user, env: environment(container), command });
};

/** The startup probe of the sidecar, as the kubelet does it. */
const startupProbe = async (): Promise<void> => {
  const path = containerNamed('mortise').startupProbe?.httpGet?.path;
  const until = Date.now() + PATIENCE_MS;
  for (;;) {
    const status = await fetch(`http://127.0.0.1:${port}${path}`).then((response) => response.status, String);
    if (status === 200) return;
    if (agent?.isOver !== false || Date.now() > until)
      throw new Error(`the startup probe has not passed: ${status}\n${agent?.stderr}`);
    await sleep(50);
  }
};

const signed = (line: Record<string, unknown>): boolean => 'signed' in line;

/** So many further signatures; nothing may have failed. */
const moreSignatures = async (count: number): Promise<void> => {
  assert.ok(application);
  const from = application.lines.length;
  for (let more = 0; more < count; more += 1) {
    const seen = application.lines.slice(from).filter(signed).length;
    if (seen >= count) break;
    await application.said('another signature', signed, application.lines.length);
  }
  assert.deepEqual(
    application.lines.filter((line) => 'failed' in line),
    [],
  );
};

test('1: the init container makes the folder of the socket, and the application that starts before the agent waits', {
  skip,
}, async () => {
  const init = containerNamed('mortise-socket-folder');
  await using made = startContainer(init, { volumes, user: agentUser, env: {} });
  assert.equal(await made.exit(), 0, made.stderr);
  application = startApplication([NODE, APPLICATION]);
  await application.said('that it has started', (line) => line['started'] === true);
  agent = startAgent();
  await startupProbe();
  const who = await application.said('who it is', (line) => 'tenant' in line);
  assert.deepEqual(who, { tenant: 'acme', principal: SUBJECT }, 'as policy says of its service account');
  await moreSignatures(10);
});

test('2: the agent is stopped and started under the application, which sees nothing of it but a wait', {
  skip,
}, async () => {
  assert.ok(agent);
  agent.signal('SIGTERM');
  assert.equal(await agent.exit(), 0, agent.stderr);
  agent = startAgent();
  await startupProbe();
  await moreSignatures(10);
});

test('3: the agent is killed under the application, and its container started again over the same volumes', {
  skip,
}, async () => {
  assert.ok(agent);
  agent.signal('SIGKILL');
  await agent.exit();
  agent = startAgent();
  await startupProbe();
  await moreSignatures(10);
});

test('4: the application goes on when the kubelet renews its token and the old one expires', { skip }, async () => {
  const seconds = 3;
  writeToken(seconds);
  const expired = sleep(seconds * 1000 + 500); // the agent's clock decides, there is no event to wait for
  await moreSignatures(5);
  writeToken(900);
  await expired;
  await moreSignatures(10);
});

test('5: the application has no way to the PIN, the keys or the audit log, and cannot write where the socket is', {
  skip,
}, async () => {
  const script = `
    const fs = require('node:fs');
    const tried = (act) => { try { act(); return 'done'; } catch ({ code }) { return code; } };
    console.log(JSON.stringify({
      pin: tried(() => fs.readFileSync('/etc/mortise/pin/pin')),
      data: tried(() => fs.readdirSync('/var/lib/mortise')),
      token: tried(() => fs.readdirSync('/var/lib/softhsm')),
      socket: tried(() => fs.writeFileSync('/run/mortise/mine', '')),
      unlink: tried(() => fs.unlinkSync('/run/mortise/agent.sock')),
      root: tried(() => fs.writeFileSync('/mine', '')),
    }));`;
  await using probe = startApplication([NODE, '-e', script]);
  const found = await probe.said('what it could do', () => true);
  const { socket, unlink, root, ...hidden } = found;
  assert.deepEqual(hidden, { pin: 'ENOENT', data: 'ENOENT', token: 'ENOENT' });
  for (const code of [socket, unlink]) assert.ok(code === 'EROFS' || code === 'EACCES', String(code));
  assert.ok(root === 'EROFS' || root === 'EACCES', String(root));
});

test('6: a process that is not in the group of the socket cannot connect', { skip }, async () => {
  const script = `
    const socket = require('node:net').connect('/run/mortise/agent.sock');
    socket.once('connect', () => { console.log('{"connected":true}'); process.exit(); });
    socket.once('error', ({ code }) => console.log(JSON.stringify({ code })));`;
  await using stranger = startApplication([NODE, '-e', script], { uid: 10002, gid: 10002, groups: [] });
  assert.deepEqual(await stranger.said('whether it could', () => true), { code: 'EACCES' });
});

test('7: the agent ends in good order after the application has ended', { skip }, async () => {
  assert.ok(agent && application);
  await application[Symbol.asyncDispose]();
  agent.signal('SIGTERM');
  assert.equal(await agent.exit(), 0, agent.stderr);
});
