// The registry's configuration: complete or refused with every problem, and without a secret in it.
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { readSecret, SecretError } from '../../agent/config/secret-file.ts';
import { ConfigError, loadConfig } from '../../registry/config/config.ts';
import { variables } from '../../registry/config/env.ts';
import { effectiveText } from '../../registry/config/report.ts';
import { temporaryFolder } from '../support/folder.ts';

const problemsOf = (raw: Record<string, string>): readonly string[] => {
  try {
    loadConfig(raw);
    return [];
  } catch (error) {
    assert.ok(error instanceof ConfigError);
    return error.problems.map(({ variable }) => variable);
  }
};

test('without any variable the configuration is complete, frozen, and over the embedded store', () => {
  const { config, warnings } = loadConfig({});
  assert.deepEqual(warnings, []);
  assert.equal(config.store.databaseUrlFile, undefined);
  assert.deepEqual(config.listen, { host: '0.0.0.0', port: 7443 });
  assert.ok(config.tls.names.includes('localhost'));
  assert.throws(() => Object.assign(config.tls, { requireHybrid: true }), TypeError);
});

test('every wrong variable is named at once, and no value is repeated', () => {
  const wrong = {
    REGISTRY_LISTEN_ADDRESS: 'secret-value',
    REGISTRY_NAMES: 'secret value',
    REGISTRY_AUTHORITY_DIR: 'secret-value',
    REGISTRY_HEARTBEAT_SECONDS: '0',
    REGISTRY_REQUIRE_HYBRID_TLS: 'secret-value',
    REGISTRY_LOG_LEVEL: 'secret-value',
    REGISTRY_REPLICA: '.secret-value',
  };
  assert.deepEqual([...problemsOf(wrong)].sort(), Object.keys(wrong).sort());
  assert.throws(
    () => loadConfig(wrong),
    (error: Error) => !error.message.includes('secret-value'),
  );
});

test('a secret by its plain name is refused, and shown nowhere', () => {
  const raw = { REGISTRY_DATABASE_URL: 'postgresql://u:hunter2@db/x', REGISTRY_TLS_KEY: 'hunter2' };
  assert.deepEqual(problemsOf(raw), ['REGISTRY_DATABASE_URL', 'REGISTRY_TLS_KEY']);
  assert.throws(
    () => loadConfig(raw),
    (error: Error) => !error.message.includes('hunter2'),
  );
  assert.ok(!effectiveText({ ...raw, OTHER: 'hunter2' }).includes('hunter2'));
});

test('contradictions are refused: a certificate without key, a key without certificate, ports that are none', () => {
  assert.deepEqual(problemsOf({ REGISTRY_TLS_CERTIFICATE_FILE: '/x' }), ['REGISTRY_TLS_KEY_FILE']);
  assert.deepEqual(problemsOf({ REGISTRY_TLS_KEY_FILE: '/x' }), ['REGISTRY_TLS_CERTIFICATE_FILE']);
  const ports = { REGISTRY_LISTEN_ADDRESS: 'localhost:70000', REGISTRY_METRICS_ADDRESS: '127.0.0.1:99999' };
  assert.deepEqual(problemsOf(ports), Object.keys(ports));
});

test('a systemd credential is taken where there is one, and a variable goes before it', (t) => {
  const dir = temporaryFolder(t);
  writeFileSync(join(dir, 'database-url'), 'postgresql://db/x', { mode: 0o400 });
  const fileOf = (raw: Record<string, string>) => loadConfig(raw).config.store.databaseUrlFile;
  assert.equal(fileOf({ CREDENTIALS_DIRECTORY: dir }), join(dir, 'database-url'));
  assert.equal(fileOf({ CREDENTIALS_DIRECTORY: dir, REGISTRY_DATABASE_URL_FILE: '/other' }), '/other');
  assert.equal(fileOf({ CREDENTIALS_DIRECTORY: '/nowhere' }), undefined);
});

test('a secret file that others can read is refused', async (t) => {
  const path = join(temporaryFolder(t), 'url');
  writeFileSync(path, 'postgresql://db/x\n', { mode: 0o644 });
  await assert.rejects(readSecret(path), SecretError);
});

test('misspelt variables and metrics for everybody are warnings', () => {
  const { warnings } = loadConfig({ REGISTRY_LISTN_ADDRESS: 'x', REGISTRY_METRICS_ADDRESS: '0.0.0.0:9465' });
  assert.deepEqual(
    warnings.map((text) => text.split(' ')[0]),
    ['REGISTRY_LISTN_ADDRESS', 'REGISTRY_METRICS_ADDRESS'],
  );
});

test('--check lists every variable, with what is a default marked as one', () => {
  const text = effectiveText({ REGISTRY_REPLICA: 'one' });
  for (const { name } of variables()) assert.match(text, new RegExp(`^(# )?${name}[= ]`, 'm'));
  assert.match(text, /^REGISTRY_REPLICA=one$/m);
  assert.match(text, /^REGISTRY_DRAIN_SECONDS=20 {2}# default$/m);
});
