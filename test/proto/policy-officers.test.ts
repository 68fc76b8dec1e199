// The trust anchor and the officers' key files: strict to read, and closed without the passphrase.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  generateOfficerKeys,
  officerOf,
  openOfficerKeys,
  readOfficer,
  sealOfficerKeys,
} from '../../proto/documents/officer-keys.ts';
import { PolicyError } from '../../proto/documents/policy-error.ts';
import { parseTrustAnchor, TRUST_ANCHOR_SCHEMA, trustAnchorDigest } from '../../proto/documents/trust-anchor.ts';
import { bytesOf } from '../support/policy-documents.ts';

const [alice, bob] = ['alice', 'bob'].map((name) => officerOf(generateOfficerKeys({ name })));
assert.ok(alice && bob);
const anchor = { schema: TRUST_ANCHOR_SCHEMA, threshold: 2, officers: [alice, bob] };
const [classical, postQuantum] = alice.keys;

const ANCHORS: [title: string, changes: object, code: string, path: string][] = [
  ['more needed than there are', { threshold: 3 }, 'VALUE_INVALID', 'threshold'],
  ['nobody needed', { threshold: 0 }, 'VALUE_INVALID', 'threshold'],
  ['no officers', { officers: [] }, 'VALUE_INVALID', 'officers'],
  ['two of one name', { officers: [alice, { ...bob, name: 'alice' }] }, 'FIELD_DUPLICATE', 'officers[1]'],
  [
    'two with one key',
    { officers: [alice, { ...bob, keys: [classical, bob.keys[1]] }] },
    'FIELD_DUPLICATE',
    'officers',
  ],
  ['one key only', { officers: [{ ...alice, keys: [classical] }, bob] }, 'VALUE_INVALID', 'officers[0].keys'],
  [
    'two classical keys',
    { officers: [{ ...alice, keys: [classical, bob.keys[0]] }, bob] },
    'KEY_INVALID',
    'officers[0].keys',
  ],
  [
    'keys in the wrong order',
    { officers: [{ ...alice, keys: [postQuantum, classical] }, bob] },
    'KEY_INVALID',
    'officers[0].keys',
  ],
  [
    'a private key',
    { officers: [{ ...alice, keys: [{ ...classical, d: 'AA' }, postQuantum] }, bob] },
    'FIELD_UNKNOWN',
    'officers[0].keys[0].d',
  ],
  [
    'ML-DSA-44',
    { officers: [{ ...alice, keys: [classical, { ...postQuantum, alg: 'ML-DSA-44' }] }, bob] },
    'VALUE_INVALID',
    'officers[0].keys[1].alg',
  ],
  [
    'a short key',
    { officers: [{ ...alice, keys: [{ ...classical, x: 'AAAA' }, postQuantum] }, bob] },
    'VALUE_INVALID',
    'officers[0].keys[0].x',
  ],
  [
    'an RSA key',
    { officers: [{ ...alice, keys: [{ kty: 'RSA' }, postQuantum] }, bob] },
    'VALUE_INVALID',
    'officers[0].keys[0].kty',
  ],
  ['a name with a comma', { officers: [{ ...alice, name: 'a,b' }, bob] }, 'VALUE_INVALID', 'officers[0].name'],
  ['an unknown field', { expires: 1 }, 'FIELD_UNKNOWN', 'expires'],
  ['another schema', { schema: 'x' }, 'VALUE_INVALID', 'schema'],
];

test('reads a trust anchor; its digest is that of its bytes', () => {
  const bytes = bytesOf(anchor);
  assert.deepEqual(parseTrustAnchor(bytes), anchor);
  assert.match(trustAnchorDigest(bytes), /^[0-9a-f]{64}$/);
  assert.notEqual(trustAnchorDigest(Buffer.from(`${bytes} `)), trustAnchorDigest(bytes));
});

for (const [title, changes, code, path] of ANCHORS) {
  test(`refuses a trust anchor with ${title}`, () => {
    assert.throws(() => parseTrustAnchor(bytesOf({ ...anchor, ...changes })), { name: 'PolicyError', code, path });
  });
}

test('a trust anchor of any bytes ends in a PolicyError or an anchor', () => {
  const good = bytesOf(anchor);
  fc.assert(
    fc.property(fc.oneof(fc.uint8Array({ maxLength: 200 }), fc.nat(good.length - 1)), (input) => {
      const bytes =
        typeof input === 'number' ? Buffer.concat([good.subarray(0, input), good.subarray(input + 1)]) : input;
      try {
        parseTrustAnchor(bytes);
      } catch (error) {
        assert.ok(error instanceof PolicyError, String(error));
      }
    }),
  );
});

test('officer keys come back from their file with the passphrase, and only so', async () => {
  const passphrase = Buffer.from('correct horse');
  for (const kind of ['Ed25519', 'ES256'] as const) {
    const keys = generateOfficerKeys({ name: 'alice', classical: kind });
    const file = await sealOfficerKeys(passphrase, keys);
    assert.deepEqual(readOfficer(file), officerOf(keys));
    const opened = await openOfficerKeys(passphrase, file);
    assert.equal(opened.name, 'alice');
    assert.ok(opened.privateKeys.every((key, index) => keys.privateKeys[index]?.equals(key)));
    for (const key of keys.privateKeys) {
      const { d, priv } = key.export({ format: 'jwk' }) as Record<string, string>;
      assert.ok(!file.includes((d ?? priv) as string), 'the private key stands in the file');
    }
    await assert.rejects(openOfficerKeys(Buffer.from('wrong'), file), { code: 'PASSPHRASE_WRONG' });
  }
  await assert.rejects(sealOfficerKeys(Buffer.alloc(0), generateOfficerKeys({ name: 'x' })), { path: 'passphrase' });
  assert.throws(() => generateOfficerKeys({ name: 'a b' }), { code: 'VALUE_INVALID', path: 'name' });
});

test('a key file whose public half or parameters were changed does not open', async () => {
  const passphrase = Buffer.from('correct horse');
  const file = JSON.parse((await sealOfficerKeys(passphrase, generateOfficerKeys({ name: 'alice' }))).toString());
  const wrong: [object, string][] = [
    [{ ...file, officer: bob }, 'PASSPHRASE_WRONG'],
    [{ ...file, officer: { ...file.officer, name: 'mallory' } }, 'PASSPHRASE_WRONG'],
    [{ ...file, kdf: { ...file.kdf, n: 2 ** 14 } }, 'PASSPHRASE_WRONG'],
    [{ ...file, kdf: { ...file.kdf, n: 2 ** 24 } }, 'VALUE_INVALID'],
    [{ ...file, kdf: { ...file.kdf, name: 'pbkdf2' } }, 'VALUE_INVALID'],
    [{ ...file, ciphertext: file.ciphertext.replace(/^..../, 'AAAA') }, 'PASSPHRASE_WRONG'],
    [{ ...file, comment: '' }, 'FIELD_UNKNOWN'],
  ];
  for (const [changed, code] of wrong) await assert.rejects(openOfficerKeys(passphrase, bytesOf(changed)), { code });
});
