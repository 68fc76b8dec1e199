// Two real agents over one token at the real registry's program: keys, policies, revocations and records cross, and what
// happens when the program is killed.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { MortiseClient } from '../../clients/typescript/index.ts';
import { AdminServiceService } from '../../proto/gen/mortise/registry/v1/admin.ts';
import { LedgerServiceService } from '../../proto/gen/mortise/registry/v1/ledger.ts';
import { runCli, temporaryFolder } from '../clients/cli/run-cli.ts';
import type { RunningAgent } from '../support/agent.ts';
import { type Fleet, makeFleetOf } from '../support/fleet.ts';
import { freeze } from '../support/freeze.ts';
import { unary } from '../support/registry-client.ts';
import { RegistryProcess } from '../support/registry-process.ts';
import { clientOf, refusedWith } from './load.ts';

let fleet: Fleet<RegistryProcess>;
let agents: readonly RunningAgent[];
let a: MortiseClient;
let b: MortiseClient;
const HOSTS = ['host-a', 'host-b'] as const;
const message = Buffer.from('shared');
const folder = temporaryFolder({ after: (act) => after(act as () => void) });

before(async () => {
  fleet = await makeFleetOf({ makeRegistry: (anchor) => RegistryProcess.make(anchor) });
  agents = [await fleet.agent('host-a'), await fleet.agent('host-b')];
  [a, b] = agents.map((agent) => clientOf(agent, 'acme', { retry: false })) as [MortiseClient, MortiseClient];
});
after(async () => {
  a?.close();
  b?.close();
  await fleet?.[Symbol.asyncDispose]();
});

