// The catalogue that decides alone and the one that asks, by one contract.
import type { TestContext } from 'node:test';
import { keyRecordsContract, type RecordsUnderTest } from '../../contract/key-records.ts';
import { FakeCentral } from '../../fakes/central.ts';
import { openWorld } from './world.ts';

const opened = (t: TestContext, central?: FakeCentral): RecordsUnderTest => {
  const world = openWorld(t, central === undefined ? {} : { central });
  return { catalog: () => world.keys.catalog, reopen: () => world.reopen('closed') };
};

keyRecordsContract('decided on here', (t) => opened(t));
keyRecordsContract('decided on by the catalogue of all hosts', (t) => opened(t, new FakeCentral()));
