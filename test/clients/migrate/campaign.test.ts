// A campaign over real files and a real journal, with an agent in the test's hands: what is retried, what ends a run, what
// is left, and what the next run makes of each place where one can have been killed.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, unlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { Campaign, type CampaignOptions } from '../../../clients/cli/migrate/campaign.ts';
import { type Entry, Journal, readEntries, readJournal } from '../../../clients/cli/migrate/journal.ts';
import { type MoveInput, Mover } from '../../../clients/cli/migrate/move.ts';
import { temporaryOf } from '../../../clients/cli/migrate/replace.ts';
import { Targets } from '../../../clients/cli/migrate/targets.ts';
import { type Clock, Throttle } from '../../../clients/cli/migrate/throttle.ts';
import { type MortiseClient, MortiseError, type MortiseErrorCode } from '../../../clients/typescript/index.ts';
import { temporaryFolder } from '../cli/run-cli.ts';

const CAMPAIGN = 'c-1';
const jweOf = (version: number, content = 'x'): string => {
  const header = Buffer.from(JSON.stringify({ alg: 'A', enc: 'A256GCM', kid: `acme/k/${version}` })).toString(
    'base64url',
  );
  return `${header}.AA.AA.${Buffer.from(content).toString('base64url')}.AA`;
};
const contentOf = (path: string): string =>
  Buffer.from(readFileSync(path, 'utf8').split('.')[3] as string, 'base64url').toString();
const versionOf = (path: string): number =>
  Number(
    Buffer.from(readFileSync(path, 'utf8').split('.')[0] as string, 'base64url')
      .toString()
      .at(-3),
  );
const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');

class World {
  readonly folder: string;
  readonly data: string;
  readonly journalPath: string;
  readonly waits: number[] = [];
  /** Called before each move. */
  onMove: (jwe: string) => void = () => undefined;
  moves = 0;
  readonly signal = new AbortController();

  constructor(t: TestContext) {
    this.folder = temporaryFolder(t);
    this.data = temporaryFolder(t);
    this.journalPath = join(this.folder, 'journal');
  }

  file(name: string, content = jweOf(1, name)): string {
    writeFileSync(join(this.data, name), content);
    return join(this.data, name);
  }

  /** An agent whose key has version 2 as primary. */
  client(): MortiseClient {
    const key = {
      keyId: 'k',
      purpose: 'encrypt',
      state: 'ACTIVE',
      versions: [
        { version: 1, state: 'RETIRED' },
        { version: 2, state: 'PRIMARY', algorithm: 'B' },
      ],
    };
    return {
      keys: { get: async () => key },
      reEncrypt: async (jwe: string) => {
        const isCheck = jwe.startsWith(jweOf(2).split('.')[0] as string);
        if (!isCheck) {
          this.moves += 1;
          this.onMove(jwe);
        }
        return { jwe: [jweOf(2).split('.')[0], ...jwe.split('.').slice(1)].join('.') };
      },
    } as unknown as MortiseClient;
  }

  async run(change: Partial<CampaignOptions> = {}) {
    const clock: Clock = {
      now: () => 0,
      sleep: async (ms, signal) => {
        signal.throwIfAborted();
        if (ms > 0) this.waits.push(ms);
      },
    };
    const client = this.client();
    const targets = new Targets({ client, call: {}, tenant: 'acme', to: undefined, key: undefined });
    const journal = await Journal.open(this.journalPath);
    const state = await readJournal(this.journalPath);
    const number = state.runs + 1;
    await journal.append({ t: 'run', run: number, time: '2026-11-24T00:00:00Z', files: 0 });
    const campaign = new Campaign({
      journal,
      state,
      options: {
        campaign: CAMPAIGN,
        run: number,
        method: 'auto',
        to: undefined,
        associatedData: undefined,
        aadSuffix: undefined,
        messageSuffix: '.jws',
        keptSuffix: undefined,
        verify: true,
        ...change,
      },
      mover: new Mover({ client, call: {}, streams: {}, targets }),
      targets,
      throttle: new Throttle({ clock, limits: { concurrency: 2, rate: undefined } }),
      clock,
      signal: this.signal.signal,
    });
    const paths = readdirSync(this.data)
      .filter((name) => !name.startsWith('.'))
      .sort()
      .map((name) => join(this.data, name));
    try {
      await campaign.recover();
      const complete = await campaign.run(
        (async function* () {
          yield* paths;
        })(),
        () => undefined,
      );
      return { complete, progress: campaign.progress };
    } finally {
      await journal.close();
    }
  }

