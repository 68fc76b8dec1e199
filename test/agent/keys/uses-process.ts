// Uses the key acme/invoices and tells of every use, several at a time, until it is refused or killed.
import { systemClock } from '../../../agent/clock.ts';
import { openKeys } from '../../../agent/keys/keys.ts';
import { FakeToken } from '../../fakes/token.ts';
import { TEST_SEALING_KEY } from '../../support/sealing-key.ts';

const keys = openKeys({
  path: process.argv[2] as string,
  kekLabelPrefix: 'test:kek',
  clock: systemClock,
  token: new FakeToken(),
  audit: { append: async () => {} },
  events: new Proxy({}, { get: () => () => {} }) as Parameters<typeof openKeys>[0]['events'],
});
keys.unlock(TEST_SEALING_KEY);
const record = keys.catalog.get('acme', 'invoices');
if (record === undefined) throw new Error('the key is missing');

const tell = (line: string): Promise<void> =>
  new Promise((resolve) => {
    process.stdout.write(`${line}\n`, () => resolve());
  });

const useForEver = async (): Promise<void> => {
  for (;;) {
    try {
      await keys.catalog.use(record);
    } catch (error) {
      return tell((error as { code: string }).code);
    }
    await tell('used');
  }
};

await Promise.all([useForEver(), useForEver(), useForEver()]);
setInterval(() => {}, 1000); // until it is killed
