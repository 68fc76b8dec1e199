// RSA-OAEP with SHA-256 by raw RSA in the token and decoding in the token process, on Wycheproof's vectors with the
// private keys imported into SoftHSM as session objects, and the decoding alone on every way a block can be wrong.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { decodeOaep } from '../../../agent/token/process/oaep.ts';
import { makeSoftHsm } from '../../support/softhsm.ts';

const ROOT = join(import.meta.dirname, '../../..');
const FULL = join(ROOT, '../shared/vectors/wycheproof/rsa_oaep_2048_sha256_mgf1sha256_test.json');
const SMALL = join(ROOT, 'test/vectors/rsa-oaep-sha256.json');

/** In a process of its own, because the library reads SOFTHSM2_CONF from the environment. */
const run = async (vectors: string): Promise<{ accepted: number; refused: number; wrong: string[] }> => {
  await using hsm = await makeSoftHsm();
  const { stdout } = await promisify(execFile)(
    process.execPath,
    [join(import.meta.dirname, 'oaep-vectors.ts'), hsm.library, hsm.pinFile, vectors],
    { env: { PATH: '/usr/bin:/bin', ...hsm.env } },
  );
  return JSON.parse(stdout) as { accepted: number; refused: number; wrong: string[] };
};

test('decrypts the published vectors in test/vectors', async () => {
  const { accepted, refused, wrong } = await run(SMALL);
  assert.deepEqual(wrong, []);
  assert.ok(accepted >= 4 && refused >= 8, `${accepted} accepted, ${refused} refused`);
});

test("decrypts all of Wycheproof's set", { skip: existsSync(FULL) ? false : 'the full set is not here' }, async () => {
  const { accepted, refused, wrong } = await run(FULL);
  assert.deepEqual(wrong, []);
  const total = (JSON.parse(readFileSync(FULL, 'utf8')) as { numberOfTests: number }).numberOfTests;
  assert.ok(total > 30);
  assert.equal(accepted + refused, total);
});

const HASH_BYTES = 32;
const LABEL_HASH = createHash('sha256').digest();
const mgf1 = (seed: Buffer, length: number): Buffer => {
  const blocks: Buffer[] = [];
  for (let block = 0; block * HASH_BYTES < length; block += 1) {
    const counter = Buffer.alloc(4);
    counter.writeUInt32BE(block);
    blocks.push(createHash('sha256').update(seed).update(counter).digest());
  }
  return Buffer.concat(blocks).subarray(0, length);
};
const xor = (a: Buffer, b: Buffer): Buffer => Buffer.from(a.map((byte, at) => byte ^ (b[at] as number)));

/** EME-OAEP encoding (RFC 8017 section 7.1.1, step 2) of a data block, so that blocks may be wrong on purpose. */
const encode = (block: Buffer, first = 0): Buffer => {
  const seed = randomBytes(HASH_BYTES);
  const masked = xor(block, mgf1(seed, block.length));
  return Buffer.concat([Buffer.of(first), xor(seed, mgf1(masked, HASH_BYTES)), masked]);
};
const blockOf = (message: Buffer, size: number): Buffer =>
  Buffer.concat([LABEL_HASH, Buffer.alloc(size - 2 * HASH_BYTES - 2 - message.length), Buffer.of(1), message]);

test('decodes messages of every length, those that begin with 0 and 1 too', () => {
  for (const size of [256, 384, 512]) {
    for (let length = 0; length <= size - 66; length += 1) {
      const message = randomBytes(length);
      if (length > 1) message.writeUInt16BE([0x0001, 0x0100, 0x0000, 0x0101][length % 4] as number, 0);
      const encoded = encode(blockOf(message, size));
      assert.equal(encoded.length, size);
      assert.ok(decodeOaep(encoded)?.equals(message), `${length} of ${size} bytes`);
      assert.ok(
        encoded.every((byte) => byte === 0),
        'the block was not wiped',
      );
    }
  }
});

test('refuses a block that is wrong in any one way, and wipes it', () => {
  const good = blockOf(randomBytes(32), 256);
  const changed = (at: number, value: number): Buffer => {
    const block = Buffer.from(good);
    block[at] = value;
    return block;
  };
  const separator = good.indexOf(1, HASH_BYTES);
  const wrong: [string, Buffer][] = [
    ['a first byte that is not zero', encode(good, 1)],
    ['a first byte of 255', encode(good, 255)],
    ['another label hash, first byte', encode(changed(0, (good[0] as number) ^ 1))],
    ['another label hash, last byte', encode(changed(31, (good[31] as number) ^ 0x80))],
    ['padding that is not zero', encode(changed(separator - 1, 2))],
    ['padding that is not zero at its start', encode(changed(HASH_BYTES, 0x80))],
    ['a separator that is not 1', encode(changed(separator, 2))],
    ['no separator', encode(Buffer.concat([LABEL_HASH, Buffer.alloc(256 - 65)]))],
    ['random bytes', randomBytes(256)],
  ];
  for (const [what, encoded] of wrong) {
    assert.equal(decodeOaep(encoded), undefined, what);
    assert.ok(
      encoded.every((byte) => byte === 0),
      `${what}: not wiped`,
    );
  }
});