  async entries(): Promise<readonly Entry[]> {
    const all: Entry[] = [];
    for await (const entry of readEntries(this.journalPath)) all.push(entry);
    return all;
  }
}

const failure = (code: MortiseErrorCode, retryAfterMs?: number): MortiseError =>
  new MortiseError(code, { message: code, ...(retryAfterMs !== undefined && { retryAfterMs }) });

test('a busy agent is waited for, as long as it asks', async (t) => {
  const world = new World(t);
  const path = world.file('a');
  const failures = [failure('HSM_BUSY'), failure('RATE_LIMITED', 3000), failure('AGENT_UNREACHABLE')];
  world.onMove = () => {
    const error = failures.shift();
    if (error !== undefined) throw error;
  };
  const { complete, progress } = await world.run();
  assert.deepEqual([complete, progress.moved, versionOf(path)], [true, 1, 2]);
  assert.deepEqual(world.waits, [100, 3000, 400]);
});

test('an agent that stays away ends the run with its error, and every file as it was', async (t) => {
  const world = new World(t);
  const paths = ['a', 'b', 'c'].map((name) => world.file(name));
  world.onMove = () => {
    throw failure('HSM_UNAVAILABLE');
  };
  await assert.rejects(world.run(), { code: 'HSM_UNAVAILABLE' });
  assert.deepEqual(paths.map(versionOf), [1, 1, 1]);
  assert.deepEqual(readdirSync(world.data), ['a', 'b', 'c']);
  world.onMove = () => undefined;
  assert.equal((await world.run()).progress.moved, 3, 'the next run has them all');
});

for (const code of ['UNAUTHENTICATED', 'TOKEN_EXPIRED'] as const) {
  test(`${code} ends the run: it would be said of every file`, async (t) => {
    const world = new World(t);
    for (const name of ['a', 'b', 'c', 'd']) world.file(name);
    world.onMove = () => {
      throw failure(code);
    };
    await assert.rejects(world.run(), { code });
    assert.ok(world.moves <= 2, `${world.moves} were tried`);
  });
}

for (const [code, reason] of [
  ['INVALID_CIPHERTEXT', 'failed'],
  ['POLICY_DENIED', 'refused'],
  ['PERMISSION_DENIED', 'refused'],
] as const) {
  test(`${code} leaves that file as "${reason}" and goes on with the others`, async (t) => {
    const world = new World(t);
    const [bad, good] = [world.file('bad'), world.file('good')];
    const text = readFileSync(bad, 'utf8');
    world.onMove = (jwe) => {
      if (jwe === text) throw failure(code);
    };
    const { complete, progress } = await world.run();
    assert.deepEqual([complete, progress.moved, progress.failed], [true, 1, 1]);
    assert.deepEqual([versionOf(bad), versionOf(good)], [1, 2]);
    const left = (await world.entries()).find((entry) => entry.t === 'left');
    assert.deepEqual(left, {
      t: 'left',
      run: 1,
      path: bad,
      reason,
      form: 'jwe',
      detail: code,
      code,
      sha256: sha256(text),
    });
  });
}

test('a file that is written while it is moved is left, with what was written', async (t) => {
  const world = new World(t);
  const path = world.file('a');
  world.onMove = () => writeFileSync(path, jweOf(1, 'newer'));
  const { progress } = await world.run();
  assert.deepEqual([progress.moved, progress.failed, contentOf(path)], [0, 1, 'newer']);
  world.onMove = () => undefined;
  assert.equal((await world.run()).progress.moved, 1);
  assert.deepEqual([contentOf(path), versionOf(path)], ['newer', 2]);
});

test('a new ciphertext that is not under the new version never takes the place of the old', async (t) => {
  const world = new World(t);
  const path = world.file('a');
  const real = world.client.bind(world);
  world.client = () => ({ ...real(), reEncrypt: async (jwe: string) => ({ jwe }) }) as unknown as MortiseClient;
  const { progress } = await world.run();
  assert.deepEqual([progress.moved, progress.failed, versionOf(path)], [0, 1, 1]);
  assert.deepEqual(readdirSync(world.data), ['a']);
  assert.ok(!(await world.entries()).some(({ t: kind }) => kind === 'replacing'));
});

