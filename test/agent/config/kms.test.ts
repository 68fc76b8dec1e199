// The plugin for the Kubernetes API server is configured whole or not at all.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ConfigError, loadConfig } from '../../../agent/config/config.ts';

const WHOLE = {
  PKCS11_PIN_FILE: '/etc/mortise/pin',
  MORTISE_KMS_SOCKET_PATH: '/run/mortise-kms/kms.sock',
  MORTISE_KMS_TENANT: 'kubernetes',
  MORTISE_KMS_KEY: 'etcd',
  MORTISE_KMS_PEERS: 'uid:0,gid:998,uid:65534',
};

const complaints = (env: Record<string, string>): string[] => {
  try {
    loadConfig(env);
    return [];
  } catch (error) {
    assert.ok(error instanceof ConfigError);
    return error.problems.map(({ variable }) => variable);
  }
};

test('without its variables the plugin is off', () => {
  assert.equal(loadConfig({ PKCS11_PIN_FILE: '/etc/mortise/pin' }).config.kms, undefined);
});

test('with them it has a socket of mode 0660, a key and the peers that may call', () => {
  assert.deepEqual(loadConfig({ ...WHOLE, MORTISE_KMS_SOCKET_GROUP: 'kube' }).config.kms, {
    socket: { path: '/run/mortise-kms/kms.sock', mode: 0o660, group: 'kube' },
    tenant: 'kubernetes',
    key: 'etcd',
    peers: { uids: [0, 65534], gids: [998] },
  });
});

test('what is missing is named, each by its variable', () => {
  const { MORTISE_KMS_KEY: _, MORTISE_KMS_PEERS: __, ...part } = WHOLE;
  assert.deepEqual(complaints(part), ['MORTISE_KMS_KEY', 'MORTISE_KMS_PEERS']);
  const group = { PKCS11_PIN_FILE: '/etc/mortise/pin', MORTISE_KMS_SOCKET_GROUP: 'kube' };
  assert.equal(complaints(group).length, 4);
});

test('a socket that is also the agent’s own, and peers that are not ids, are refused', () => {
  assert.deepEqual(complaints({ ...WHOLE, MORTISE_KMS_SOCKET_PATH: '/run/mortise/agent.sock' }), [
    'MORTISE_KMS_SOCKET_PATH',
  ]);
  for (const peers of ['root', 'uid:', 'uid:0,', 'uid:-1', 'pid:1', 'uid:99999999999']) {
    assert.deepEqual(complaints({ ...WHOLE, MORTISE_KMS_PEERS: peers }), ['MORTISE_KMS_PEERS'], peers);
  }
});
