// The TLS end: version, group, certificates, limits.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { type ConnectionOptions, connect } from 'node:tls';
import { AdminServiceService } from '../../proto/gen/mortise/registry/v1/admin.ts';
import { PoliciesServiceService } from '../../proto/gen/mortise/registry/v1/policies.ts';
import { temporaryFolder } from '../support/folder.ts';
import { connectTo, refusedWith, unary } from '../support/registry-client.ts';
import { hostRequest, startTestRegistry, type TestRegistry } from '../support/registry-server.ts';

const question = { tenant: 'acme', pageSize: 0, pageToken: '' };

/** How a handshake goes: the protocol, or the error. */
const handshake = async (registry: TestRegistry, options: ConnectionOptions): Promise<string> => {
  const common = { host: 'localhost', port: registry.port, ca: [...registry.roots], ALPNProtocols: ['h2'] };
  const socket = connect({ ...common, ...options });
  const outcome = new Promise<string>((resolve) => {
    socket.once('secureConnect', () => resolve(String(socket.getProtocol())));
    socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? 'error'));
    socket.once('close', () => resolve('closed'));
    socket.setTimeout(30_000, () => resolve('no outcome in 30 s'));
  });
  try {
    return await outcome;
  } finally {
    socket.on('error', () => undefined).destroy();
  }
};

test('the hybrid group is taken where a client offers it, and a classical one otherwise', async (t) => {
  const registry = await startTestRegistry(t);
  assert.equal(await handshake(registry, {}), 'TLSv1.3');
  const client = registry.connect(registry.admin, 'X25519MLKEM768');
  await unary(client, AdminServiceService.getRegistryStatus, {});
  await unary(registry.connect(registry.admin, 'X25519'), AdminServiceService.getRegistryStatus, {});
});

test('where the hybrid group is required, a client with classical groups alone is refused', async (t) => {
  const registry = await startTestRegistry(t, { environment: { REGISTRY_REQUIRE_HYBRID_TLS: 'yes' } });
  const status = await unary(registry.connect(registry.admin), AdminServiceService.getRegistryStatus, {});
  assert.equal(status.requiresHybridTls, true);
  for (const groups of ['X25519', 'P-256', 'X25519:P-256:P-384']) {
    assert.match(await handshake(registry, { ecdhCurve: groups }), /HANDSHAKE_FAILURE|ECONNRESET/, groups);
    await assert.rejects(unary(registry.connect(registry.admin, groups), AdminServiceService.getRegistryStatus, {}));
  }
  assert.match(await registry.metrics(), /registry_connections_cut_total\{reason="HANDSHAKE"\} [1-9]/);
});

test('TLS 1.2 is refused', async (t) => {
  const registry = await startTestRegistry(t);
  assert.match(await handshake(registry, { maxVersion: 'TLSv1.2' }), /PROTOCOL_VERSION|ECONNRESET/);
});

test('the server shows its chain with the root last, for a first contact that knows only its hash', async (t) => {
  const registry = await startTestRegistry(t);
  const socket = connect({ host: 'localhost', port: registry.port, rejectUnauthorized: false, ALPNProtocols: ['h2'] });
  await once(socket, 'secureConnect');
  const { issuerCertificate } = socket.getPeerCertificate(true);
  const root = `-----BEGIN CERTIFICATE-----\n${issuerCertificate.raw.toString('base64').replace(/(.{64})/g, '$1\n')}`;
  assert.equal(root.trim(), (registry.roots[0] as string).split('\n-----END')[0]?.trim());
  socket.destroy();
});

/** A CA of openssl's, and certificates with SPIFFE ids by it. */
const foreignCa = (dir: string) => {
  const at = (name: string): string => join(dir, name);
  const openssl = (...args: string[]): void => void execFileSync('openssl', args, { cwd: dir, stdio: 'pipe' });
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
  openssl('req', '-x509', ...key, '-subj', '/CN=brought', '-days', '2', '-keyout', 'ca.key', '-out', 'ca.pem');
  return {
    root: at('ca.pem'),
    issue: (uri: string) => {
      openssl('req', '-new', ...key, '-subj', '/CN=x', '-keyout', 'own.key', '-out', 'own.csr');
      writeFileSync(at('own.ext'), `subjectAltName=${uri}\nextendedKeyUsage=clientAuth\n`);
      const by = ['-CA', 'ca.pem', '-CAkey', 'ca.key', '-days', '2', '-extfile', 'own.ext'];
      openssl('x509', '-req', '-in', 'own.csr', ...by, '-out', 'own.pem');
      return { key: readFileSync(at('own.key'), 'utf8'), chain: readFileSync(at('own.pem'), 'utf8') };
    },
  };
};

test('a host may bring a certificate of a CA that is configured, and an administrator may not', async (t) => {
  const ca = foreignCa(temporaryFolder(t));
  const registry = await startTestRegistry(t, { environment: { REGISTRY_CLIENT_ROOTS_FILE: ca.root } });
  await unary(registry.adminClient, AdminServiceService.createTenant, { tenant: 'acme', displayName: '' });
  const create = hostRequest('own-1', ['acme'], { bringsCertificate: true });
  const { token, host } = await unary(registry.adminClient, AdminServiceService.createHost, create);
  assert.deepEqual([token, host?.state], [undefined, 'HOST_STATE_ACTIVE']);
  await registry.host('web-1', ['acme']);
  const ask = (uri: string) => {
    const client = connectTo(registry.port, { roots: registry.roots, ...ca.issue(uri) });
    t.after(() => client.close());
    return unary(client, PoliciesServiceService.getPolicyHistory, question);
  };
  await ask('URI:spiffe://registry.test/mortise/host/own-1');
  const nobodies = [
    'URI:spiffe://registry.test/mortise/host/web-1', // enrolled: comes with the registry's certificates alone
    'URI:spiffe://registry.test/mortise/host/own-2',
    'URI:spiffe://registry.test/mortise/admin/root',
    'URI:spiffe://other.test/mortise/host/own-1',
    'URI:spiffe://registry.test/mortise/host/own-1,URI:spiffe://registry.test/mortise/host/web-1',
    'URI:spiffe://registry.test/mortise/host/own-1/x',
    'DNS:own-1',
  ];
  for (const uri of nobodies) await assert.rejects(ask(uri), refusedWith('UNAUTHENTICATED'), uri);
});

test('no client has more connections than its share', async (t) => {
  const registry = await startTestRegistry(t, { environment: { REGISTRY_MAX_CONNECTIONS_PER_CLIENT: '2' } });
  const host = await registry.host('web-1', ['acme']);
  const ask = () => unary(registry.connect(host), PoliciesServiceService.getPolicyHistory, question);
  await ask();
  await ask();
  await assert.rejects(ask());
  await unary(registry.adminClient, AdminServiceService.getRegistryStatus, {});
  assert.match(await registry.metrics(), /registry_connections_cut_total\{reason="TOO_MANY_OF_CLIENT"\} [1-9]/);
});

test('a request that is no message, or holds text that is not UTF-8, is INVALID_REQUEST', async (t) => {
  const registry = await startTestRegistry(t);
  const { path, responseDeserialize } = AdminServiceService.createTenant;
  for (const bytes of ['ff', '0a05', '0a02c328', '0b']) {
    const method = { path, responseDeserialize, requestSerialize: (hex: string) => Buffer.from(hex, 'hex') };
    await assert.rejects(unary(registry.adminClient, method, bytes), refusedWith('INVALID_REQUEST'), bytes);
  }
});