test('an interrupted run does not begin new files, and tells nothing of those that it did not finish', async (t) => {
  const world = new World(t);
  for (let at = 0; at < 10; at += 1) world.file(`f${at}`);
  world.onMove = () => world.signal.abort();
  const { complete, progress } = await world.run();
  assert.equal(complete, false);
  assert.ok(progress.moved >= 1 && progress.moved <= 2, `${progress.moved} moved`);
  assert.equal((await world.entries()).filter(({ t: kind }) => kind === 'left').length, 0);
});

/** Where a run can have been killed, as it leaves the folder and the journal. */
const KILLED: readonly { name: string; temporary: boolean; noted: boolean; replaced: boolean; gone?: true }[] = [
  { name: 'before the new file was whole', temporary: true, noted: false, replaced: false },
  { name: 'after the journal has both hashes', temporary: true, noted: true, replaced: false },
  { name: 'after the new file took the place of the old', temporary: false, noted: true, replaced: true },
  { name: 'and the file was taken away since', temporary: false, noted: true, replaced: true, gone: true },
];
for (const { name, temporary, noted, replaced, gone } of KILLED) {
  test(`killed ${name}: the next run finishes it once`, async (t) => {
    const world = new World(t);
    const path = world.file('a');
    const [old, next] = [jweOf(1, 'a'), jweOf(2, 'a')];
    if (temporary) writeFileSync(temporaryOf(path, CAMPAIGN), noted ? next : 'half of i');
    if (replaced) writeFileSync(path, next);
    const journal = await Journal.open(world.journalPath);
    await journal.append({ t: 'begin', version: 1, campaign: CAMPAIGN, tenant: 'acme', options: {}, time: '' });
    await journal.append({ t: 'run', run: 1, time: '', files: 1 });
    const about = {
      form: 'jwe',
      method: 're-encrypt',
      from: ['acme/k/1'],
      to: ['acme/k/2'],
      bytes: next.length,
    } as const;
    if (noted)
      await journal.append({ t: 'replacing', path, ...about, oldSha256: sha256(old), newSha256: sha256(next) });
    await journal.close();
    if (gone) unlinkSync(path);
    const { complete, progress } = await world.run();
    assert.equal(complete, true);
    const moved = (await world.entries()).filter((entry) => entry.t === 'moved');
    if (gone) assert.deepEqual([moved.length, progress.done], [0, 0]);
    else {
      assert.deepEqual(
        [progress.moved, world.moves],
        replaced ? [0, 0] : [1, 1],
        'moved by this run only if not before',
      );
      assert.deepEqual(
        moved.map((entry) => entry.path),
        [path],
      );
      assert.deepEqual([versionOf(path), contentOf(path)], [2, 'a']);
      assert.deepEqual(readdirSync(world.data), ['a']);
    }
    const state = await readJournal(world.journalPath);
    assert.deepEqual([state.pending.size, state.left], [0, gone ? { gone: 1 } : {}]);
  });
}

test('what was moved and written anew by its application since is current, and moved once in the journal', async (t) => {
  const world = new World(t);
  const path = world.file('a');
  await world.run();
  writeFileSync(path, jweOf(2, 'of the application'));
  utimesSync(path, 1, 1);
  const { progress } = await world.run();
  assert.deepEqual([progress.current, world.moves], [1, 1]);
  const kinds = (await world.entries()).map(({ t: kind }) => kind);
  assert.deepEqual(kinds, ['run', 'replacing', 'moved', 'run']);
});

test('associated data is that of the file beside it, before that of all', async (t) => {
  const world = new World(t);
  world.file('a.jwe');
  world.file('a.jwe.aad', 'bound');
  const seen: MoveInput[] = [];
  const move = Mover.prototype.move;
  t.mock.method(Mover.prototype, 'move', function (this: Mover, input: MoveInput) {
    seen.push(input);
    return move.call(this, input);
  });
  await world.run({ aadSuffix: '.aad', associatedData: Buffer.from('of all') });
  assert.deepEqual(
    seen.map(({ associatedData }) => associatedData?.toString()),
    ['bound'],
  );
});

