// Signing requests and certificates as openssl and Node see them, and requests as attackers write them.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { generateKeyPairSync, sign, X509Certificate } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { certificateRequest } from '../../proto/documents/certificate-request.ts';
import { issueCertificate, serialOf } from '../../registry/hosts/certificate.ts';
import { MAX_REQUEST_BYTES, readCertificateRequest } from '../../registry/hosts/certificate-request.ts';
import {
  bitString,
  DerError,
  DerReader,
  element,
  integer,
  objectId,
  sequence,
  TAG,
  time,
} from '../../registry/hosts/der.ts';
import { temporaryFolder } from '../support/folder.ts';

const keys = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const good = certificateRequest({ name: 'web-1', ...keys });

test('requests of openssl are read, for each kind of key that is allowed, whatever else they ask for', (t) => {
  const dir = temporaryFolder(t);
  const kinds = [
    ['ec', '-pkeyopt', 'ec_paramgen_curve:P-256'],
    ['ec', '-pkeyopt', 'ec_paramgen_curve:P-384'],
    ['ed25519'],
    ['rsa:3072'],
  ];
  for (const kind of kinds) {
    const extras = [
      '-subj',
      '/O=Acme/CN=admin',
      '-addext',
      'subjectAltName=URI:spiffe://registry.test/mortise/admin/root',
    ];
    const out = ['-keyout', 'key.pem', '-outform', 'DER', '-out', 'request.der'];
    execFileSync('openssl', ['req', '-newkey', ...kind, '-nodes', ...extras, ...out], { cwd: dir, stdio: 'pipe' });
    const { spki, fingerprint } = readCertificateRequest(readFileSync(join(dir, 'request.der')));
    const pem = execFileSync('openssl', ['pkey', '-in', 'key.pem', '-pubout', '-outform', 'DER'], { cwd: dir });
    assert.ok(spki.equals(pem), kind.join(' '));
    assert.match(fingerprint, /^[0-9a-f]{64}$/);
  }
});

test('keys that are weak or of other curves are refused', (t) => {
  const dir = temporaryFolder(t);
  for (const kind of [
    ['rsa:2048'],
    ['ec', '-pkeyopt', 'ec_paramgen_curve:secp256k1'],
    ['ec', '-pkeyopt', 'ec_paramgen_curve:P-521'],
  ]) {
    const out = ['-keyout', 'key.pem', '-outform', 'DER', '-out', 'request.der'];
    execFileSync('openssl', ['req', '-newkey', ...kind, '-nodes', '-subj', '/CN=x', ...out], {
      cwd: dir,
      stdio: 'pipe',
    });
    assert.throws(() => readCertificateRequest(readFileSync(join(dir, 'request.der'))), DerError, kind.join(' '));
  }
});

test('a request whose bits were changed anywhere is refused, with DerError and nothing else', () => {
  assert.ok(readCertificateRequest(good).spki.length > 0);
  fc.assert(
    fc.property(fc.nat({ max: good.length - 1 }), fc.integer({ min: 1, max: 255 }), (at, change) => {
      const bytes = Buffer.from(good);
      bytes[at] = (bytes[at] as number) ^ change;
      assert.throws(() => readCertificateRequest(bytes), DerError);
    }),
    { numRuns: 400 },
  );
});

test('bytes that are no request are refused, with DerError and nothing else', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
      assert.throws(() => readCertificateRequest(bytes), DerError);
    }),
    { numRuns: 500 },
  );
  for (const bytes of [
    good.subarray(0, -1),
    Buffer.concat([good, Buffer.of(0)]),
    Buffer.alloc(MAX_REQUEST_BYTES + 1),
  ]) {
    assert.throws(() => readCertificateRequest(bytes), DerError);
  }
});

