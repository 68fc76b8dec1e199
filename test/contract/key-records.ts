// What every catalogue of key records keeps to, whoever decides on its changes. Each implementation runs it.
import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import type { Catalog } from '../../agent/keys/catalog.ts';
import type { KeyRecord } from '../../proto/documents/key-record.ts';
import { aRecord, aVersion } from '../support/key-records.ts';

export interface RecordsUnderTest {
  readonly catalog: () => Catalog;
  /** Ends the process in good order and begins another over the same folder. */
  reopen(): Promise<void>;
}

export const keyRecordsContract = (name: string, open: (t: TestContext) => RecordsUnderTest): void => {
  describe(`key records, ${name}`, () => {
    test('are there when the promise resolves, and after a restart', async (t) => {
      const records = open(t);
      const record = aRecord({ labels: { team: 'pay' } });
      await records.catalog().insert(record);
      assert.deepEqual(records.catalog().get('acme', 'invoices'), record);
      await records.reopen();
      assert.deepEqual(records.catalog().get('acme', 'invoices'), record);
      assert.equal(records.catalog().get('globex', 'invoices'), undefined);
    });

    test('of two of one id are one: KEY_EXISTS', async (t) => {
      const { catalog } = open(t);
      const outcomes = await Promise.allSettled([
        catalog().insert(aRecord({ labels: { from: 'a' } })),
        catalog().insert(aRecord({ labels: { from: 'b' } })),
      ]);
      assert.deepEqual(outcomes.map((row) => (row.status === 'fulfilled' ? 'ok' : row.reason.code)).sort(), [
        'KEY_EXISTS',
        'ok',
      ]);
      await assert.rejects(catalog().insert(aRecord()), { code: 'KEY_EXISTS' });
      assert.equal(catalog().get('acme', 'invoices')?.revision, 1);
    });

    test('are replaced by the next revision alone: of two writers one wins', async (t) => {
      const { catalog } = open(t);
      await catalog().insert(aRecord());
      const next = (state: KeyRecord['state']) => catalog().replace(aRecord({ state, revision: 2 }));
      const outcomes = await Promise.allSettled([next('SUSPENDED'), next('REVOKED')]);
      const codes = outcomes.map((row) => (row.status === 'fulfilled' ? 'ok' : row.reason.code));
      assert.deepEqual(codes.sort(), ['KEY_CONFLICT', 'ok']);
      await assert.rejects(catalog().replace(aRecord({ revision: 4 })), { code: 'KEY_CONFLICT' });
      await assert.rejects(catalog().replace(aRecord({ revision: 2 })), { code: 'KEY_CONFLICT' });
      await assert.rejects(catalog().replace(aRecord({ keyId: 'none', revision: 2 })), { code: 'KEY_UNKNOWN' });
    });

    test('tell their watchers of each change once, after it is there', async (t) => {
      const { catalog } = open(t);
      const seen: string[] = [];
      catalog().watch(({ keyId, revision }) => {
        assert.equal(catalog().get('acme', keyId)?.revision, revision);
        seen.push(`${keyId} ${revision}`);
      });
      await catalog().insert(aRecord());
      const versions = [aVersion({ state: 'RETIRED' }), aVersion({ version: 2, tokenId: '11'.repeat(16) })];
      await catalog().replace(aRecord({ versions, revision: 2 }));
      assert.deepEqual(seen, ['invoices 1', 'invoices 2']);
    });

    test('count uses up to a hard limit, and no further', async (t) => {
      const { catalog } = open(t);
      const record = aRecord({ limits: { hardUses: 40 } });
      await catalog().insert(record);
      for (let count = 0; count < 10; count += 1) {
        const outcomes = await Promise.allSettled(Array.from({ length: 7 }, () => catalog().use(record)));
        const made = outcomes.filter(({ status }) => status === 'fulfilled').length;
        assert.equal(made, count < 5 ? 7 : count === 5 ? 5 : 0);
      }
      await assert.rejects(catalog().use(record), { code: 'KEY_LIMIT' });
      assert.equal(catalog().uses('acme', 'invoices'), 40);
    });
  });
};