/** Asks until it holds; every answer of the registry is the present. */
const until = async (what: string, holds: () => Promise<boolean>): Promise<void> => {
  const end = Date.now() + 30_000;
  while (!(await holds())) {
    if (Date.now() > end) throw new Error(`never came about: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
};

const keysOf = async (client: MortiseClient): Promise<number> => {
  let count = 0;
  for await (const _ of client.keys.list()) count += 1;
  return count;
};

/** Resolves when both hosts have told the registry that they have the newest of acme. */
const everywhere = (): Promise<void> =>
  until('the newest position on both hosts', async () => {
    const request = { pageSize: 0, pageToken: '', tenant: 'acme', state: 'HOST_STATE_UNSPECIFIED' as never };
    const { hosts } = await unary(fleet.registry.admin, AdminServiceService.listHosts, request);
    const applied = HOSTS.map((name) => hosts.find(({ host }) => host === name)?.catalogs[0]?.position ?? 0n);
    const here = await Promise.all([a, b].map(keysOf));
    return applied[0] === applied[1] && applied[0] !== 0n && here[0] === here[1];
  });

test('1: a key made on one host is used on the other', async () => {
  await a.keys.create({ keyId: 'signer', purpose: 'sign', algorithm: 'EC-P256' });
  await a.keys.create({ keyId: 'pq', purpose: 'sign', algorithm: 'ML-DSA-44' });
  await everywhere();
  for (const key of ['signer', 'pq']) {
    const { jws } = await b.sign(key, { message });
    assert.equal((await a.verify({ jws })).valid, true);
  }
});

test('2: a rotation and a suspension arrive', async () => {
  await a.keys.rotate('signer');
  await until('the rotation', async () => (await b.sign('signer', { message })).envelope.keyUsed?.version === 2);
  await b.keys.suspend('signer');
  await until('the suspension', () =>
    a.sign('signer', { message }).then(
      () => false,
      (error) => refusedWith('KEY_STATE')(error) !== undefined || true,
    ),
  );
  await a.keys.resume('signer');
  await everywhere();
});

test('3: a published policy arrives, and the registry lists which host runs it', async () => {
  const { version } = await fleet.policy.publishTenant('acme', { algorithms: { deny: ['HMAC-SHA512'] } });
  await fleet.publish('acme');
  await Promise.all(
    agents.map((agent) =>
      agent.logged(
        (line) => line.msg === 'policy came into force' && line['tenant'] === 'acme' && line['version'] === version,
      ),
    ),
  );
  await until('both hosts with the policy', async () => {
    const request = { pageSize: 0, pageToken: '', tenant: 'acme', state: 'HOST_STATE_UNSPECIFIED' as never };
    const { hosts } = await unary(fleet.registry.admin, AdminServiceService.listHosts, request);
    return hosts.every(({ policies }) =>
      policies.some((row) => row.tenant === 'acme' && row.version === BigInt(version)),
    );
  });
});

test('4: the registry is killed, and cryptography goes on; it is back, and the ledger is complete', async () => {
  const from = agents.map(({ logs }) => logs.length);
  await fleet.registry.stop('SIGKILL');
  await Promise.all(agents.map((agent, at) => agent.logged((line) => line.msg.startsWith('not connected'), from[at])));
  const correlationIds = Array.from({ length: 25 }, (_, count) => `offline-${count}`);
  for (const correlationId of correlationIds) {
    await a.sign('signer', { message }, { correlationId });
    await b.sign('pq', { message });
  }
  await assert.rejects(a.keys.rotate('signer'), refusedWith('REGISTRY_UNAVAILABLE'));
  await fleet.registry.start();
  await Promise.all(
    agents.map((agent, at) => agent.logged(({ msg }) => msg === 'connected to the registry', from[at])),
  );
  await until('every record of the time without it', async () => {
    const filter = {
      tenant: 'acme',
      fromTime: undefined,
      toTime: undefined,
      key: '',
      principal: '',
      operation: 'sign',
      outcome: 'ok',
      host: 'host-a',
      correlationId: '',
    };
    const request = { filter, pageSize: 1000, pageToken: '' };
    const { records } = await unary(fleet.registry.admin, LedgerServiceService.queryRecords, request);
    const text = Buffer.concat(records.map(({ record }) => Buffer.from(record?.record ?? []))).toString('latin1');
    return correlationIds.every((id) => text.includes(id));
  });
  const verified = await unary(fleet.registry.admin, LedgerServiceService.verifyLedger, {
    tenant: 'acme',
    host: '',
    trustedCheckpoints: [],
  });
  assert.equal(verified.intact, true);
  await a.keys.rotate('signer');
  await everywhere();
});

test('5: of rotations on both hosts at once each that succeeds makes a version, and no two make the same', async () => {
  const before = (await a.keys.get('signer')).versions.length;
  const outcomes = await Promise.allSettled([a.keys.rotate('signer'), b.keys.rotate('signer')]);
  const failed = outcomes.filter(({ status }) => status === 'rejected') as PromiseRejectedResult[];
  for (const { reason } of failed) refusedWith('KEY_CONFLICT')(reason);
  await everywhere();
  for (const client of [a, b]) {
    assert.equal((await client.keys.get('signer')).versions.length, before + 2 - failed.length);
  }
});

test('6: a hard limit holds over both hosts, one of them killed', async () => {
  const hard = 48;
  await a.keys.create({ keyId: 'few', purpose: 'mac', algorithm: 'HMAC-SHA256', limits: { hardUses: hard } });
  await everywhere();
  let made = 0;
  const use = (client: MortiseClient): Promise<boolean> =>
    client.mac('few', message).then(
      () => {
        made += 1;
        return true;
      },
      (error) => !refusedWith('KEY_LIMIT')(error),
    );
  for (let round = 0; round < 8; round += 1) await Promise.all([use(a), use(b)]);
  const [, second] = agents as [RunningAgent, RunningAgent];
  b.close();
  await second.end('SIGKILL');
  const from = second.logs.length;
  await second.start();
  b = clientOf(second, 'acme', { retry: false });
  await second.logged(({ msg }) => msg === 'connected to the registry', from);
  for (let more = true; more; ) more = (await Promise.all([use(a), use(b)])).includes(true);
  assert.ok(made <= hard && made >= hard - 4, `${made} uses of a limit of ${hard}`);
});

test('7: a registry that is stopped in good order and started again is found again', async () => {
  const from = agents.map(({ logs }) => logs.length);
  await fleet.registry.stop('SIGTERM');
  await fleet.registry.start();
  await Promise.all(
    agents.map((agent, at) => agent.logged(({ msg }) => msg === 'connected to the registry', from[at])),
  );
  await until('a change', () =>
    a.keys.create({ keyId: 'after', purpose: 'mac', algorithm: 'HMAC-SHA256' }).then(
      () => true,
      () => false,
    ),
  );
  await everywhere();
  await b.mac('after', message);
});

test('8: the command line waits until a change is on all hosts, and names the one that it is not on', async () => {
  const [first, second] = agents as [RunningAgent, RunningAgent];
  const tokenFile = join(folder, 'jwt');
  await writeFile(tokenFile, await first.issuer.issue({ tenant: 'acme', principal: 'ops' }), { mode: 0o600 });
  const env = { MORTISE_ADMIN_DIR: join(folder, 'admin'), MORTISE_REGISTRY: fleet.registry.address };
  const cli = (...args: string[]) => runCli(args, { env });
  const enrolled = await cli('registry', 'enrol', '--enrolment-token', fleet.registry.tokenFile);
  assert.equal(enrolled.code, 0, enrolled.stderr);
  const agent = ['--socket', first.socket, '--token-file', tokenFile];
  const done = await cli('key', 'suspend', 'after', ...agent, '--wait-for-hosts', '20s');
  assert.equal(done.code, 0, done.stderr);
  assert.match(done.stderr, /applied on 2 of 2 hosts/);
  await assert.rejects(b.mac('after', message), refusedWith('KEY_STATE'));
  await freeze(second.pid);
  let missing: Awaited<ReturnType<typeof cli>>;
  try {
    missing = await cli('key', 'resume', 'after', ...agent, '--wait-for-hosts', '1s', '--output', 'json');
  } finally {
    process.kill(second.pid, 'SIGCONT');
  }
  assert.equal(missing.code, 5, missing.stderr);
  const { key, hosts } = JSON.parse(missing.stdout);
  const names = hosts.missing.map(({ host }: { host: string }) => host);
  assert.deepEqual([key.state, hosts.applied, names], ['ACTIVE', ['host-a'], ['host-b']]);
});

test('9: the command line forwards the logs of all hosts from the registry, each record once over its restarts', async (t) => {
  const env = { MORTISE_ADMIN_DIR: join(folder, 'admin'), MORTISE_REGISTRY: fleet.registry.address };
  const cli = (...args: string[]) => runCli(args, { env });
  const taken: string[] = [];
  let away = true;
  const collector = createServer((request, response) => {
    const pieces: Buffer[] = [];
    request.on('data', (piece: Buffer) => pieces.push(piece));
    request.on('end', () => {
      if (!away)
        taken.push(
          ...Buffer.concat(pieces)
            .toString()
            .matchAll(/"event_id":"([^"]+)"/g)
            .map(([, id]) => id as string),
        );
      response.writeHead(away ? 503 : 200, { 'content-type': 'application/json' }).end('{"text":"Success","code":0}');
      away = false;
    });
  }).listen(0, '127.0.0.1');
  t.after(() => void collector.close());
  await once(collector, 'listening');
  const url = `http://127.0.0.1:${(collector.address() as AddressInfo).port}`;
  const forward = () =>
    cli(
      'audit',
      'forward',
      'splunk',
      url,
      '--tenant',
      'acme',
      '--state',
      join(folder, 'state'),
      '--batch',
      '50',
      '--once',
      '--output',
      'json',
    );
  const idsInLedger = async (): Promise<string[]> => {
    const query = await cli('audit', 'query', '--tenant', 'acme', '--output', 'json');
    assert.equal(query.code, 0, query.stderr);
    return query.stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line).eventId as string);
  };
  const first = await forward();
  assert.equal(first.code, 0, first.stderr);
  assert.match(first.stderr, /waits: /, 'the receiver was away at first');
  await a.sign('pq', { message }, { correlationId: 'last-of-all' });
  await until('the last record in the ledger', async () => {
    const found = await cli(
      'audit',
      'query',
      '--tenant',
      'acme',
      '--correlation-id',
      'last-of-all',
      '--output',
      'json',
    );
    return found.stdout.includes('last-of-all');
  });
  const ids = await idsInLedger();
  const second = await forward();
  assert.equal(second.code, 0, second.stderr);
  assert.equal(new Set(taken).size, taken.length, 'no record came twice');
  assert.deepEqual(
    ids.filter((id) => !taken.includes(id)),
    [],
  );
  for (const host of [...HOSTS, 'registry.'])
    assert.ok(
      taken.some((id) => id.startsWith(host)),
      host,
    );
  assert.ok(JSON.parse(second.stdout).records < JSON.parse(first.stdout).records);
});

test('10: a host that is revoked is cut off and serves nobody; the other goes on', async () => {
  const [, second] = agents as [RunningAgent, RunningAgent];
  await fleet.registry.revoke('host-b', 'left the building');
  await second.logged((line) => line.msg === 'the registry has revoked this host');
  await assert.rejects(b.sign('pq', { message }), refusedWith('POLICY_DENIED'));
  await a.sign('pq', { message });
});
