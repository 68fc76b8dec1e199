import assert from 'node:assert/strict';
import { test } from 'node:test';
import { connect } from '../../clients/typescript/index.ts';
import { agentFailure, StubAgent } from './stub-agent.ts';

const record = (index: number) => ({
  index: BigInt(index),
  tenant: 'acme',
  principal: 'p',
  key: '-',
  algorithm: '-',
  operation: 'who-am-i',
  outcome: 'ok',
  time: '2026-11-24T08:00:00.000001Z',
  correlationId: 'c',
  eventId: `h/1/${index}`,
  detail: '',
  canonical: Buffer.alloc(1),
  mac: Buffer.alloc(32),
});

/** The first `count` positions that a tail gives. */
const take = async (tail: AsyncIterable<{ index: number }>, count: number): Promise<number[]> => {
  const seen: number[] = [];
  for await (const { index } of tail) {
    seen.push(index);
    if (seen.length === count) break;
  }
  return seen;
};

test('tail gives records in order, and leaving the loop cancels the call', async () => {
  await using agent = await new StubAgent().start();
  agent.answers['tailRecords'] = ({ request, write, cancelled }) => {
    assert.equal(request.from, 3n);
    write({ records: [record(3), record(4)] });
    write({ records: [record(5)] });
    return cancelled;
  };
  using client = connect({ socketPath: agent.socketPath });
  assert.deepEqual(await take(client.audit.tail({ from: 3 }), 3), [3, 4, 5]);
  await agent.calls[0]?.cancelled;
});

test('without a position tail begins with what is new', async () => {
  await using agent = await new StubAgent().start();
  agent.answers['listRecords'] = () => ({ records: [record(41)], size: 42n });
  agent.answers['tailRecords'] = ({ request, write, cancelled }) => {
    write({ records: [record(Number(request.from))] });
    return cancelled;
  };
  using client = connect({ socketPath: agent.socketPath });
  assert.deepEqual(await take(client.audit.tail(), 1), [42]);
});

test('tail goes on where it was after failures, ends of streams and a restart, each record once', async () => {
  await using agent = await new StubAgent().start();
  const turns: ((from: number, write: (message: unknown) => void, cancelled: Promise<void>) => unknown)[] = [
    (from, write) => write({ records: [record(from), record(from + 1)] }), // the stream ends
    () => {
      throw agentFailure('HSM_UNAVAILABLE');
    },
    (from, write) => {
      write({ records: [record(from)] });
      throw agentFailure('SHUTTING_DOWN');
    },
    (from, write, cancelled) => {
      write({ records: [record(from)] });
      return cancelled;
    },
    (from, write, cancelled) => {
      write({ records: [record(from)] });
      return cancelled;
    },
  ];
  agent.answers['tailRecords'] = ({ request, write, cancelled }) =>
    turns.shift()?.(Number(request.from), write, cancelled);
  using client = connect({ socketPath: agent.socketPath, retry: { initialDelayMs: 1 } });
  const seen: number[] = [];
  for await (const { index } of client.audit.tail({ from: 0 })) {
    seen.push(index);
    if (index === 3) {
      agent.kill();
      await agent.start();
    }
    if (index === 4) break;
  }
  assert.deepEqual(seen, [0, 1, 2, 3, 4]);
  assert.equal(turns.length, 0);
});

test('tail ends quietly at its own deadline', async () => {
  await using agent = await new StubAgent().start();
  agent.answers['tailRecords'] = ({ request, write, cancelled }) => {
    write({ records: [record(Number(request.from))] });
    return cancelled;
  };
  using client = connect({ socketPath: agent.socketPath });
  assert.deepEqual(await take(client.audit.tail({ from: 0, deadlineMs: 150 }), 1000).then((seen) => seen[0]), 0);
});

test('an abort ends tail with CANCELLED', async () => {
  await using agent = await new StubAgent().start();
  const abort = new AbortController();
  agent.answers['tailRecords'] = ({ write, cancelled }) => {
    write({ records: [record(0)] });
    return cancelled;
  };
  using client = connect({ socketPath: agent.socketPath });
  const tail = client.audit.tail({ from: 0, signal: abort.signal });
  assert.equal((await tail.next()).value?.index, 0);
  const waiting = tail.next();
  abort.abort();
  await assert.rejects(waiting, { code: 'CANCELLED' });
});

test('a refusal ends tail at once; an expired token is renewed once', async () => {
  await using agent = await new StubAgent().start();
  agent.answers['tailRecords'] = () => {
    throw agentFailure('PERMISSION_DENIED');
  };
  using client = connect({ socketPath: agent.socketPath });
  await assert.rejects(take(client.audit.tail({ from: 0 }), 1), { code: 'PERMISSION_DENIED' });
  assert.equal(agent.calls.length, 1);
  agent.answers['tailRecords'] = ({ metadata, write, cancelled }) => {
    if (metadata.get('authorization')[0] === 'Bearer t1') throw agentFailure('TOKEN_EXPIRED');
    write({ records: [record(0)] });
    return cancelled;
  };
  let runs = 0;
  const token = () => {
    runs += 1;
    return `t${runs}`;
  };
  using renewing = connect({ socketPath: agent.socketPath, token, retry: { initialDelayMs: 1 } });
  assert.deepEqual(await take(renewing.audit.tail({ from: 0 }), 1), [0]);
  assert.equal(runs, 2);
});
