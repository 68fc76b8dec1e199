// The loop over a log and a receiver: order, positions on disk, failures of either side, and the end.
import assert from 'node:assert/strict';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { DeliveryError, type Destination } from '../../../clients/cli/forward/destination.ts';
import { checkLog, type ForwardInput, forward } from '../../../clients/cli/forward/forwarder.ts';
import { type ForwardState, readState } from '../../../clients/cli/forward/state-file.ts';
import { temporaryFolder } from '../../support/folder.ts';
import { MemoryLog, record } from './support.ts';

const START: ForwardState = { tenant: 'acme', destination: 'memory', next: 0, lastEventId: '' };

class MemoryDestination implements Destination {
  readonly name = 'memory';
  readonly batch = 3;
  readonly taken: number[][] = [];
  /** What the next deliveries end with, before they are taken. */
  readonly failures: Error[] = [];
  readonly #waiting: { readonly count: number; readonly resolve: () => void }[] = [];

  async deliver(records: Parameters<Destination['deliver']>[0]): Promise<void> {
    const failure = this.failures.shift();
    if (failure !== undefined) throw failure;
    this.taken.push(records.map(({ index }) => index));
    for (const { count, resolve } of this.#waiting) if (this.taken.flat().length >= count) resolve();
  }

  has(count: number): Promise<void> {
    return new Promise((resolve) => this.#waiting.push({ count, resolve }));
  }

  close(): void {}
}

const setUp = (t: TestContext, change: Partial<ForwardInput> = {}) => {
  const log = new MemoryLog();
  const destination = new MemoryDestination();
  const statePath = join(temporaryFolder(t), 'state');
  const waits: string[] = [];
  const stop = new AbortController();
  const input: ForwardInput = {
    audit: log,
    destination,
    statePath,
    state: START,
    once: true,
    signal: stop.signal,
    firstWaitMs: 1,
    events: { delivered: () => undefined, waiting: ({ why }) => void waits.push(why) },
    ...change,
  };
  return { log, destination, statePath, waits, stop, input };
};

test('everything that is there is delivered in order, in batches, and the position is on disk', async (t) => {
  const { log, destination, statePath, input } = setUp(t);
  log.append(...Array.from({ length: 8 }, (_, index) => record(index)));
  assert.equal(await forward(input), 8);
  assert.deepEqual(destination.taken, [
    [0, 1, 2],
    [3, 4, 5],
    [6, 7],
  ]);
  assert.equal(statSync(statePath).mode & 0o777, 0o600);
  const state = await readState(statePath);
  assert.deepEqual([state?.next, state?.lastEventId], [8, 'host-a/1764000000/7']);
  log.append(record(8));
  assert.equal(await forward({ ...input, state: state as ForwardState }), 9);
  assert.deepEqual(destination.taken.at(-1), [8]);
});

test('the end is where the log ended at first: its own reading does not prolong it', async (t) => {
  const { log, destination, input } = setUp(t);
  log.append(record(0), record(1));
  const read = log.records.bind(log);
  log.records = (query) => {
    const page = read(query);
    log.append(record(log.all.length));
    return page;
  };
  assert.equal(await forward(input), 2);
  assert.deepEqual(destination.taken.flat(), [0, 1]);
});

test('what was not taken is delivered again, whole, and nothing overtakes it', async (t) => {
  const { log, destination, waits, input } = setUp(t);
  log.append(...Array.from({ length: 5 }, (_, index) => record(index)));
  destination.failures.push(
    new DeliveryError('busy', { retryable: true }),
    new DeliveryError('gone', { retryable: true }),
  );
  await forward(input);
  assert.deepEqual(waits, ['busy', 'gone']);
  assert.deepEqual(destination.taken, [
    [0, 1, 2],
    [3, 4],
  ]);
});

test('a refusal ends it with the position, and leaves that position for the next time', async (t) => {
  const { log, destination, statePath, input } = setUp(t);
  log.append(...Array.from({ length: 5 }, (_, index) => record(index)));
  const taken = destination.deliver.bind(destination);
  destination.deliver = async (records) => {
    if (records[0]?.index === 3) throw new DeliveryError('mapping', { retryable: false });
    await taken(records);
  };
  await assert.rejects(forward(input), { exit: 'failure', message: /from position 3 on: mapping/ });
  assert.equal((await readState(statePath))?.next, 3);
});

test('with --once a receiver that stays away ends it as unavailable', async (t) => {
  const { log, destination, input } = setUp(t);
  log.append(record(0));
  for (let i = 0; i < 5; i += 1) destination.failures.push(new DeliveryError('down', { retryable: true }));
  await assert.rejects(forward(input), { exit: 'retryable', message: /not delivered from position 0 on: down/ });
});

test('it follows the log, over failures of the agent that pass, until the signal', async (t) => {
  const { log, destination, waits, stop, statePath, input } = setUp(t, { once: false });
  log.failure = Object.assign(new Error('the agent restarts'), { retryable: true });
  const two = destination.has(2);
  const running = forward(input);
  log.append(record(0), record(1));
  await two;
  const three = destination.has(3);
  log.append(record(2));
  await three;
  stop.abort();
  assert.equal(await running, 3);
  assert.deepEqual(waits, ['the agent restarts']);
  assert.equal((await readState(statePath))?.next, 3);
});

test('a failure of the agent that does not pass ends it', async (t) => {
  const { log, input } = setUp(t, { once: false });
  log.failure = Object.assign(new Error('no scope audit.read'), { retryable: false });
  await assert.rejects(forward(input), /no scope audit.read/);
});

test('a log that was begun anew, or taken back, is not gone on with', async (t) => {
  const { log } = setUp(t);
  log.append(record(0), record(1));
  const state = { ...START, next: 2, lastEventId: 'host-a/1764000000/1' };
  await checkLog(log, state);
  await assert.rejects(checkLog(log, { ...state, lastEventId: 'host-a/1700000000/1' }), /begun anew or taken back/);
  await assert.rejects(checkLog(log, { ...state, next: 9 }), /begun anew or taken back/);
});

test('a state file that is not one is refused and left alone', async (t) => {
  const path = join(temporaryFolder(t), 'state');
  assert.equal(await readState(path), undefined);
  for (const text of [
    '',
    '{}',
    '{"format":"mortise.forward/1","tenant":"a","destination":"d","next":-1,"lastEventId":""}',
  ]) {
    writeFileSync(path, text);
    await assert.rejects(readState(path), { exit: 'failure', message: /is not a state file of this command/ });
    assert.equal(readFileSync(path, 'utf8'), text);
  }
});
