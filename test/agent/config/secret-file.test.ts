import assert from 'node:assert/strict';
import { chmod, chown, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { readSecret, SecretError } from '../../../agent/config/secret-file.ts';

const ROOT = process.getuid?.() === 0;
let folder: string;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'mortise-secrets-'));
});
after(() => rm(folder, { recursive: true, force: true }));

let count = 0;
const file = async (content: string | Buffer, mode = 0o400): Promise<string> => {
  count += 1;
  const path = join(folder, `secret-${count}`);
  await writeFile(path, content);
  await chmod(path, mode);
  return path;
};

const refused = async (path: string, reason: RegExp): Promise<void> => {
  await assert.rejects(readSecret(path), (error: unknown) => {
    assert.ok(error instanceof SecretError);
    assert.match(error.message, reason);
    assert.ok(error.remedy.length > 5);
    assert.ok(!`${error.message}${error.remedy}${error.stack}`.includes('hunter2'));
    return true;
  });
};

test('reads the bytes of the file without its one trailing newline', async () => {
  assert.deepEqual(await readSecret(await file('hunter2\n')), Buffer.from('hunter2'));
  assert.deepEqual(await readSecret(await file('hunter2\r\n')), Buffer.from('hunter2'));
  assert.deepEqual(await readSecret(await file('hunter2')), Buffer.from('hunter2'));
  assert.deepEqual(await readSecret(await file(' hunter2 \n\n')), Buffer.from(' hunter2 \n'));
  assert.deepEqual(await readSecret(await file(Buffer.from([0, 255, 10]))), Buffer.from([0, 255]));
});

test('is in one buffer, which V8 does not move, and gone from it when its taker has wiped it', async () => {
  const secret = await readSecret(await file('hunter2\n'));
  assert.ok(secret.buffer.byteLength > 64, 'V8 keeps smaller ones in its heap, where they are moved and leave copies');
  const whole = Buffer.from(secret.buffer);
  assert.equal(whole.indexOf('hunter2'), secret.byteOffset);
  secret.fill(0);
  assert.equal(whole.indexOf('hunter2'), -1);
});

test('follows the symbolic links that Kubernetes mounts secrets by', async () => {
  const path = join(folder, 'link');
  await symlink(await file('hunter2\n'), path);
  assert.deepEqual(await readSecret(path), Buffer.from('hunter2'));
});

test('refuses a file that others can read, write or execute', async () => {
  for (const mode of [0o404, 0o402, 0o401, 0o644, 0o666]) {
    await refused(await file('hunter2', mode), /others can read or change it/);
  }
});

test('refuses a file that its group can change, whoever owns it', async () => {
  await refused(await file('hunter2', 0o420), /others can read or change it/);
  await refused(await file('hunter2', 0o660), /others can read or change it/);
});

test('a file of root may be readable by its group, as systemd and Kubernetes hand it over', {
  skip: !ROOT,
}, async () => {
  assert.deepEqual(await readSecret(await file('hunter2', 0o440)), Buffer.from('hunter2'));
});

test('refuses a file of another user', { skip: !ROOT }, async () => {
  const path = await file('hunter2');
  await chown(path, 12_345, 12_345);
  await refused(path, /belongs to user 12345/);
});

test('refuses what is missing, empty, too long or no file, and says what to do', async () => {
  await refused(join(folder, 'missing'), /does not exist/);
  await refused(await file(''), /is empty/);
  await refused(await file('\n'), /is empty/);
  await refused(await file('hunter2'.repeat(1000)), /longer than 4096/);
  await refused(folder, /not a regular file/);
});

test('a file of just the greatest length is read whole', async () => {
  assert.equal((await readSecret(await file(Buffer.alloc(4096, 7)))).length, 4096);
});
