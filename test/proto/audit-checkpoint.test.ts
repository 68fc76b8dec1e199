import assert from 'node:assert/strict';
import { constants, createHash, createPublicKey, generateKeyPairSync, sign, verify } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { DocumentError } from '../../proto/documents/canonical.ts';
import {
  checkpointText,
  parseCheckpointText,
  parseSignedNote,
  signCheckpoint,
  verifierKey,
  verifyCheckpoint,
} from '../../proto/documents/checkpoint.ts';
import type { PublicJwk } from '../../proto/documents/key-record.ts';

const ed25519 = generateKeyPairSync('ed25519');
const p256 = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const rsa = generateKeyPairSync('rsa', { modulusLength: 3072 });
const edJwk = ed25519.publicKey.export({ format: 'jwk' }) as PublicJwk;
const ecJwk = p256.publicKey.export({ format: 'jwk' }) as PublicJwk;
const rsaJwk = rsa.publicKey.export({ format: 'jwk' }) as PublicJwk;
const PSS = { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 };
const signRsa = async (data: Buffer): Promise<Buffer> => sign('sha256', data, { key: rsa.privateKey, ...PSS });
const signEd = async (data: Buffer): Promise<Buffer> => sign(null, data, ed25519.privateKey);
const signEc = async (data: Buffer): Promise<Buffer> =>
  sign('sha256', data, { key: p256.privateKey, dsaEncoding: 'ieee-p1363' });
const CHECKPOINT = { origin: 'host-1/acme/1764000000', size: 20852163, root: Buffer.alloc(32, 7) };

// The example of golang.org/x/mod/sumdb/note, which C2SP signed-note was made from.
const NEUMANN_KEY = 'PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW';
const NEUMANN_NOTE =
  'If you think cryptography is the answer to your problem,\nthen you don\u2019t know what your problem is.\n\n' +
  '\u2014 PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n';

test('reads the published note, computes its key id, and verifies its signature', () => {
  const x = Buffer.from(NEUMANN_KEY.split('+').at(-1) as string, 'base64')
    .subarray(1)
    .toString('base64url');
  const jwk = { kty: 'OKP', crv: 'Ed25519', x };
  assert.equal(verifierKey('PeterNeumann', jwk), NEUMANN_KEY);
  const note = NEUMANN_NOTE.replace('\u2019', "'");
  const { text, signatures } = parseSignedNote(note);
  assert.equal(signatures[0]?.keyId.toString('hex'), 'c74f20a3');
  const key = createPublicKey({ key: jwk, format: 'jwk' });
  assert.ok(verify(null, Buffer.from(text), key, signatures[0]?.signature as Buffer));
});

for (const [name, jwk, signer, other] of [
  ['Ed25519', edJwk, signEd, ecJwk],
  ['ECDSA P-256', ecJwk, signEc, edJwk],
  ['RSA-PSS', rsaJwk, signRsa, edJwk],
] as const) {
  test(`signs and verifies a checkpoint by ${name}`, async () => {
    const note = await signCheckpoint(CHECKPOINT, jwk, signer);
    assert.deepEqual(verifyCheckpoint(note, jwk), CHECKPOINT);
    assert.throws(() => verifyCheckpoint(note, other), /no signature by the given key/);
    assert.throws(() => verifyCheckpoint(note.replace('20852163', '20852164'), jwk), /does not verify/);
    const cosigned = `${note}\u2014 witness.example/w ${Buffer.alloc(76, 1).toString('base64')}\n`;
    assert.deepEqual(verifyCheckpoint(cosigned, jwk), CHECKPOINT);
  });
}

test('ECDSA carries DER whatever the leading bytes of r and s, and the id of the SPKI', async () => {
  for (let i = 0; i < 300; i += 1) {
    assert.deepEqual(verifyCheckpoint(await signCheckpoint({ ...CHECKPOINT, size: i }, ecJwk, signEc), ecJwk).size, i);
  }
  const der = p256.publicKey.export({ type: 'spki', format: 'der' });
  assert.ok(verifierKey('a', ecJwk).endsWith(Buffer.concat([Uint8Array.of(2), der]).toString('base64')));
});

test('RSA has a type of its own name, an id of name, type and SPKI, and 3072 bits at least', async () => {
  const type = Buffer.concat([Buffer.of(0xff), Buffer.from('mortise/rsa-pss-sha256')]);
  const spki = rsa.publicKey.export({ type: 'spki', format: 'der' });
  const id = createHash('sha256').update('a\n').update(type).update(spki).digest('hex').slice(0, 8);
  assert.equal(verifierKey('a', rsaJwk), `a+${id}+${Buffer.concat([type, spki]).toString('base64')}`);
  const short = generateKeyPairSync('rsa', { modulusLength: 2048 }).publicKey.export({ format: 'jwk' }) as PublicJwk;
  assert.throws(() => verifierKey('a', short), /RSA of 3072 bits at least/);
  const byPkcs1 = async (data: Buffer): Promise<Buffer> => sign('sha256', data, rsa.privateKey);
  const note = await signCheckpoint(CHECKPOINT, rsaJwk, byPkcs1);
  assert.throws(() => verifyCheckpoint(note, rsaJwk), /does not verify/);
});

