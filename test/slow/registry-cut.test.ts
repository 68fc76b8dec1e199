// Agents and a registry whose network is cut, whose clocks differ by a day, whose certificates have run out, or whose replica
// dies: real processes, real network namespaces, clocks set by libfaketime, a real PostgreSQL.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { promisify } from 'node:util';
import { connect } from '../../clients/typescript/index.ts';
import { refusedWith } from '../e2e/load.ts';
import { enrolAgent } from '../support/fleet.ts';
import { startPostgres } from '../support/postgres.ts';
import {
  assertComplete,
  callerOf,
  loggedLoss,
  loggedReturn,
  makeStage,
  message,
  sign,
  until,
  untilDone,
  withSigner,
} from './support/registry-stage.ts';

const run = promisify(execFile);
const LIBFAKETIME = '/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1';
const noFaketime = existsSync(LIBFAKETIME) ? false : 'faketime is not installed; npm run test:slow installs it';
/** A clock that is ahead by a day and an hour, and monotonic time that is not: as the environment of a process. */
const AHEAD_SECONDS = 25 * 3600;
const AHEAD = { LD_PRELOAD: LIBFAKETIME, FAKETIME: '+25h', DONT_FAKE_MONOTONIC: '1' };

interface Link {
  /** What starts a process on the far side. */
  readonly launcher: readonly string[];
  /** Address of the near side. */
  readonly address: string;
  cut(isCut: boolean): Promise<void>;
}

/** A network namespace behind a pair of virtual interfaces; undefined where the system has none. */
const makeLink = async (t: TestContext): Promise<Link | undefined> => {
  const id = randomInt(16, 250);
  const [name, near, far] = [`mortise-${process.pid}`, `mrt${process.pid}a`, `mrt${process.pid}b`];
  const ip = (...args: string[]) => run('ip', args);
  try {
    await ip('netns', 'add', name);
  } catch {
    return undefined;
  }
  t.after(() => ip('netns', 'del', name)); // and the interfaces with it
  await ip('link', 'add', near, 'type', 'veth', 'peer', 'name', far, 'netns', name);
  await ip('addr', 'add', `10.213.${id}.1/30`, 'dev', near);
  await ip('link', 'set', near, 'up');
  await ip('-n', name, 'addr', 'add', `10.213.${id}.2/30`, 'dev', far);
  await ip('-n', name, 'link', 'set', far, 'up');
  return {
    launcher: ['ip', 'netns', 'exec', name],
    address: `10.213.${id}.1`,
    cut: async (isCut) => void (await ip('link', 'set', near, isCut ? 'down' : 'up')),
  };
};

test('a host whose network is cut goes on, restarted too, and hands in all of it when it has a network again', {
  skip: process.getuid?.() === 0 ? false : 'only root can make network namespaces',
}, async (t) => {
  const link = await makeLink(t);
  if (link === undefined) return t.skip('the system makes no network namespaces');
  const { address } = link;
  const stage = await makeStage(t, {
    env: { REGISTRY_LISTEN_ADDRESS: '0.0.0.0:0', REGISTRY_NAMES: `localhost,127.0.0.1,${address}` },
  });
  const env = { MORTISE_REGISTRY_URL: `https://${address}:${stage.registry.port}` };
  const agent = await stage.fleet.agent('host-a', { env, launcher: link.launcher });
  const other = await stage.fleet.agent('host-b');
  const client = await withSigner(t, agent);
  const elsewhere = callerOf(t, other);
  await untilDone('the key on the other host', () => sign(stage, elsewhere, 1));
  const from = agent.logs.length;
  await link.cut(true);
  await sign(stage, client, 50);
  await until('the loss of the session', () => agent.logs.slice(from).some(loggedLoss));
  await assert.rejects(client.keys.rotate('signer'), refusedWith('REGISTRY_UNAVAILABLE'));
  await agent.end('SIGKILL');
  await agent.start();
  const again = callerOf(t, agent);
  await sign(stage, again, 50);
  await elsewhere.keys.rotate('signer'); // the rest of the hosts is not held up
  const back = agent.logs.length;
  await link.cut(false);
  await until('the return of the session', () => agent.logs.slice(back).some(loggedReturn));
  await until('the rotation of the other host', async () =>
    (await again.keys.get('signer')).versions.some(({ version }) => version === 2),
  );
  await sign(stage, again, 10);
  await assertComplete(t, stage);
});

