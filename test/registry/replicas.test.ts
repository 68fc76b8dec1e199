// Two registries as processes over one PostgreSQL server.
import assert from 'node:assert/strict';
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { type TestContext, test } from 'node:test';
import { promisify } from 'node:util';
import { AdminServiceService } from '../../proto/gen/mortise/registry/v1/admin.ts';
import { HostsServiceService } from '../../proto/gen/mortise/registry/v1/hosts.ts';
import { PoliciesServiceService } from '../../proto/gen/mortise/registry/v1/policies.ts';
import { temporaryFolder } from '../support/folder.ts';
import { makePolicyFolder } from '../support/policy.ts';
import { RUNTIME_ROLE, startPostgres } from '../support/postgres.ts';
import { type Certified, connectTo, duplex, enrolWith, serverStream, unary } from '../support/registry-client.ts';
import { aHeartbeat, aPolicyWatch } from '../support/registry-messages.ts';
import { hostRequest } from '../support/registry-server.ts';

const MAIN = join(import.meta.dirname, '../../registry/main.ts');
const WAIT_MS = 30_000;
const run = promisify(execFile);

/** A serving replica; its port is in its log. */
const serve = async (t: TestContext, env: Record<string, string>) => {
  const child: ChildProcess = spawn(process.execPath, [MAIN, 'serve'], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  t.after(() => child.kill('SIGKILL'));
  let said = '';
  child.stderr?.on('data', (chunk: Buffer) => {
    said += chunk;
  });
  const port = await new Promise<number>((resolve, reject) => {
    const late = setTimeout(() => reject(new Error(`the replica was not READY in 30 s: ${said}`)), WAIT_MS);
    child.once('exit', (code) => reject(new Error(`the replica ended with ${code}: ${said}`)));
    createInterface({ input: child.stdout as NonNullable<typeof child.stdout> }).on('line', (line) => {
      const { msg, address } = JSON.parse(line);
      if (msg !== 'registry is READY') return;
      clearTimeout(late);
      resolve(Number(address.split(':').at(-1)));
    });
  });
  return { port, kill: () => child.kill('SIGKILL') };
};

test('two replicas over one PostgreSQL serve the same hosts, and one goes on when the other is killed', async (t) => {
  const dir = temporaryFolder(t);
  const policies = await makePolicyFolder();
  t.after(() => policies.remove());
  const postgres = await startPostgres();
  t.after(() => postgres[Symbol.asyncDispose]());
  const { url, ownerUrl } = await postgres.database({ migrated: false });
  const secret = (name: string, text: string): string => {
    writeFileSync(join(dir, name), text, { mode: 0o400 });
    return join(dir, name);
  };
  const env = (replica: string) => ({
    PATH: process.env['PATH'] ?? '',
    REGISTRY_LISTEN_ADDRESS: '127.0.0.1:0',
    REGISTRY_AUTHORITY_DIR: join(dir, 'authority'),
    REGISTRY_DATABASE_URL_FILE: join(dir, 'url'),
    REGISTRY_REPLICA: replica,
    REGISTRY_ALLOW_ROOT: 'yes',
  });
  secret('url', url);
  const owner = ['--owner-url-file', secret('owner', ownerUrl), '--runtime-role', RUNTIME_ROLE];
  // At once, as replicas that start together would.
  await Promise.all([0, 1].map(() => run(process.execPath, [MAIN, 'migrate', ...owner], { timeout: WAIT_MS })));
  const anchor = join(policies.dir, 'trust-anchor.json');
  const init = [
    'init',
    '--trust-domain',
    'registry.test',
    '--trust-anchor',
    anchor,
    '--token-file',
    join(dir, 'token'),
  ];
  await run(process.execPath, [MAIN, ...init], { env: env('one'), timeout: WAIT_MS });
  const [one, two] = await Promise.all([serve(t, env('one')), serve(t, env('two'))]);
  const roots = [new X509Certificate(await readFile(join(dir, 'authority/root.pem'))).toString()];
  const connect = (port: number, who: Certified) => {
    const client = connectTo(port, { roots, key: who.key, chain: who.chain });
    t.after(() => client.close());
    return client;
  };

  const admin = await enrolWith(one.port, { token: (await readFile(join(dir, 'token'), 'utf8')).trim(), roots });
  const [atOne, atTwo] = [connect(one.port, admin), connect(two.port, admin)];
  await unary(atOne, AdminServiceService.createTenant, { tenant: 'acme', displayName: '' });
  const { token } = await unary(atTwo, AdminServiceService.createHost, hostRequest('web-1', ['acme']));
  const host = connect(two.port, await enrolWith(two.port, { token: token?.token ?? '', roots }));
  const heartbeat = duplex(host, HostsServiceService.heartbeat);
  heartbeat.write(aHeartbeat());
  assert.equal((await heartbeat.next()).command?.$case, 'welcome');
  const watch = serverStream(host, PoliciesServiceService.watchPolicies, aPolicyWatch());
  assert.deepEqual((await watch.next()).policies, []);

  const jws = await readFile(join(policies.dir, 'platform.json'));
  await unary(atOne, AdminServiceService.publishPolicy, { jws, acceptConflicts: false });
  let news = await watch.next();
  while (news.policies.length === 0) news = await watch.next();
  assert.equal(news.policies[0]?.version, 1n);

  one.kill();
  const status = await unary(atTwo, AdminServiceService.getRegistryStatus, {});
  assert.deepEqual([status.store, status.replica, status.hosts], ['postgresql', 'two', 1n]);
  const again = await serve(t, env('one'));
  const ends = Promise.all([heartbeat.end, watch.end]);
  const back = connect(again.port, admin);
  await unary(back, AdminServiceService.revokeHost, { host: 'web-1', reason: 'lost' });
  assert.deepEqual(await ends, ['HOST_REVOKED', 'HOST_REVOKED']);
});
