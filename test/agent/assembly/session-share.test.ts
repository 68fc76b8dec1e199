// This host's share of a token's sessions: nothing is said to be closed that may be open, and nothing outlives its lease.
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { readShare } from '../../../agent/assembly/remembered-share.ts';
import { type LimitedToken, SessionShare } from '../../../agent/assembly/session-share.ts';
import { temporaryFolder } from '../../support/folder.ts';

const LEASE_SECONDS = 60;
const answer = (share: number, grant: number) => ({ share, grant, leaseSeconds: LEASE_SECONDS, total: 20, hosts: 2 });

/** A token whose surplus closes when the test says so. */
class SlowToken implements LimitedToken {
  readonly limits: (number | undefined)[] = [];
  restarted = 0;
  #pending: (() => void)[] = [];
  info() {
    return { label: 'hsm', serial: '4711' };
  }
  limitSessions(most: number | undefined): Promise<void> {
    this.limits.push(most);
    return new Promise((resolve) => this.#pending.push(resolve));
  }
  restartProcess(): void {
    this.restarted += 1;
  }
  async close(): Promise<void> {
    for (const resolve of this.#pending.splice(0)) resolve();
    await Promise.resolve();
    await Promise.resolve();
  }
}

const make = (t: TestContext, { dir = temporaryFolder(t), fallback = 2 } = {}) => {
  t.mock.timers.enable({ apis: ['setInterval', 'setTimeout'] });
  const clock = {
    ms: 1_000_000,
    now() {
      return this.ms;
    },
  };
  const told: string[] = [];
  const token = new SlowToken();
  const share = new SessionShare({
    ...{ name: 'default', pool: 10, fallback, file: join(dir, 'token-sessions'), clock, token: () => token },
    events: {
      sessionShare: (event) => void told.push(event === undefined ? 'none' : `share ${event.share}`),
      sessionLeaseEnded: ({ fallback: kept }) => void told.push(`ended ${kept}`),
    },
  });
  t.after(() => share.close());
  const pass = (ms: number): void => {
    clock.ms += ms;
    t.mock.timers.tick(1_000);
  };
  return { share, token, clock, told, dir, pass, held: () => share.question()?.held };
};

test('a larger share is held at once, a smaller one when the sessions above it are closed', async (t) => {
  const { share, token, told, held, clock } = make(t);
  assert.deepEqual([share.limit, held()], [2, 2], 'until the registry has answered');
  share.answered(answer(9, 1), clock.now());
  assert.deepEqual([share.limit, held(), share.question()?.grant], [9, 9, 1]);
  await token.close();
  share.answered(answer(4, 2), clock.now());
  assert.deepEqual([share.limit, held()], [4, 9]);
  await token.close();
  assert.equal(held(), 4);
  assert.deepEqual(token.limits, [9, 4]);
  assert.deepEqual(told, ['share 9', 'share 4']);
  assert.equal(share.describe(), "4 sessions of the registry's budget of 20 for 2 hosts");
});

test('the last share is used as long as its lease runs, then the fallback, until the registry answers', async (t) => {
  const { share, token, told, held, clock, pass } = make(t);
  share.answered(answer(9, 1), clock.now());
  await token.close();
  pass(LEASE_SECONDS * 1000 - 1);
  assert.equal(share.limit, 9);
  pass(1);
  assert.deepEqual([share.limit, held(), told.at(-1)], [2, 9, 'ended 2']);
  assert.match(share.describe() ?? '', /the lease of sessions is over, 2 are kept/);
  await token.close();
  assert.equal(held(), 2);
  share.answered(answer(9, 2), clock.now());
  assert.deepEqual([share.limit, held()], [9, 9]);
});

test('a lease is counted from when it was asked for', async (t) => {
  const { share, token, clock, pass } = make(t);
  const asked = clock.now();
  clock.ms += 20_000;
  share.answered(answer(9, 1), asked);
  await token.close();
  pass(LEASE_SECONDS * 1000 - 20_000);
  assert.equal(share.limit, 2);
});

test('sessions that stay busy after the lease are ended with their process', async (t) => {
  const { share, token, clock, pass } = make(t);
  share.answered(answer(9, 1), clock.now());
  await token.close();
  pass(LEASE_SECONDS * 1000);
  pass(0);
  pass(0);
  assert.equal(token.restarted, 0);
  pass(0);
  assert.equal(token.restarted, 1);
});

test('with a fallback of nothing, and with a share of nothing, the token is left', async (t) => {
  const { share, token, clock, dir, pass } = make(t, { fallback: 0 });
  share.answered(answer(9, 1), clock.now());
  await token.close();
  pass(LEASE_SECONDS * 1000);
  assert.equal(share.limit, 0);
  share.answered(answer(0, 2), clock.now());
  assert.equal(share.limit, 0);
  const file = join(dir, 'token-sessions');
  assert.deepEqual(readShare(file), { limited: true, share: 0, total: 20, hosts: 2 });
  writeFileSync(file, '{"limited":true}');
  assert.equal(readShare(file), undefined, 'a damaged file is as none');
  assert.match(share.describe() ?? '', /no sessions for this host: .*too small for all/);
});

test('a token without a budget goes by its own setting, also after a start without the registry', async (t) => {
  const first = make(t);
  first.share.answered(undefined, first.clock.now());
  assert.equal(first.share.limit, undefined);
  assert.equal(first.share.describe(), undefined);
  t.mock.timers.reset();
  const second = make(t, { dir: first.dir });
  assert.equal(second.share.limit, undefined);
  second.share.answered(answer(5, 1), second.clock.now());
  assert.deepEqual([second.share.limit, second.held()], [5, 11], 'as much as its own setting allowed');
  second.share.answered(undefined, second.clock.now());
  assert.deepEqual(second.told, ['share 5', 'none']);
  second.share.answered(answer(5, 1), second.clock.now());
  t.mock.timers.reset();
  assert.equal(make(t, { dir: first.dir }).share.limit, 2);
});

test('behind the question by which a host leaves nothing is asked', (t) => {
  const { share } = make(t);
  share.answered(answer(4, 1), 1_000_000);
  assert.equal(share.leave()?.grant, 1);
  assert.equal(share.question(), undefined);
});