test('lengths that are indefinite, not minimal or beyond the end are refused', () => {
  for (const hex of [
    '3080',
    '308101' + '00',
    '30820001' + '00',
    '3003' + '0000',
    '30',
    '30ff',
    '3085' + '0000000000',
  ]) {
    assert.throws(() => new DerReader(Buffer.from(hex, 'hex')).next(TAG.sequence), DerError, hex);
  }
  const long = element(TAG.octetString, Buffer.alloc(70_000));
  assert.equal(new DerReader(long).next(TAG.octetString).content.length, 70_000);
});

test('what is written is read back: integers without sign, identifiers, times of both centuries', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 1, maxLength: 40 }), (bytes) => {
      const { content } = new DerReader(integer(bytes)).next(TAG.integer);
      assert.equal((content[0] as number) < 0x80, true);
      assert.equal(BigInt(`0x${content.toString('hex')}`), BigInt(`0x${Buffer.from(bytes).toString('hex')}`));
    }),
  );
  assert.equal(objectId('1.2.840.10045.4.3.3').toString('hex'), '06082a8648ce3d040303');
  assert.equal(
    time(Date.UTC(2049, 11, 31, 23, 59, 59))
      .subarray(2)
      .toString(),
    '491231235959Z',
  );
  assert.equal(
    time(Date.UTC(2050, 0, 1))
      .subarray(2)
      .toString(),
    '20500101000000Z',
  );
});

test('an issued certificate satisfies openssl in strict mode, for its own purpose alone', (t) => {
  const dir = temporaryFolder(t);
  const root = generateKeyPairSync('ec', { namedCurve: 'P-384' });
  const spkiOf = (key: typeof root): Buffer => key.publicKey.export({ format: 'der', type: 'spki' });
  const issuer = { commonName: 'a root', spki: spkiOf(root), key: root.privateKey };
  const times = { notBefore: Date.now() - 1000, notAfter: Date.now() + 3_600_000 };
  const ca = issueCertificate({ ...issuer, ...times, usage: 'authority', names: [] }, issuer);
  const names = [{ dns: 'registry.test' }, { ip: '127.0.0.1' }, { ip: '::1' }, { ip: 'fd00::1:2' }];
  const leaf = issueCertificate(
    { commonName: 'x'.repeat(80), spki: spkiOf(keys), ...times, usage: 'server', names },
    issuer,
  );
  writeFileSync(join(dir, 'ca.pem'), ca.toString());
  writeFileSync(join(dir, 'leaf.pem'), leaf.toString());
  const verify = (purpose: string): string => {
    const args = ['verify', '-x509_strict', '-purpose', purpose, '-CAfile', 'ca.pem', 'leaf.pem'];
    return execFileSync('openssl', args, { cwd: dir, stdio: 'pipe' }).toString();
  };
  assert.match(verify('sslserver'), /OK/);
  assert.throws(() => verify('sslclient'));
  assert.equal(leaf.checkHost('registry.test'), 'registry.test');
  for (const { ip } of names.filter((name) => 'ip' in name) as { ip: string }[]) assert.equal(leaf.checkIP(ip), ip);
  assert.ok(new X509Certificate(leaf.raw).verify(root.publicKey));
  assert.match(serialOf(leaf), /^[0-9a-f]{32}$/);
});

test('a request that says another algorithm than its key signs by is refused', () => {
  const outer = new DerReader(good).next(TAG.sequence);
  const info = new DerReader(outer.content).next(TAG.sequence).whole;
  const forged = (oid: string, signature: Buffer): Buffer =>
    sequence(info, sequence(objectId(oid)), bitString(signature));
  const right = sign('sha256', info, keys.privateKey);
  assert.ok(readCertificateRequest(forged('1.2.840.10045.4.3.2', right)));
  for (const oid of ['1.2.840.10045.4.3.3', '1.2.840.113549.1.1.11', '1.3.101.112', '1.2.840.10045.4.1']) {
    assert.throws(() => readCertificateRequest(forged(oid, right)), DerError, oid);
  }
});
