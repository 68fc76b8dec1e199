// A hard limit over many hosts: whatever crashes, and whichever answers are lost, it is never exceeded.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { UseLeases } from '../../../agent/keys/leases.ts';
import { encodeKeyRecord } from '../../../proto/documents/key-record-parse.ts';
import { FakeCentral } from '../../fakes/central.ts';
import { aRecord, aVersion } from '../../support/key-records.ts';

const limited = (hardUses: number) => aRecord({ limits: { hardUses } });

const setUp = async (hardUses: number): Promise<FakeCentral> => {
  const central = new FakeCentral();
  const record = limited(hardUses);
  await central.putRecord(record, encodeKeyRecord(record));
  return central;
};

test('uses of many hosts together never exceed the limit, and crashes only forfeit', async () => {
  const step = fc.record({
    host: fc.integer({ min: 0, max: 2 }),
    what: fc.constantFrom('use', 'use', 'use', 'burst', 'crash', 'close', 'lose', 'down'),
  });
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 1, max: 200 }), fc.array(step, { maxLength: 120 }), async (hardUses, steps) => {
      const central = await setUp(hardUses);
      const record = limited(hardUses);
      const hosts = Array.from({ length: 3 }, () => new UseLeases({ central }));
      let made = 0;
      const use = async (host: UseLeases): Promise<void> => {
        const uses = await host.use(record).catch(() => undefined);
        if (uses === undefined) return;
        made += 1;
        assert.ok(uses >= 1 && uses <= hardUses);
      };
      for (const { host, what } of steps) {
        const leases = hosts[host] as UseLeases;
        central.losesAnswers = what === 'lose';
        central.down = what === 'down';
        if (what === 'burst') await Promise.all(Array.from({ length: 9 }, () => use(leases)));
        else if (what === 'crash') hosts[host] = new UseLeases({ central });
        else if (what === 'close') await leases.giveBack();
        else await use(leases);
        assert.ok(made <= hardUses, `${made} of ${hardUses}`);
      }
    }),
    { numRuns: 60 },
  );
});

test('hosts that end in good order make every use of the limit', async () => {
  const central = await setUp(100);
  const record = limited(100);
  let made = 0;
  for (let host = 0; host < 40; host += 1) {
    const leases = new UseLeases({ central });
    for (let count = 0; count < 3; count += 1) {
      await leases.use(record).then(
        () => {
          made += 1;
        },
        () => undefined,
      );
    }
    await leases.giveBack();
  }
  assert.equal(made, 100);
});

test('a lease whose answer was lost is asked for again by its id, and not granted twice', async () => {
  const central = await setUp(160);
  const leases = new UseLeases({ central });
  central.losesAnswers = true;
  await assert.rejects(leases.use(limited(160)), { code: 'REGISTRY_UNAVAILABLE' });
  central.losesAnswers = false;
  assert.equal(await leases.use(limited(160)), 1);
  assert.equal(central.leased.get('acme/invoices/1'), 10);
});

test('who waits for a slice shares it, and one that is too small is followed by another', async () => {
  const central = await setUp(40);
  const leases = new UseLeases({ central });
  const uses = await Promise.all(Array.from({ length: 12 }, () => leases.use(limited(40))));
  assert.equal(new Set(uses).size, 12);
  assert.equal(leases.usesOf('acme', 'invoices'), Math.max(...uses));
});

test('a rotation gives the rest of the old slice back, and begins anew', async () => {
  const central = await setUp(1600);
  const leases = new UseLeases({ central });
  await leases.use(limited(1600));
  assert.equal(central.leased.get('acme/invoices/1'), 100);
  const versions = [aVersion({ state: 'RETIRED' }), aVersion({ version: 2, tokenId: '11'.repeat(16) })];
  const rotated = aRecord({ limits: { hardUses: 1600 }, versions, revision: 2 });
  leases.keyChanged(rotated);
  await leases.use(rotated);
  assert.equal(central.leased.get('acme/invoices/1'), 1);
  assert.equal(leases.usesOf('acme', 'invoices'), 1);
});