test('a signature under another name, or one bad among good, rejects the note', async () => {
  const note = await signCheckpoint(CHECKPOINT, edJwk, signEd);
  assert.throws(() => verifyCheckpoint(note.replace('\u2014 host-1', '\u2014 host-2'), edJwk), DocumentError);
  const line = note.split('\n').at(-2) as string;
  const blob = Buffer.from(line.split(' ')[2] as string, 'base64');
  blob[40] = (blob[40] as number) ^ 1;
  const bad = `${note}\u2014 ${CHECKPOINT.origin} ${blob.toString('base64')}\n`;
  assert.throws(() => verifyCheckpoint(bad, edJwk), /does not verify/);
});

test('refuses every other spelling', () => {
  const root = Buffer.alloc(32, 7).toString('base64');
  const bad = [
    '',
    'o\n1\n',
    `o\n1\n${root}`,
    `o\n01\n${root}\n`,
    `o\n-1\n${root}\n`,
    `o\n1e3\n${root}\n`,
    `o\n9999999999999999\n${root}\n`,
    `o\n1\n${root}\nextension\n`,
    `o\n1\n\n`,
    `o\n1\n${root.replace('=', '')}\n`,
    `o\n1\n${root.slice(0, -2)}d=\n`,
    `\n1\n${root}\n`,
    `o o\n1\n${root}\n`,
    `o+o\n1\n${root}\n`,
    `o\r\n1\r\n${root}\r\n`,
  ];
  for (const text of bad) assert.throws(() => parseCheckpointText(text), DocumentError, JSON.stringify(text));
  assert.equal(checkpointText(parseCheckpointText(`o\n0\n${root}\n`)), `o\n0\n${root}\n`);
});

test('notes without signatures, with control characters, too long, or with odd lines are refused', async () => {
  const note = await signCheckpoint(CHECKPOINT, edJwk, signEd);
  const bad = [
    '',
    '\n\n',
    note.slice(0, -1),
    note.replace('\n\n', '\n'),
    note.replace('\u2014', '-'),
    note.replace('/acme', '/ac\tme'),
    note.replace('/acme', '/ac\u0000me'),
    `${note}\n`,
    `${note}x\n`,
    note + note.split('\n').slice(-2).join('\n').repeat(40),
    `${'x'.repeat(70_000)}${note}`,
    `\ud800${note}`,
  ];
  for (const text of bad) assert.throws(() => verifyCheckpoint(text, edJwk), DocumentError, JSON.stringify(text));
});

test('any text is a checkpoint that reads back, or a DocumentError', async () => {
  const note = await signCheckpoint(CHECKPOINT, edJwk, signEd);
  const edits = fc.tuple(fc.nat(note.length), fc.nat(8), fc.string({ unit: 'binary', maxLength: 8 }));
  fc.assert(
    fc.property(fc.oneof(edits, fc.string({ unit: 'binary' })), (edit) => {
      const text = typeof edit === 'string' ? edit : note.slice(0, edit[0]) + edit[2] + note.slice(edit[0] + edit[1]);
      try {
        assert.deepEqual(verifyCheckpoint(text, edJwk), CHECKPOINT);
      } catch (error) {
        if (!(error instanceof DocumentError)) throw error;
      }
    }),
    { numRuns: 2000 },
  );
});

const vectors = JSON.parse(readFileSync(join(import.meta.dirname, '../vectors/audit/checkpoints.json'), 'utf8')) as {
  valid: {
    name: string;
    publicJwk: PublicJwk;
    verifierKey: string;
    note: string;
    checkpoint: { origin: string; size: number; root: string };
  }[];
  invalid: { name: string; publicJwk: PublicJwk; note: string }[];
};

test('the checkpoint vectors', () => {
  assert.ok(vectors.valid.length >= 2 && vectors.invalid.length >= 8, 'there are vectors');
  for (const { name, publicJwk, note, checkpoint, verifierKey: key } of vectors.valid) {
    const { origin, size, root } = verifyCheckpoint(note, publicJwk);
    assert.deepEqual({ origin, size, root: root.toString('hex') }, checkpoint, name);
    assert.equal(verifierKey(origin, publicJwk), key, name);
  }
  for (const { name, publicJwk, note } of vectors.invalid) {
    assert.throws(() => verifyCheckpoint(note, publicJwk), DocumentError, name);
  }
});
