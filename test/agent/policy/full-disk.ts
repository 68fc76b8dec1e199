// Run by store.test.ts under a limit on the size of files: opens the policy, reloads it for each line of its input, and
// says each time what came of it.
import { createHmac } from 'node:crypto';
import { createInterface } from 'node:readline';
import { openPolicy } from '../../../agent/policy/policy.ts';
import { encrypt, NOW, outcome } from './room.ts';

const [dir, dataDir] = process.argv.slice(2) as [string, string];
const ignore = (): void => undefined;
const policy = await openPolicy({
  dir,
  dataDir,
  mac: async (data) => createHmac('sha256', 'key').update(data).digest(),
  record: async () => undefined,
  clock: { now: () => NOW },
  events: {
    adopted: ignore,
    refused: ignore,
    anchorPinned: ignore,
    storeFailed: ignore,
    reloaded: ignore,
    recordFailed: ignore,
  },
  reloadIntervalMs: 0,
});

const say = (): void => {
  const problems = policy.problems().map(({ subject, code }) => `${subject} ${code}`);
  const version = policy.status('acme').policies[0]?.version;
  process.stdout.write(`${JSON.stringify({ problems, version, decision: outcome(policy, encrypt('acme')) })}\n`);
};

say();
for await (const _line of createInterface({ input: process.stdin })) {
  await policy.reload();
  say();
}
await policy.close();
