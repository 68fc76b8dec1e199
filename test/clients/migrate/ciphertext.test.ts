// What a campaign takes for a ciphertext: each form as its makers write it, and nothing else, whatever the bytes.
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { CompactEncrypt, CompactSign, FlattenedEncrypt, GeneralEncrypt } from 'jose';
import { buildContainerHeader } from '../../../agent/crypto/chunked-container.ts';
import { parseContainerHeader, parseJose, readCiphertext } from '../../../clients/cli/migrate/ciphertext.ts';
import { temporaryFolder } from '../cli/run-cli.ts';

const KEY = Buffer.alloc(32, 1);
const KID = 'acme/orders/1';
const data = Buffer.from('data');

test('the forms that JOSE libraries write are told apart, with their keys', async () => {
  const header = { alg: 'A256KW', enc: 'A256GCM', kid: KID };
  const jwe = await new CompactEncrypt(data).setProtectedHeader(header).encrypt(KEY);
  const flattened = await new FlattenedEncrypt(data).setProtectedHeader(header).encrypt(KEY);
  const general = await new GeneralEncrypt(data)
    .setProtectedHeader({ enc: 'A256GCM' })
    .addRecipient(KEY)
    .setUnprotectedHeader({ alg: 'A256KW', kid: KID })
    .addRecipient(KEY)
    .setUnprotectedHeader({ alg: 'A256KW' })
    .encrypt();
  const jws = await new CompactSign(data).setProtectedHeader({ alg: 'HS256', kid: KID }).sign(KEY);
  const [protectedPart, , signature] = jws.split('.');
  const key = { alg: 'A256KW', kid: KID };
  for (const [text, form, keys, detached] of [
    [jwe, 'jwe', [key], false],
    [JSON.stringify(flattened), 'jwe-json', [key], false],
    [JSON.stringify(general), 'jwe-json', [key, { alg: 'A256KW', kid: undefined }], false],
    [jws, 'jws', [{ alg: 'HS256', kid: KID }], false],
    [`${protectedPart}..${signature}`, 'jws', [{ alg: 'HS256', kid: KID }], true],
  ] as const) {
    const found = parseJose(`\n ${text}\r\n`);
    assert.deepEqual([found?.form, found?.keys, found?.detached], [form, keys, detached]);
    assert.deepEqual([found?.text, found?.around], [text, ['\n ', '\r\n']], 'white space around it is kept');
  }
});

test('a container is read as far as its header', async (t) => {
  const folder = temporaryFolder(t);
  const path = join(folder, 'c');
  const jwe = JSON.stringify({
    protected: Buffer.from('{"enc":"A256GCM"}').toString('base64url'),
    ciphertext: '',
    recipients: [{ header: { alg: 'A256GCMKW', kid: KID } }],
  });
  const head = buildContainerHeader(jwe);
  writeFileSync(path, Buffer.concat([head, Buffer.alloc(100_000)]));
  const found = await readCiphertext(path);
  assert.deepEqual([found?.form, found?.text, found?.headBytes], ['container', jwe, head.length]);
  assert.deepEqual(found?.keys, [{ alg: 'A256GCMKW', kid: KID }]);
  for (const cut of [0, 4, 7, 8, 100, head.length - 1]) {
    writeFileSync(path, head.subarray(0, cut));
    assert.equal(await readCiphertext(path), undefined, `cut off after ${cut} bytes`);
  }
});

test('a file above the limit of a JOSE text, an empty one and a JWT-like one with other parts are none', async (t) => {
  const path = join(temporaryFolder(t), 'f');
  for (const content of [
    '',
    ' \n',
    'a.b',
    'a.b.c',
    'e30.e30.e30',
    'e30..',
    '{}',
    '[]',
    'null',
    Buffer.alloc(4_000_000, 'a'),
  ]) {
    writeFileSync(path, content);
    assert.equal(await readCiphertext(path), undefined, String(content).slice(0, 20));
  }
});

test('any text is a ciphertext with named keys, or none; nothing is thrown', () => {
  const alphabet = fc.constantFrom(
    '.',
    '{',
    '}',
    '"',
    ':',
    ',',
    '[',
    ']',
    'e30',
    'eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIn0',
    '"alg"',
    '"kid"',
    '"recipients"',
    '"ciphertext"',
    '"header"',
    'a',
    ' ',
    '\u0000',
  );
  const text = fc.oneof(
    fc.string(),
    fc.array(alphabet, { maxLength: 40 }).map((parts) => parts.join('')),
    fc.json(),
  );
  fc.assert(
    fc.property(text, (any) => {
      const found = parseJose(any) ?? parseContainerHeader(Buffer.from(any));
      if (found === undefined) return;
      assert.ok(found.keys.length > 0 && found.keys.every(({ alg }) => typeof alg === 'string'));
      assert.ok(any.includes(found.text));
    }),
    { numRuns: 2000 },
  );
});
