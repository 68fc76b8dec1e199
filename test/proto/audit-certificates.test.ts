// Certificates as they were stated over records: told as recorded, and never more than the records say.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { StatedCertificates } from '../../proto/documents/audit-certificates.ts';

const aRecord = (at: number, change: object = {}) => ({
  operation: 'encrypt',
  time: `2026-11-24T00:00:00.${String(at).padStart(6, '0')}Z`,
  eventId: `h-1/1/${at}`,
  detail: '',
  ...change,
});
const aStart = (at: number, detail: string) => aRecord(at, { operation: 'agent-start', detail });

test('a statement goes on over starts that repeat it, and ends with one that does not', () => {
  const stated = new StatedCertificates();
  const said = JSON.stringify({ certificates: { t: 'C, FIPS 140-3 level 3, active, until 2029-01-01' } });
  for (const record of [aStart(0, said), aRecord(1), aStart(2, said), aRecord(3), aStart(4, '{}'), aRecord(5)]) {
    stated.add(record);
  }
  const [row, ...more] = stated.report();
  assert.deepEqual([row?.from.slice(-4, -1), row?.to.slice(-4, -1), row?.warning, more], ['000', '004', '', []]);
});

test('records before the first start of the range say nothing, and a detail that was cut off neither', () => {
  const stated = new StatedCertificates();
  for (const record of [aRecord(0), aStart(1, '{"certificates":{"t":"C, F'), aStart(2, '{"certificates":{"t":7}}')]) {
    stated.add(record);
  }
  assert.deepEqual(stated.report(), []);
});

test('no detail of a start, whatever it is, makes it throw or grow without bound', () => {
  fc.assert(
    fc.property(fc.array(fc.oneof(fc.string(), fc.json()), { maxLength: 20 }), (details) => {
      const stated = new StatedCertificates();
      for (const [at, detail] of details.entries()) stated.add(aStart(at, detail));
      assert.ok(stated.report().length <= 1000);
    }),
  );
  const many = new StatedCertificates();
  const certificates = Object.fromEntries(Array.from({ length: 1500 }, (_, at) => [`t-${at}`, 'x']));
  many.add(aStart(0, JSON.stringify({ certificates })));
  assert.equal(many.report().length, 1000);
  assert.ok(many.report().every(({ warning }) => warning !== ''));
});
