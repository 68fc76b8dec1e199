// A certificate signing request that openssl reads, whatever the name.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { newKeyPair } from '../../agent/uplink/identity.ts';
import { certificateRequest } from '../../proto/documents/certificate-request.ts';
import { temporaryFolder } from '../support/folder.ts';

test('openssl verifies its signature and reads name and key', async (t) => {
  const file = join(temporaryFolder(t), 'request.der');
  for (const name of ['a', 'host-1.example.com', 'x'.repeat(63), 'ü'.repeat(20)]) {
    const keys = newKeyPair();
    await writeFile(file, certificateRequest({ name, ...keys }));
    const args = ['req', '-inform', 'DER', '-in', file, '-noout', '-verify', '-subject', '-pubkey', '-nameopt', 'utf8'];
    const { stdout } = await promisify(execFile)('openssl', args);
    assert.ok(stdout.includes(name.slice(0, 20)), stdout);
    assert.ok(stdout.includes(keys.publicKey.export({ type: 'spki', format: 'pem' }).toString().trim()));
  }
});
