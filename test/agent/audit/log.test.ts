import assert from 'node:assert/strict';
import { test } from 'node:test';
import { verifyStore } from '../../../agent/audit/verify.ts';
import { encodeAuditRecord } from '../../../proto/documents/audit-record.ts';
import { verifyCheckpoint } from '../../../proto/documents/checkpoint.ts';
import { leafHash, rootOf } from '../../../proto/documents/merkle.ts';
import { appendMany, createToken, entry, openLog, tempFolder } from './fixture.ts';

test('keeps what was appended, in order, over a restart', async (t) => {
  const path = tempFolder(t);
  const token = createToken();
  const first = await openLog(t, { path, token });
  assert.equal(first.created, true);
  await appendMany(first, 'acme', 40);
  await first.append(entry('globex', 1, { principal: 'Grüße-\u{1f511}', detail: {} }));
  await first.close();

  const second = await openLog(t, { path, token });
  assert.equal(second.created, false);
  assert.equal(second.size('acme'), 40);
  await appendMany(second, 'acme', 3);
  const records = await second.list('acme', { limit: 1000 });
  assert.deepEqual(
    records.map(({ index, record }) => [index, record.correlationId]),
    Array.from({ length: 43 }, (_, i) => [i, `c-${i < 40 ? i : i - 40}`]),
  );
  const epochs = new Set(records.map(({ record }) => Number(record.eventId.split('/')[1])));
  assert.equal(epochs.size, 2);
  assert.equal((await second.list('globex', { limit: 1 }))[0]?.record.principal, 'Grüße-\u{1f511}');
  const checkpoint = await second.checkpoint('acme');
  const leaves = records.map(({ record, mac }) => leafHash(Buffer.concat([encodeAuditRecord(record), mac])));
  assert.deepEqual(verifyCheckpoint(checkpoint.text, token.publicJwk), {
    origin: checkpoint.text.split('\n')[0],
    size: 43,
    root: rootOf(leaves),
  });
  const found = await second.verify('acme', checkpoint.text);
  assert.deepEqual([found.intact, found.macsVerified, found.findings], [true, true, []]);
  await second.close();
  const offline = await verifyStore({ path, unwrap: (a, b) => token.unwrap(a, b), checkpointKey: token.publicJwk });
  assert.deepEqual(offline.findings, []);
  assert.deepEqual(
    offline.tenants.map(({ tenant, size }) => [tenant, size]),
    [
      ['acme', 43],
      ['globex', 1],
    ],
  );
});
