import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ConfigError, loadConfig } from '../../../agent/config/config.ts';
import { readEnvironment, variables } from '../../../agent/config/env.ts';
import { effectiveConfig, effectiveText } from '../../../agent/config/report.ts';

const PIN_FILE = { PKCS11_PIN_FILE: '/etc/mortise/pin' };

const problemsOf = (raw: Record<string, string>): readonly { variable: string; problem: string; remedy: string }[] => {
  try {
    loadConfig(raw);
  } catch (error) {
    assert.ok(error instanceof ConfigError);
    return error.problems;
  }
  return [];
};

test('with nothing but a PIN file every value is its documented default', () => {
  const { config, warnings } = loadConfig(PIN_FILE);
  assert.equal(config.token.library, '/usr/lib/softhsm/libsofthsm2.so');
  assert.equal(config.token.slotIndex, 0);
  assert.equal(config.kekLabelPrefix, 'mortise:kek:tenant');
  assert.equal(config.token.sessions, 10);
  assert.equal(config.token.sessionTimeoutMs, 30_000);
  assert.equal(config.socket.path, '/run/mortise/agent.sock');
  assert.equal(config.socket.mode, 0o660);
  assert.equal(config.policy.trustAnchor, '/etc/mortise/policy/trust-anchor.json');
  assert.equal(config.metrics, undefined);
  assert.equal(config.allowRoot, false);
  assert.match(config.hostId, /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/);
  assert.deepEqual(warnings, []);
});

test('the configuration is frozen all the way down', () => {
  const { config } = loadConfig(PIN_FILE);
  assert.throws(() => Object.assign(config.token, { library: '/tmp/evil.so' }), TypeError);
  assert.throws(() => Object.assign(config, { dataDir: '/tmp' }), TypeError);
});

test('every problem comes back at once, with its variable and what to do', () => {
  const problems = problemsOf({
    MORTISE_DATA_DIR: 'relative',
    MORTISE_SOCKET_MODE: '999',
    MORTISE_MAX_STREAMS: '0',
    MORTISE_LOG_LEVEL: 'loud',
    MORTISE_REFLECTION: 'perhaps',
    MORTISE_METRICS_ADDRESS: '127.0.0.1:99999',
    MORTISE_DEFAULT_DEADLINE_MS: '120001',
    PKCS11_DISABLED_MECHANISMS: 'AES',
  });
  assert.deepEqual(problems.map(({ variable }) => variable).sort(), [
    'MORTISE_DATA_DIR',
    'MORTISE_DEFAULT_DEADLINE_MS',
    'MORTISE_LOG_LEVEL',
    'MORTISE_MAX_STREAMS',
    'MORTISE_METRICS_ADDRESS',
    'MORTISE_REFLECTION',
    'MORTISE_SOCKET_MODE',
    'PKCS11_DISABLED_MECHANISMS',
    'PKCS11_PIN_FILE',
  ]);
  for (const { remedy } of problems) assert.ok(remedy.length > 10);
});

test('no complaint repeats the value, which may be a secret in the wrong place', () => {
  for (const { name } of variables()) {
    for (const problem of problemsOf({ ...PIN_FILE, [name]: 'hunter2\0/' })) {
      assert.ok(!JSON.stringify(problem).includes('hunter2'), `${name}: ${problem.problem}`);
    }
  }
});

test('a secret by its plain name in the environment is refused, however right the rest is', () => {
  const problems = problemsOf({ ...PIN_FILE, PKCS11_PIN: '1234' });
  assert.equal(problems.length, 1);
  assert.equal(problems[0]?.variable, 'PKCS11_PIN');
  assert.match(problems[0]?.remedy ?? '', /PKCS11_PIN_FILE/);
  assert.ok(!JSON.stringify(problems).includes('1234'));
});

test('where no PIN file is named the systemd credential is', () => {
  const { config } = loadConfig({ CREDENTIALS_DIRECTORY: '/run/credentials/mortise.service' });
  assert.deepEqual(config.token.pin, { kind: 'file', path: '/run/credentials/mortise.service/pkcs11-pin' });
  const both = loadConfig({ CREDENTIALS_DIRECTORY: '/run/credentials/mortise.service', ...PIN_FILE });
  assert.deepEqual(both.config.token.pin, { kind: 'file', path: '/etc/mortise/pin' });
});

test('an unknown variable with our prefix is a warning, others are not looked at', () => {
  const { warnings } = loadConfig({ ...PIN_FILE, MORTISE_SOKET_PATH: '/x', PKCS11_PINFILE: '/y', PATH: '/bin' });
  assert.equal(warnings.length, 2);
  assert.match(warnings.join(' '), /MORTISE_SOKET_PATH.*PKCS11_PINFILE/);
});

test('an empty variable counts as not set', () => {
  const { config } = loadConfig({ ...PIN_FILE, MORTISE_SOCKET_GROUP: '', PKCS11_SESSION_POOL_SIZE: '' });
  assert.equal(config.socket.group, undefined);
  assert.equal(config.token.sessions, 10);
});

test('the metrics address is a host and port or a path, and a warning where it is not local', () => {
  const of = (address: string) => loadConfig({ ...PIN_FILE, MORTISE_METRICS_ADDRESS: address });
  assert.deepEqual(of('127.0.0.1:9464').config.metrics, { host: '127.0.0.1', port: 9464 });
  assert.deepEqual(of('[::1]:9464').config.metrics, { host: '::1', port: 9464 });
  assert.equal(of('/run/mortise/metrics.sock').config.metrics, '/run/mortise/metrics.sock');
  assert.equal(of('127.0.0.1:9464').warnings.length, 0);
  assert.match(of('0.0.0.0:9464').warnings[0] ?? '', /loopback/);
});

test('disabled mechanisms are a list', () => {
  const { config } = loadConfig({ ...PIN_FILE, PKCS11_DISABLED_MECHANISMS: 'CKM_AES_GCM, CKM_EDDSA' });
  assert.deepEqual(config.token.disabledMechanisms, ['CKM_AES_GCM', 'CKM_EDDSA']);
});

test('the effective configuration names each variable once and where its value is from', () => {
  const effective = effectiveConfig({ ...PIN_FILE, MORTISE_POLICY_DIR: '/srv/policy' });
  assert.deepEqual(
    effective.map(({ name }) => name),
    variables().map(({ name }) => name),
  );
  const by = Object.fromEntries(effective.map((row) => [row.name, row]));
  assert.equal(by['MORTISE_TRUST_ANCHOR']?.value, '/srv/policy/trust-anchor.json');
  assert.equal(by['MORTISE_POLICY_DIR']?.from, 'environment');
  assert.equal(by['MORTISE_DATA_DIR']?.from, 'default');
  assert.match(effectiveText(PIN_FILE), /^MORTISE_DATA_DIR=\/var\/lib\/mortise {2}# default$/m);
  assert.match(effectiveText(PIN_FILE), /^# MORTISE_METRICS_ADDRESS is not set$/m);
});

test('a printed default is accepted by its own variable', () => {
  const texts = Object.fromEntries(
    variables().flatMap(({ name, default: text }) => (text === undefined ? [] : [[name, text] as const])),
  );
  assert.ok(Object.keys(texts).length > 20);
  assert.deepEqual(readEnvironment(texts).problems, []);
});
