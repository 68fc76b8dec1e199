// A campaign is killed in front of every single step that it takes in the file system. After each kill every file is whole,
// and the next run finishes the campaign with each file moved once.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { CLI, temporaryFolder } from '../clients/cli/run-cli.ts';
import { ENVELOPE, StubAgent } from '../clients/stub-agent.ts';

const PRELOAD = join(import.meta.dirname, '../support/kill-at-step.ts');
const FILES = ['a', 'b', 'list'];
/** The list is longer than the distance of two checkpoints. */
const LIST_LINES = 70;
const PATIENCE_MS = 30_000;

const jweOf = (version: number, content: string): string => {
  const header = { alg: 'RSA-OAEP-256', enc: 'A256GCM', kid: `acme/k/${version}` };
  return `${Buffer.from(JSON.stringify(header)).toString('base64url')}.AA.AA.${Buffer.from(content).toString('base64url')}.AA`;
};
const contentOf = (name: string, version: number): string =>
  name === 'list'
    ? Array.from({ length: LIST_LINES }, (_, at) => `${jweOf(version, `line ${at}`)}\n`).join('')
    : jweOf(version, name);
const versionMessage = (version: number, state: string) => ({
  version,
  algorithm: 'RSA-2048',
  joseAlgorithm: 'RSA-OAEP-256',
  state,
  custody: 'CUSTODY_HSM',
  origin: 'ORIGIN_GENERATED',
  uses: 0n,
});

/** An agent that moves from version 1 to 2 and keeps the content. */
const answering = (agent: StubAgent): void => {
  agent.answers['whoAmI'] = () => ({
    tenant: 'acme',
    principal: 'p',
    scopes: [],
    authenticatedBy: 'peer',
    uid: 1,
    gid: 2,
    pid: 3,
  });
  agent.answers['getKey'] = () => ({
    key: {
      keyId: 'k',
      tenant: 'acme',
      purpose: 'PURPOSE_ENCRYPT',
      state: 'KEY_STATE_ACTIVE',
      labels: {},
      grants: [],
      versions: [versionMessage(1, 'VERSION_STATE_RETIRED'), versionMessage(2, 'VERSION_STATE_PRIMARY')],
      revision: 2n,
      uses: 0n,
    },
  });
  agent.answers['reEncrypt'] = ({ request }) => ({
    jwe: jweOf(2, Buffer.from(request.jwe.split('.')[3], 'base64url').toString()),
    envelope: ENVELOPE,
    sourceKeyUsed: { keyId: 'k', version: 1 },
    sourceAlgorithmUsed: 'RSA-OAEP-256',
  });
  agent.answers['sign'] = () => ({ jws: 'x.y.z', signature: Buffer.alloc(0), envelope: ENVELOPE });
};

test('killed in front of any step, a campaign loses nothing and moves nothing twice', async (t) => {
  await using agent = await new StubAgent().start();
  answering(agent);
  const folder = temporaryFolder(t);
  const [data, journal, statement] = ['data', 'journal', 'statement'].map((name) => join(folder, name)) as [
    string,
    string,
    string,
  ];
  const run = async (killAt: number): Promise<{ code: number | null; signal: string | null; steps: number }> => {
    const signing = ['--sign-key', 'k', '--statement', statement, '--keep-old', '.old', '--no-verify'];
    const args = ['migrate', 'run', data, '--journal', journal, '--socket', agent.socketPath, ...signing];
    const child = spawn(process.execPath, ['--import', PRELOAD, CLI, ...args], {
      env: { PATH: process.env['PATH'], KILL_AT: String(killAt) },
      stdio: ['ignore', 'ignore', 'pipe'],
      signal: AbortSignal.timeout(PATIENCE_MS), // ends the child, and the wait for it with an error
    });
    const closed = once(child, 'close');
    let said = '';
    child.stderr.on('data', (text: Buffer) => {
      said += text;
    });
    const [code, signal] = (await closed) as [number | null, string | null];
    return { code, signal, steps: Number(/steps: (\d+)/.exec(said)?.[1] ?? 0) };
  };
  const fresh = (): void => {
    for (const path of [data, journal, `${journal}.lock`, statement]) rmSync(path, { recursive: true, force: true });
    mkdirSync(data);
    for (const name of FILES) writeFileSync(join(data, name), contentOf(name, 1));
  };
  const isWhole = (path: string): boolean => {
    const name = (path.split('/').at(-1) as string).replace('.old', '');
    return [contentOf(name, 1), contentOf(name, 2)].includes(readFileSync(path, 'utf8'));
  };
  fresh();
  const { code, steps } = await run(0);
  assert.equal(code, 0);
  assert.ok(steps > 40, `only ${steps} steps were counted`);
  for (let killAt = 1; killAt <= steps; killAt += 1) {
    fresh();
    const killed = await run(killAt);
    assert.equal(killed.signal, 'SIGKILL', `the run was not killed at step ${killAt}`);
    for (const name of FILES) assert.ok(isWhole(join(data, name)), `${name} after step ${killAt}`);
    assert.equal((await run(0)).code, 0, `after a kill at step ${killAt}`);
    for (const name of FILES) {
      assert.equal(readFileSync(join(data, name), 'utf8'), contentOf(name, 2), `${name} after step ${killAt}`);
      assert.equal(readFileSync(join(data, `${name}.old`), 'utf8'), contentOf(name, 1));
    }
    assert.deepEqual(
      readdirSync(data).sort(),
      FILES.flatMap((name) => [name, `${name}.old`]),
      `litter after step ${killAt}`,
    );
    const moved = readFileSync(`${statement}.entries.jsonl`, 'utf8')
      .split('\n')
      .filter((line) => line.includes('"moved"'));
    assert.equal(moved.length, FILES.length, `step ${killAt}`);
  }
});
