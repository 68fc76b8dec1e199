// Shares of tokens' sessions as they are asked for: each token by itself.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Client, Metadata, type ServiceError, status } from '@grpc/grpc-js';
import type { SharedToken } from '../../../agent/uplink/ports.ts';
import { shareFeeds } from '../../../agent/uplink/session-feed.ts';
import type { LeaseSessionsResponse } from '../../../proto/gen/mortise/registry/v1/sessions.ts';

const GRANTED: LeaseSessionsResponse = {
  ...{ limited: true, share: 4, grant: 1n, leaseSeconds: 60, renewSeconds: 20, total: 8, hosts: 2 },
};

/** Refuses the questions about one token, and answers all others when the test says so. */
const registry = (refused: string) => {
  const held: (() => void)[] = [];
  const cancelled: string[] = [];
  const makeUnaryRequest: Client['makeUnaryRequest'] = ((...args: unknown[]) => {
    const { name } = args[3] as { name: string };
    const done = args.at(-1) as (error: ServiceError | null, answer?: LeaseSessionsResponse) => void;
    if (name === refused) {
      const error = Object.assign(new Error('no such label'), {
        code: status.INVALID_ARGUMENT,
        details: '',
        metadata: new Metadata(),
      });
      setImmediate(done, error);
    } else held.push(() => done(null, GRANTED));
    return { cancel: () => void cancelled.push(name) };
  }) as never;
  return { client: { makeUnaryRequest } as unknown as Client, held, cancelled };
};

const token = (name: string) => {
  const answered = Promise.withResolvers<number>();
  const shared: SharedToken = {
    ...{ isLimited: false, now: () => 0, leave: () => undefined },
    question: () => ({ label: 'hsm', serial: '', name, held: 2, grant: 0, wanted: 4, fallback: 2 }),
    answered: (answer) => answered.resolve(answer?.share ?? 0),
  };
  return { shared, answered: answered.promise };
};

test('a token that the registry refuses keeps no other one from its share', async () => {
  const { client, held, cancelled } = registry('odd');
  const [odd, fine] = [token('odd'), token('fine')];
  const end = new AbortController();
  const [ofOdd, ofFine] = shareFeeds([odd.shared, fine.shared]).map(({ run }) => run(client, end.signal));
  await assert.rejects(ofOdd as Promise<void>);
  assert.deepEqual([held.length, cancelled], [1, []], 'the question about the other one is under way');
  held[0]?.();
  assert.equal(await fine.answered, 4);
  end.abort();
  await ofFine;
});
