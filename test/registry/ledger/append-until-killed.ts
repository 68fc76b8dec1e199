// Child of the kill test: hands in to a ledger as fast as it can, and prints each size once it was acknowledged.
import { writeSync } from 'node:fs';
import { openLmdbStore } from '../../../registry/store/lmdb/store.ts';
import { LedgerHost } from '../../support/ledger-host.ts';
import { enrol, ledgerOver, streamOf } from './fixture.ts';

const [path = '', epoch = ''] = process.argv.slice(2);
const store = openLmdbStore({ path, events: { failed: () => undefined, reconnected: () => undefined } });
await enrol(store);
const host = new LedgerHost({ epoch: Number(epoch) });
const { session } = await streamOf(ledgerOver(store), host);
for (let from = 0; ; from = host.records.length) {
  host.fill(37);
  const answer = await session.batch(host.batch(from, host.records.length, [await host.checkpoint()]));
  if (answer?.kind !== 'acknowledged') throw new Error(JSON.stringify(answer));
  writeSync(1, `${answer.size}\n`);
}
