// Two tokens on one agent, each in a process of its own: what befalls one is felt by its own tenant alone.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import type { MortiseClient } from '../../clients/typescript/index.ts';
import { type LogLine, type RunningAgent, startAgent } from '../support/agent.ts';
import { freeze } from '../support/freeze.ts';
import { makeSoftHsm, type SoftHsm } from '../support/softhsm.ts';
import { allRecords, assertRecorded, clientOf, type Load, startLoad } from './load.ts';

const message = Buffer.from('signed on its own token');
const CERTIFICATE = {
  identifier: 'CMVP 1',
  standard: 'FIPS 140-2',
  level: 3,
  expires: '2021-09-21',
  status: 'historical',
};

let first: SoftHsm;
let second: SoftHsm;
let agent: RunningAgent;
let acme: MortiseClient;
let globex: MortiseClient;
let platform: MortiseClient;

const entry = (name: string, hsm: SoftHsm, more: object): object => ({
  name,
  library: hsm.library,
  label: hsm.label,
  pin: { file: hsm.pinFile },
  sessions: 2,
  callSeconds: 1,
  environment: { SOFTHSM2_CONF: hsm.confPath },
  ...more,
});

/** In place of what the single token of the test's agent is named by. */
const withTokensFile = (path: string): Record<string, string> => ({
  MORTISE_TOKENS_FILE: path,
  PKCS11_LIBRARY_PATH: '',
  PKCS11_TOKEN_LABEL: '',
  PKCS11_PIN_FILE: '',
  SOFTHSM2_CONF: '',
});

before(async () => {
  first = await makeSoftHsm();
  second = await makeSoftHsm();
  const path = join(first.folder, 'tokens.json');
  const pin = { command: ['/bin/cat', second.pinFile] };
  const tokens = [
    entry('first', first, { tenants: ['acme'] }),
    entry('second', second, { tenants: ['globex'], pin, certificate: CERTIFICATE }),
  ];
  await writeFile(path, JSON.stringify({ schema: 'mortise.tokens/v1', agent: 'first', tokens }), { mode: 0o600 });
  agent = await startAgent({ tenants: ['acme', 'globex', 'initech'], env: withTokensFile(path) });
  await agent.logged(({ msg, token }) => msg === 'token is ready' && token === 'second');
  acme = clientOf(agent, 'acme');
  globex = clientOf(agent, 'globex');
  platform = clientOf(agent, '_platform');
  for (const client of [acme, globex]) {
    await client.keys.create({ keyId: 'signer', purpose: 'sign', algorithm: 'EC-P256' });
    await client.keys.create({ keyId: 'seed', purpose: 'sign', algorithm: 'ML-DSA-44' }); // wrapped: makes the tenant's KEK
  }
});
after(async () => {
  for (const client of [acme, globex, platform]) client?.close();
  await agent?.stop();
  await first?.dispose();
  await second?.dispose();
});

const pidOf = (name: string): number => {
  const line = agent.logs.findLast(({ msg, token }) => msg === 'token is ready' && token === name);
  assert.ok(line !== undefined, `${name} was never ready`);
  return line['pid'] as number;
};
const isReady = (name: string) => (line: LogLine) => line.msg === 'token is ready' && line['token'] === name;

/** Ends with its test, however that ends. */
const signing = (client: MortiseClient): Load & AsyncDisposable => {
  const load = startLoad({
    client,
    callers: 3,
    operation: 'sign',
    act: (caller, correlationId) => caller.sign('signer', { message }, { correlationId }),
  });
  return { ...load, [Symbol.asyncDispose]: () => load.stop() };
};

/** The agent kills a process that hangs by itself, and may have been first. */
const killIfThere = (pid: number): void => {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    assert.equal((error as NodeJS.ErrnoException).code, 'ESRCH');
  }
};

const labelsIn = async (hsm: SoftHsm): Promise<string> =>
  (
    await promisify(execFile)(
      process.execPath,
      [join(import.meta.dirname, '../support/list-objects.ts'), hsm.library, hsm.label, hsm.pinFile],
      { env: { PATH: '/usr/bin:/bin', ...hsm.env } },
    )
  ).stdout;

test('1: each tenant’s keys and KEK are on its own token, the agent’s own keys on the one that is named', async () => {
  const [one, two] = [await labelsIn(first), await labelsIn(second)];
  assert.match(one, /mortise:key:acme:signer:v1/);
  assert.match(one, /mortise:kek:tenant:acme:v1/);
  assert.match(one, /mortise:agent:test-host:audit-wrap/);
  assert.doesNotMatch(one, /globex/);
  assert.match(two, /mortise:key:globex:signer:v1/);
  assert.match(two, /mortise:kek:tenant:globex:v1/);
  assert.doesNotMatch(two, /acme|agent/);
  assert.notEqual(pidOf('first'), pidOf('second'));
});

