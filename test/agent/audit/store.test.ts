import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { Journal, readFrames } from '../../../agent/audit/journal.ts';
import { decodeCheckpointRow, decodeHead, decodeHost } from '../../../agent/audit/rows.ts';
import { AuditStore } from '../../../agent/audit/store.ts';
import { DocumentError } from '../../../proto/documents/canonical.ts';
import { tempFolder } from './fixture.ts';

const limits = { mapSize: 2 ** 30, reserveBytes: 0, journalBytes: 64 * 1024 };
const events = { failed() {}, size() {} };
const put = (name: string, value = name) => ({ key: Buffer.from(`r${name}`), value: Buffer.from(value) });

test('a commit is read back at once, by prefix and in order, before and after it reaches LMDB', async (t) => {
  const store = await AuditStore.open({ path: tempFolder(t), limits, events });
  t.after(() => store.close());
  store.commit([put('b'), put('a')]);
  const look = (): [string, string[]] => [
    String(store.get(Buffer.from('ra'))),
    [...store.keys(Buffer.from('r'))].map(String),
  ];
  assert.deepEqual(look(), ['a', ['ra', 'rb']]);
  await store.flushed();
  assert.deepEqual(look(), ['a', ['ra', 'rb']]);
  store.commit([put('ab', 'x'), put('a', 'new')]);
  assert.deepEqual(look(), ['new', ['ra', 'rab', 'rb']]);
  assert.deepEqual([...store.keys(Buffer.from('ra'), 1)].map(String), ['ra', 'rab']);
});

test('pages of keys merge what LMDB has with what it has not', async (t) => {
  const store = await AuditStore.open({ path: tempFolder(t), limits, events });
  t.after(() => store.close());
  const names = Array.from({ length: 40 }, (_, i) => String(i).padStart(2, '0'));
  store.commit(names.filter((_, i) => i % 3 !== 0).map((name) => put(name)));
  await store.flushed();
  store.commit(names.filter((_, i) => i % 3 === 0).map((name) => put(name)));
  for (const pageSize of [1, 2, 7, 40, 100]) {
    assert.deepEqual(
      [...store.keys(Buffer.from('r'), pageSize)].map(String),
      names.map((name) => `r${name}`),
    );
  }
});

test('a journal gives back whole frames of its nonce and stops at the first that is not', (t) => {
  const path = join(tempFolder(t), 'journal');
  const nonce = randomBytes(8);
  const journal = new Journal(path, 16 * 1024);
  const scratch = Buffer.alloc(16 * 1024);
  for (const sequence of [1, 2, 3]) journal.append(scratch, nonce, { sequence, puts: [put(`k${sequence}`)] });
  journal.close();
  const whole = readFrames(path, nonce);
  assert.deepEqual(
    whole.map(({ sequence, puts }) => [sequence, String(puts[0]?.value)]),
    [
      [1, 'k1'],
      [2, 'k2'],
      [3, 'k3'],
    ],
  );
  assert.deepEqual(readFrames(path, randomBytes(8)), []);
  assert.deepEqual(readFrames(`${path}-none`, nonce), []);

  const bytes = readFileSync(path);
  const frameLength = 24 + 2 + 3 + 4 + 2;
  fc.assert(
    fc.property(fc.nat(frameLength * 3 - 1), fc.integer({ min: 1, max: 255 }), (at, change) => {
      const torn = Buffer.from(bytes);
      torn[at] = (torn[at] as number) ^ change;
      writeFileSync(path, torn);
      assert.deepEqual(readFrames(path, nonce), whole.slice(0, Math.floor(at / frameLength)));
    }),
    { numRuns: 150 },
  );
});

test('a journal cut to any length, or of any bytes, is read without a crash', (t) => {
  const path = join(tempFolder(t), 'journal');
  const nonce = Buffer.alloc(8);
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
      writeFileSync(path, bytes);
      assert.ok(readFrames(path, nonce).length <= bytes.length);
    }),
    { numRuns: 200 },
  );
});

test('rows of any bytes are a DocumentError, not a crash', () => {
  const labels = ['mortise/audit-head/v1\0', 'mortise/audit-host/v1\0', 'mortise/audit-checkpoint/v1\0', ''];
  const rows = fc
    .tuple(
      fc.constantFrom(...labels),
      fc.array(fc.string({ maxLength: 8 }), { maxLength: 6 }),
      fc.uint8Array({ maxLength: 120 }),
    )
    .map(([label, fields, tail]) => {
      const parts = fields.map((field) => {
        const bytes = Buffer.from(field);
        const length = Buffer.alloc(4);
        length.writeUInt32BE(bytes.length);
        return Buffer.concat([length, bytes]);
      });
      return Buffer.concat([Buffer.from(label), ...parts, tail]);
    });
  fc.assert(
    fc.property(rows, fc.constantFrom(decodeHead, decodeHost, decodeCheckpointRow), (bytes, decode) => {
      try {
        decode(bytes);
      } catch (error) {
        if (!(error instanceof DocumentError)) throw error;
      }
    }),
    { numRuns: 3000 },
  );
});