test('a registry whose clock is a day ahead is not believed; operations go on, and once it is right all is handed in', {
  skip: noFaketime,
}, async (t) => {
  const stage = await makeStage(t);
  const agent = await stage.fleet.agent('host-a');
  const client = await withSigner(t, agent);
  await sign(stage, client, 10);
  await stage.registry.stop();
  const from = agent.logs.length;
  await stage.registry.start({ env: AHEAD });
  await until('the loss of the session', () => agent.logs.slice(from).some(loggedLoss));
  await sign(stage, client, 50);
  await assert.rejects(client.keys.rotate('signer'), refusedWith('REGISTRY_UNAVAILABLE'));
  await stage.registry.stop();
  await stage.registry.start();
  await untilDone('a rotation', () => client.keys.rotate('signer'));
  await sign(stage, client, 10);
  await assertComplete(t, stage);
});

test('a host whose clock is a day ahead says so, and its records are taken in their order, also once it is right again', {
  skip: noFaketime,
}, async (t) => {
  const stage = await makeStage(t);
  const agent = await stage.fleet.agent('host-a');
  const client = await withSigner(t, agent);
  await sign(stage, client, 10);
  client.close();
  await agent.end();
  const from = agent.logs.length;
  await agent.start(AHEAD);
  await agent.logged(({ msg }) => msg.startsWith('the clock of this host differs'), from);
  const now = Math.floor(Date.now() / 1000) + AHEAD_SECONDS;
  const claims = { iat: now, nbf: now, exp: now + 600 };
  const tomorrow = connect({
    socketPath: agent.socket,
    token: () => agent.issuer.issue({ tenant: 'acme', principal: 'app@acme', claims }),
  });
  t.after(() => tomorrow.close());
  await sign(stage, tomorrow, 50);
  await agent.end();
  await agent.start();
  await sign(stage, callerOf(t, agent), 50);
  await assertComplete(t, stage);
});

test('a host whose certificate ran out while it was off serves its callers, says so, and is whole when enrolled anew', async (t) => {
  const stage = await makeStage(t, { env: { REGISTRY_HOST_CERTIFICATE_SECONDS: '60' } });
  const agent = await stage.fleet.agent('host-a');
  const client = await withSigner(t, agent);
  await sign(stage, client, 10);
  client.close();
  await agent.end();
  await new Promise((resolve) => setTimeout(resolve, 62_000));
  const from = agent.logs.length;
  await agent.start();
  const again = callerOf(t, agent);
  await sign(stage, again, 50);
  await until('the refusal', () => agent.logs.slice(from).some(loggedLoss));
  await assert.rejects(again.keys.rotate('signer'), refusedWith('REGISTRY_UNAVAILABLE'));
  await enrolAgent(agent, await stage.registry.admit('host-a', ['acme', 'globex']));
  await untilDone('a rotation', () => again.keys.rotate('signer'));
  await sign(stage, again, 10);
  await assertComplete(t, stage);
});

test('of two replicas over one PostgreSQL one is killed: a key and a host are revoked on all agents all the same', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'mortise-replicas-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const postgres = await startPostgres();
  const { url } = await postgres.database();
  const urlFile = join(folder, 'url');
  await writeFile(urlFile, url, { mode: 0o400 });
  const stage = await makeStage(t, { env: { REGISTRY_DATABASE_URL_FILE: urlFile, REGISTRY_REPLICA: 'one' } });
  t.after(() => postgres[Symbol.asyncDispose]());
  const two = await stage.registry.replica('two');
  t.after(() => two[Symbol.asyncDispose]());
  const [first, second] = [stage.registry.url, two.url];
  const a = await stage.fleet.agent('host-a', { env: { MORTISE_REGISTRY_URL: `${first},${second}` } });
  const b = await stage.fleet.agent('host-b', { env: { MORTISE_REGISTRY_URL: `${second},${first}` } });
  const [onA, onB] = [await withSigner(t, a), callerOf(t, b)];
  await onA.keys.create({ keyId: 'other', purpose: 'sign', algorithm: 'EC-P256' });
  await untilDone('the key on the other host', () => sign(stage, onB, 1));
  await onA.keys.revoke('other');
  await until('the revocation on the other replica', () =>
    onB.sign('other', { message }).then(
      () => {
        stage.signed += 1; // it had not arrived yet
        return false;
      },
      (error: unknown) => refusedWith('KEY_STATE')(error),
    ),
  );
  const from = b.logs.length;
  await two.stop('SIGKILL');
  await sign(stage, onA, 50);
  await sign(stage, onB, 50);
  await until('the move to the other replica', () => b.logs.slice(from).some(loggedReturn));
  await untilDone('a rotation through the replica that is left', () => onB.keys.rotate('signer'));
  await sign(stage, onB, 10);
  await assertComplete(t, stage);
  await stage.registry.revoke('host-b', 'stolen');
  await until('the end of the revoked host', () =>
    onB.sign('signer', { message }).then(
      () => {
        stage.signed += 1;
        return false;
      },
      () => true,
    ),
  );
  await sign(stage, onA, 10);
});
