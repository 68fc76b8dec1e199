// Countersignatures: made and verified, and refused where any byte of note, time, name or key is another.
import assert from 'node:assert/strict';
import { createPublicKey, generateKeyPairSync, sign } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { DocumentError } from '../../proto/documents/canonical.ts';
import { signCheckpoint, verifyCheckpoint } from '../../proto/documents/checkpoint.ts';
import { cosign, cosignerText, parseCosigner, verifyCosignature } from '../../proto/documents/cosignature.ts';

const pair = generateKeyPairSync('ed25519');
const host = generateKeyPairSync('ed25519');
const hostJwk = host.publicKey.export({ format: 'jwk' }) as Record<string, string>;
const name = 'registry.example.com/cosigner';
const by = {
  name,
  publicKey: pair.publicKey,
  seconds: 1_764_000_000,
  sign: (data: Buffer) => sign(null, data, pair.privateKey),
};
const note = await signCheckpoint(
  { origin: 'host-1/acme/1764000000', size: 18, root: Buffer.alloc(32, 7) },
  hostJwk,
  async (data) => sign(null, data, host.privateKey),
);

test('a countersigned checkpoint verifies by its cosigner and still by its host', () => {
  const cosigner = parseCosigner(cosignerText(name, pair.publicKey));
  const countersigned = cosign(note, by);
  assert.equal(verifyCosignature(countersigned, cosigner), by.seconds);
  assert.equal(verifyCheckpoint(countersigned, hostJwk).size, 18);
  assert.equal(verifyCosignature(cosign(countersigned, { ...by, seconds: by.seconds + 9 }), cosigner), by.seconds + 9);
});

test('a cosignature of another note, time or key is refused', () => {
  const cosigner = parseCosigner(cosignerText(name, pair.publicKey));
  const countersigned = cosign(note, by);
  const line = countersigned.slice(note.length);
  const other = parseCosigner(cosignerText(name, generateKeyPairSync('ed25519').publicKey));
  assert.throws(() => verifyCosignature(note, cosigner), DocumentError);
  assert.throws(() => verifyCosignature(countersigned, other), DocumentError);
  assert.throws(() => verifyCosignature(countersigned.replace('\n18\n', '\n19\n'), cosigner), DocumentError);
  const blob = Buffer.from(line.trim().split(' ')[2] as string, 'base64');
  blob[11] = (blob[11] as number) ^ 1; // the last byte of the time
  assert.throws(() => verifyCosignature(`${note}\u2014 ${name} ${blob.toString('base64')}\n`, cosigner), DocumentError);
});

test('a verifier key of another type, id or length is refused, and nothing but DocumentError is thrown', () => {
  const text = cosignerText(name, pair.publicKey);
  assert.equal(parseCosigner(text).name, name);
  const wrong = [text.replace('+', ''), `${text}A`, text.replace(/\+[0-9a-f]{8}\+/, '+00000000+'), 'a+b', ''];
  for (const one of wrong) assert.throws(() => parseCosigner(one), DocumentError, one);
  fc.assert(
    fc.property(fc.string({ maxLength: 80 }), (random) => {
      try {
        parseCosigner(random);
      } catch (error) {
        assert.ok(error instanceof DocumentError);
      }
    }),
    { numRuns: 300 },
  );
  assert.throws(() => cosignerText(name, createPublicKey(generateKeyPairSync('ed448').privateKey)), DocumentError);
});
