// The chunks of containers as the client makes and opens them: with nothing but the keys of one message, on Wycheproof's
// vectors.
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { inflateSync } from 'node:zlib';
import { chunkKeysOf } from '../../proto/documents/chunked/chunks.ts';
import { PREFIX_BYTES } from '../../proto/documents/chunked/layout.ts';
import { ChunkOpener } from '../../proto/documents/chunked/opener.ts';
import { ChunkSealer } from '../../proto/documents/chunked/sealer.ts';

interface WycheproofCase {
  readonly tcId: number;
  readonly comment: string;
  readonly ct: string;
  readonly aeadKey?: string;
  readonly baseNonce?: string;
  readonly msgLength?: number;
  readonly msgSha512?: string;
  readonly result: 'valid' | 'invalid';
  readonly flags: readonly string[];
}

const hex = (text: string): Buffer => Buffer.from(text, 'hex');
const REFUSED = 'refused';
const refusal = (): Error => new Error(REFUSED);
const { testGroups } = JSON.parse(
  readFileSync(join(import.meta.dirname, '../vectors/chunked/wycheproof.json'), 'utf8'),
) as { testGroups: { tests: WycheproofCase[] }[] };

/** Cases that come as far as their chunks: what is wrong in front of them the agent finds, and gives no key. */
const CASES = testGroups
  .flatMap(({ tests }) => tests)
  .flatMap(({ aeadKey, baseNonce, ...row }) =>
    aeadKey === undefined || baseNonce === undefined || row.flags.includes('HeaderFailure')
      ? []
      : [{ ...row, keys: () => chunkKeysOf(hex(aeadKey), hex(baseNonce)) }],
  );

test('with the keys of one message every vector opens or is refused, and a valid one is made again', () => {
  let valid = 0;
  let invalid = 0;
  for (const { tcId, comment, ct, keys, result, msgLength = 0, msgSha512 } of CASES) {
    const about = `${tcId}: ${comment}`;
    const chunks = inflateSync(hex(ct)).subarray(PREFIX_BYTES);
    const opener = new ChunkOpener({ keys: keys(), refusal });
    const out: Buffer[] = [];
    const open = (): void => {
      for (let at = 0; at < chunks.length; at += 50_000) out.push(...opener.update(chunks.subarray(at, at + 50_000)));
      out.push(...opener.final());
    };
    if (result === 'invalid') {
      invalid += 1;
      assert.throws(open, { message: REFUSED }, about);
      assert.throws(() => opener.update(chunks), { message: REFUSED }, 'nothing comes out after a failure');
      continue;
    }
    valid += 1;
    open();
    const plaintext = Buffer.concat(out);
    assert.equal(plaintext.length, msgLength, about);
    if (msgSha512 !== undefined) {
      assert.equal(createHash('sha512').update(plaintext).digest('hex'), msgSha512, about);
    }
    const sealer = new ChunkSealer(keys());
    assert.ok(Buffer.concat([...sealer.update(plaintext), ...sealer.final()]).equals(chunks), about);
  }
  assert.ok(valid > 3 && invalid > 3, `only ${valid} valid and ${invalid} invalid cases`);
});

test('keys of the wrong length are no keys, and what was given stays the caller’s to wipe', () => {
  assert.throws(() => chunkKeysOf(randomBytes(16), randomBytes(12)), RangeError);
  assert.throws(() => chunkKeysOf(randomBytes(32), randomBytes(8)), RangeError);
  const [key, baseNonce] = [randomBytes(32), randomBytes(12)];
  const keys = chunkKeysOf(key, baseNonce);
  const before = [keys.key.export(), Buffer.from(keys.baseNonce)];
  key.fill(0);
  baseNonce.fill(0);
  assert.deepEqual([keys.key.export(), keys.baseNonce], before);
});
