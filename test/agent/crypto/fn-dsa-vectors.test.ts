// Published known answers of Falcon with padded signatures: the key out of its seed, and the signature.
import assert from 'node:assert/strict';
import { createCipheriv } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { PostQuantum } from '../../../agent/crypto/post-quantum/post-quantum.ts';
import { FN_DSA_SIGNATURES } from '../../../proto/documents/fn-dsa.ts';

interface Case {
  readonly algorithm: string;
  readonly seed: string;
  readonly message: string;
  readonly publicKey: string;
  readonly secretKey: string;
  readonly signature: string;
}

const file = join(import.meta.dirname, '../../vectors/post-quantum/falcon-padded.json');
const cases = JSON.parse(readFileSync(file, 'utf8')) as readonly Case[];
const hex = (text: string): Buffer => Buffer.from(text, 'hex');
const postQuantum = new PostQuantum({ clock: { now: () => Date.now() } });
after(() => postQuantum.close());
const aCall = () => ({ tenant: 'acme', deadline: Date.now() + 60_000, signal: new AbortController().signal });

/** Three blocks of AES-256 over the counters after `counter`. */
const blocks = (key: Buffer, counter: Buffer): Buffer => {
  const input = [1n, 2n, 3n].map((more) => {
    const value = (BigInt(`0x${counter.toString('hex')}`) + more) % 2n ** 128n;
    return hex(value.toString(16).padStart(32, '0'));
  });
  return createCipheriv('aes-256-ecb', key, null).setAutoPadding(false).update(Buffer.concat(input));
};

/** The first 48 bytes of CTR_DRBG with AES-256 (SP 800-90A section 10.2.1), from which known answers draw their keys. */
const drawn = (seed: Buffer): Buffer => {
  const state = blocks(Buffer.alloc(32), Buffer.alloc(16)).map((byte, at) => byte ^ (seed[at] as number));
  const bytes = Buffer.from(state);
  return blocks(bytes.subarray(0, 32), bytes.subarray(32));
};

test('there is a case for every set', () => {
  assert.deepEqual(
    cases.map(({ algorithm }) => algorithm),
    [...FN_DSA_SIGNATURES.keys()],
  );
});

for (const { algorithm, seed, message, publicKey, secretKey, signature } of cases) {
  describe(`${algorithm}, known answer`, () => {
    test('the seed gives the key', async () => {
      const { material, publicJwk } = await postQuantum.derive(algorithm, drawn(hex(seed)), aCall());
      assert.equal(material.toString('hex'), secretKey);
      assert.equal(publicJwk['pub'], hex(publicKey).toString('base64url'));
    });

    test('the signature verifies, and no other over it', async () => {
      const row = FN_DSA_SIGNATURES.get(algorithm);
      assert.equal(hex(signature).length, row?.signatureBytes);
      const verify = (change: { signature?: Buffer; message?: Buffer; publicKey?: Buffer }) =>
        postQuantum.verifyFnDsa(
          { algorithm, message: hex(message), publicKey: hex(publicKey), signature: hex(signature), ...change },
          aCall(),
        );
      assert.equal(await verify({}), true);
      const flipped = (bytes: Buffer, at: number): Buffer => {
        bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at);
        return bytes;
      };
      const { length } = hex(signature);
      for (const change of [
        { message: Buffer.from('other') },
        { publicKey: flipped(hex(publicKey), 100) },
        { publicKey: flipped(hex(publicKey), 0) },
        ...[0, 1, 41, 300, length - 1].map((at) => ({ signature: flipped(hex(signature), at) })),
        { signature: hex(signature).subarray(0, length - 1) },
        { signature: Buffer.concat([hex(signature), Buffer.of(0)]) },
      ]) {
        assert.equal(await verify(change), false, JSON.stringify(Object.keys(change)));
      }
    });

    test('what its key signs verifies', async () => {
      const what = { algorithm, message: Buffer.from('again') };
      const made = await postQuantum.sign(what, aCall(), (use) => use(hex(secretKey)));
      assert.equal(made.length, hex(signature).length);
      assert.ok(await postQuantum.verifyFnDsa({ ...what, publicKey: hex(publicKey), signature: made }, aCall()));
    });
  });
}