test('2: a token process that is killed again and again, or hangs, does not touch the tenant of the other', async () => {
  await using mine = signing(acme);
  await using theirs = signing(globex);
  await Promise.all([mine.more(20, 'ok'), theirs.more(20, 'ok')]);
  for (const signal of ['SIGKILL', 'SIGKILL', 'SIGSTOP'] as const) {
    const from = agent.logs.length;
    process.kill(pidOf('second'), signal);
    await mine.more(30, 'ok');
    await agent.logged(isReady('second'), from);
    await theirs.more(10, 'ok');
  }
  await Promise.all([mine.stop(), theirs.stop()]);
  assert.equal(mine.count(), mine.count('ok'), 'acme saw nothing of it');
  const codes = new Set(theirs.answers.map(({ outcome }) => outcome));
  for (const code of codes) assert.ok(['ok', 'HSM_UNAVAILABLE', 'HSM_BUSY'].includes(code), code);
  assertRecorded(mine.answers, await allRecords(acme));
  assertRecorded(theirs.answers, await allRecords(globex));
});

test('3: with the agent’s own token away the other tenant goes on, its audit trail included', async () => {
  const from = agent.logs.length;
  await freeze(pidOf('first'));
  await using theirs = signing(globex);
  await theirs.more(20, 'ok');
  await globex.keys.create({ purpose: 'encrypt', algorithm: 'AES-256', keyId: 'made-meanwhile' });
  const { jwe } = await globex.encrypt('made-meanwhile', message);
  assert.deepEqual(Buffer.from((await globex.decrypt(jwe)).plaintext), message);
  killIfThere(pidOf('first'));
  await agent.logged(isReady('first'), from);
  await theirs.stop();
  assert.equal(theirs.count(), theirs.count('ok'));
  assertRecorded(theirs.answers, await allRecords(globex));
  assert.ok((await acme.sign('signer', { message })).jws.length > 0);
});

test('4: status names every token to the platform and to a tenant its own, with the operator’s certificate', async () => {
  const all = await platform.status();
  assert.deepEqual(
    all.tokens.map(({ name }) => name),
    ['first', 'second'],
  );
  const own = (await globex.status()).tokens;
  assert.deepEqual(
    own.map(({ name, certificate }) => [name, certificate?.identifier, certificate?.status]),
    [['second', 'CMVP 1', 'historical']],
  );
  assert.match(own[0]?.certificate?.warning ?? '', /is historical/);
  assert.equal(own[0]?.token?.label, second.label);
  assert.equal((await acme.status()).token?.label, first.label);
  assert.equal((await acme.status()).tokens[0]?.certificate, undefined);
});

test('5: a tenant that no token is for is told so, and nothing is made', async () => {
  using initech = clientOf(agent, 'initech', { retry: false });
  await assert.rejects(initech.keys.create({ keyId: 'x', purpose: 'sign', algorithm: 'EC-P256' }), {
    reason: 'HSM_UNSUPPORTED',
  });
  assert.equal((await initech.status()).parts.find(({ part }) => part === 'token')?.healthy, false);
});

test('6: the restarts of each token are in the trail of the platform under its name, and counted for it', async () => {
  const restarts = (await allRecords(platform)).filter(({ operation }) => operation === 'token-restart');
  const names = restarts.map(({ detail }) => JSON.parse(detail).token);
  assert.deepEqual([names.filter((name) => name === 'second').length, names.includes('first')], [3, true]);
});

test('7: the record of a start has what the operator says of the certificates', async () => {
  const start = (await allRecords(platform)).find(({ operation }) => operation === 'agent-start');
  assert.deepEqual(JSON.parse(start?.detail ?? '{}').certificates, {
    second: 'CMVP 1, FIPS 140-2 level 3, historical, until 2021-09-21',
  });
});

test('8: a second token that is not there at the start keeps nobody but its own tenants waiting', async () => {
  assert.equal(await agent.end(), 0);
  await writeFile(second.pinFile, '', { mode: 0o600 });
  await agent.start();
  assert.ok((await acme.sign('signer', { message })).jws.length > 0);
  const part = (await platform.status()).parts.find(({ part: name }) => name === 'token');
  assert.equal(part?.healthy, false);
  assert.match(part?.detail ?? '', /^second: /);
  using impatient = clientOf(agent, 'globex', { retry: false });
  await assert.rejects(impatient.sign('signer', { message }), { reason: 'HSM_UNAVAILABLE' });
});
