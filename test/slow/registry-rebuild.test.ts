// A rebuild over PostgreSQL while hosts hang on two replicas and one of these dies in the middle: real processes, one token.
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { CatalogServiceService } from '../../proto/gen/mortise/registry/v1/catalog.ts';
import { runCli } from '../clients/cli/run-cli.ts';
import { refusedWith } from '../e2e/load.ts';
import { enrolAgent } from '../support/fleet.ts';
import { startPostgres } from '../support/postgres.ts';
import { unary } from '../support/registry-client.ts';
import { callerOf, makeStage, message, sign, untilDone, withSigner } from './support/registry-stage.ts';

test('a lost database is rebuilt through two replicas, of which one is killed before all hosts have told', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'mortise-rebuild-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const postgres = await startPostgres();
  const urlFile = join(folder, 'url');
  const useDatabase = async (): Promise<void> => {
    await rm(urlFile, { force: true });
    await writeFile(urlFile, (await postgres.database()).url, { mode: 0o400 });
  };
  await useDatabase();
  const stage = await makeStage(t, { env: { REGISTRY_DATABASE_URL_FILE: urlFile, REGISTRY_REPLICA: 'one' } });
  t.after(() => postgres[Symbol.asyncDispose]());
  const { registry: one, fleet } = stage;
  const two = await one.replica('two');
  t.after(() => two[Symbol.asyncDispose]());
  const a = await fleet.agent('host-a', { env: { MORTISE_REGISTRY_URL: `${one.url},${two.url}` } });
  const b = await fleet.agent('host-b', { env: { MORTISE_REGISTRY_URL: `${two.url},${one.url}` } });
  const hosts = { 'host-a': a, 'host-b': b };
  const onA = await withSigner(t, a);
  await onA.keys.create({ keyId: 'wrapped', purpose: 'sign', algorithm: 'Ed25519' });
  await untilDone('the key on the other host', () => callerOf(t, b).sign('wrapped', { message }));
  await b.end();
  await onA.keys.create({ keyId: 'alone', purpose: 'encrypt', algorithm: 'AES-256' });
  const { jwe } = await onA.encrypt('alone', message);
  const { jws } = await onA.sign('signer', { message });
  await a.end();
  await rm(join(a.dataDir, 'keys'), { recursive: true }); // what only this host knew is in the token alone

  await two.stop('SIGTERM');
  await one.loseStore(useDatabase);
  await two.start();
  await fleet.publish();
  for (const [name, agent] of Object.entries(hosts)) await enrolAgent(agent, await one.admit(name, ['acme', 'globex']));
  await a.start();

  const admin = { MORTISE_ADMIN_DIR: join(folder, 'admin') };
  const cli = (...args: string[]) => runCli(args, { env: { ...admin, MORTISE_REGISTRY: two.address } });
  const enrolled = await cli('registry', 'enrol', '--enrolment-token', one.tokenFile);
  assert.equal(enrolled.code, 0, enrolled.stderr);
  const waiting = await cli('registry', 'rebuild', 'acme', '--wait', '1s');
  assert.equal(waiting.code, 5, waiting.stderr);
  assert.match(waiting.stdout, /missing hosts +(host-a, )?host-b/);
  await assert.rejects(
    callerOf(t, a).keys.create({ keyId: 'meanwhile', purpose: 'sign', algorithm: 'EC-P256' }),
    refusedWith('REGISTRY_UNAVAILABLE'),
  );
  await one.stop('SIGKILL');
  await b.start();
  const ended = await cli('registry', 'rebuild', 'acme', '--output', 'json');
  assert.equal(ended.code, 4, ended.stderr);
  const { state, missing, conflicts, findings } = JSON.parse(ended.stdout);
  assert.deepEqual([state, missing, conflicts], ['ended', [], []]);
  assert.deepEqual(
    findings.map(({ outcome, name, versions }: { outcome: string; name: string; versions: number[] }) => [
      ...[outcome, name, ...versions],
    ]),
    [['recreated', 'alone', 1]],
  );
  await one.start();
  const there = await unary(one.admin, CatalogServiceService.getRebuild, { tenant: 'acme' });
  assert.equal(there.rebuild?.state, 'REBUILD_STATE_ENDED', 'the other replica says the same');

  const [again, elsewhere] = [callerOf(t, a), callerOf(t, b)];
  await untilDone('a change again', () => elsewhere.keys.resume('alone'));
  await untilDone('what was encrypted before', async () => {
    assert.deepEqual(Buffer.from((await elsewhere.decrypt(jwe)).plaintext), message);
  });
  await untilDone('the keys on the host that had lost its store', () => again.sign('wrapped', { message }));
  assert.equal((await again.verify({ jws })).valid, true);
  await sign(stage, again, 5);
  await sign(stage, elsewhere, 5);
});
