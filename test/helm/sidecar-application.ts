// The application of the sidecar's test: finds the agent as the chart tells it to, waits for it, and then signs without
// end. Every answer is a line on standard output; nothing that fails is hidden.
import { setTimeout as sleep } from 'node:timers/promises';
import { connect, TokenFile } from '../../clients/typescript/index.ts';

const say = (line: object): void => void process.stdout.write(`${JSON.stringify(line)}\n`);
const PAUSE_MS = 20;

say({ started: true });
const client = connect({
  token: new TokenFile(process.env['MORTISE_TOKEN_FILE'] ?? ''),
  deadlineMs: 60_000,
  retry: { maxAttempts: 1000, maxDelayMs: 100 },
});
try {
  const { tenant, principal } = await client.whoAmI();
  say({ tenant, principal });
  await client.keys.create({ keyId: 'orders', purpose: 'sign', algorithm: 'EC-P256' });
  for (let order = 1; ; order += 1) {
    await client.sign('orders', { message: Buffer.from(`order ${order}`) });
    say({ signed: order });
    await sleep(PAUSE_MS);
  }
} catch (error) {
  say({ failed: String(error) });
  process.exitCode = 1;
} finally {
  client.close();
}