const listOf = (count: number): string => Array.from({ length: count }, (_, at) => `${jweOf(1, `l${at}`)}\n`).join('');
const linesOfFile = (path: string): readonly string[] => readFileSync(path, 'utf8').split('\n');

test('a list of ciphertexts is moved line by line, and what cannot be moved stays where it was', async (t) => {
  const world = new World(t);
  const bad = jweOf(1, 'bad');
  const lines = [jweOf(1, 'a'), '', 'nonsense', `${jweOf(1, 'b')}\r`, bad, jweOf(2, 'there'), jweOf(1, 'last')];
  const path = world.file('list', lines.join('\n'));
  world.onMove = (jwe) => {
    if (jwe === bad) throw failure('INVALID_CIPHERTEXT');
  };
  const { complete, progress } = await world.run();
  assert.deepEqual([complete, progress.moved, progress.failed], [true, 1, 1]);
  const after = [jweOf(2, 'a'), '', 'nonsense', `${jweOf(2, 'b')}\r`, bad, jweOf(2, 'there'), jweOf(2, 'last')];
  assert.deepEqual(linesOfFile(path), after);
  const entries = await world.entries();
  const replaced = entries.find((entry) => entry.t === 'replacing');
  assert.deepEqual(replaced?.lines, { moved: 3, current: 1, left: 1 });
  assert.deepEqual([replaced?.from, replaced?.to], [['acme/k/1'], ['acme/k/2']]);
  const left = entries.find((entry) => entry.t === 'left');
  assert.deepEqual([left?.path, left?.line, left?.reason], [path, 5, 'failed']);
  assert.deepEqual(readdirSync(world.data), ['list']);
  const again = await world.run();
  assert.deepEqual([again.progress.moved, again.progress.failed], [0, 1], 'nothing is left that can be moved');
  assert.deepEqual(linesOfFile(path), after);
});

test('a list that is interrupted goes on behind the lines that are done', async (t) => {
  const world = new World(t);
  const path = world.file('list', listOf(300));
  world.onMove = () => {
    if (world.moves === 200) throw failure('TOKEN_EXPIRED');
  };
  await assert.rejects(world.run(), { code: 'TOKEN_EXPIRED' });
  assert.equal(readFileSync(path, 'utf8'), listOf(300), 'the old file is in place until the new one is whole');
  world.onMove = () => undefined;
  await world.run();
  assert.equal(world.moves, 301, 'the one that failed is the only one that was tried twice');
  assert.equal(
    readFileSync(path, 'utf8'),
    listOf(300).replaceAll(jweOf(1).split('.')[0] as string, jweOf(2).split('.')[0] as string),
  );
});

test('a list that was killed loses what was done since the last checkpoint, and no line', async (t) => {
  const world = new World(t);
  const path = world.file('list', listOf(300));
  const temporary = temporaryOf(path, CAMPAIGN);
  world.onMove = () => {
    if (world.moves === 200) throw failure('TOKEN_EXPIRED');
  };
  await assert.rejects(world.run(), { code: 'TOKEN_EXPIRED' });
  // As a kill leaves it: without the last checkpoint, and with half a line more in the new file.
  const journal = linesOfFile(world.journalPath).slice(0, -2);
  writeFileSync(world.journalPath, `${journal.join('\n')}\n`);
  assert.equal(JSON.parse(journal.at(-1) as string).lines, 192);
  writeFileSync(temporary, `${readFileSync(temporary, 'utf8')}half of`);
  world.onMove = () => undefined;
  await world.run();
  assert.equal(world.moves, 200 + 300 - 192);
  assert.equal(
    readFileSync(path, 'utf8'),
    listOf(300).replaceAll(jweOf(1).split('.')[0] as string, jweOf(2).split('.')[0] as string),
  );
});

test('a list that was written since it was begun is begun anew', async (t) => {
  const world = new World(t);
  const path = world.file('list', listOf(100));
  world.onMove = () => {
    if (world.moves === 90) throw failure('TOKEN_EXPIRED');
  };
  await assert.rejects(world.run(), { code: 'TOKEN_EXPIRED' });
  writeFileSync(path, `${jweOf(1, 'new')}\n${jweOf(1, 'lines')}\n`);
  world.onMove = () => undefined;
  await world.run();
  assert.deepEqual(linesOfFile(path), [jweOf(2, 'new'), jweOf(2, 'lines'), '']);
});
