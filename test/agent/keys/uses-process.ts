// Uses the key acme/invoices and tells of every use, several at a time, until it is refused, killed, or has done as many
// as it may: a reader that is slow to kill must not find the whole limit used up by one process.
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

const most = Number(process.argv[3]);
let taken = 0;

const tell = (line: string): Promise<void> =>
  new Promise((resolve) => {
    process.stdout.write(`${line}\n`, () => resolve());
  });

const useOnAndOn = async (): Promise<void> => {
  while (taken < most) {
    taken += 1;
    try {
      await keys.catalog.use(record);
    } catch (error) {
      return tell((error as { code: string }).code);
    }
    await tell('used');
  }
};

await Promise.all([useOnAndOn(), useOnAndOn(), useOnAndOn()]);
setInterval(() => {}, 1000); // until it is killed
